"""Two processes of one thread each beside one process of two threads: the same run, images a second.

    python benchmarks/scaling.py [--steps 40] [--rounds 2]

Prints the throughput of each, by the run's own records (training steps alone, with reading and augmentation), and the ratio; the
runs alternate, and the best of each counts. On a GPU, start it with --device cuda --processes N.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def measure(arguments: list[str], threads: int, folder: Path) -> float:
    """Return a run's images a second."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [sys.executable, "-m", "vitreous", "train", *arguments, "--out", str(folder)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [one for one in records if one["kind"] == "train"]
    half, last = trained[len(trained) // 2], trained[-1]
    return (last["samples"] - half["samples"]) / (last["seconds"] - half["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="S/16")
    options = parser.parse_args()
    run = [
        "formula:fractals?classes=10&images=64",
        "--recipe",
        "small",
        "--model",
        options.model,
        "--image",
        "96",
        "96",
    ]
    run += [
        "--steps",
        str(options.steps),
        "--batch",
        "32",
        "--workers",
        "0",
        "--evaluate-every",
        "100%",
        "--checkpoint-every",
        "100%",
    ]
    run += ["--device", options.device, "--precision", "fp32"]
    best = {"alone": 0.0, "together": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, arguments, threads in (
                ("alone", [], options.processes),
                ("together", ["--processes", str(options.processes)], 1),
            ):
                found = measure([*run, *arguments], threads, Path(folder) / f"{name}-{number}")
                best[name] = max(best[name], found)
    print(f"one process of {options.processes} threads: {best['alone']:.1f} images/s")
    print(
        f"{options.processes} processes of one thread: {best['together']:.1f} images/s, {best['together'] / best['alone']:.2f} times"
    )


if __name__ == "__main__":
    main()
