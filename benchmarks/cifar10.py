"""CIFAR-10 from scratch in minutes on a CPU: the product's default beside loops that anyone could write.

    python benchmarks/cifar10.py --data FOLDER --search                      choose each peer's rate, on training images alone
    python benchmarks/cifar10.py --data FOLDER [--minutes 15] [--seeds 3] [--threads N] [--parts ...] [--json FILE] [--quick]
    python benchmarks/cifar10.py --data FOLDER --processor-time [--kept FOLDER] ...      beside other work, part by part

FOLDER holds train/ and test/ with one folder of JPEGs a class, or train.tar and test.tar with the same inside. All parts
train for the same time, one after the other, seed by seed, on the same threads, and see the 10,000 test images once, at
the end, outside that time. Neither starting a process, scanning the files nor measuring a step counts; decoding does.
By the wall clock that asks for a quiet machine for hours. With `--processor-time` all run on one core and one thread and
are timed by what the process had of it, so other work may take turns with them; `--kept` keeps what is finished, and the
same command goes on from there, in two processes as well with other `--parts`.

`vitreous` is the product as it comes: configure("small", minutes=...), train(config, out). Nothing is set here but the
seed, where the validation images are and that they are looked at only after the last step. Its settings were chosen on
images held out from the 50,000 for training (docs/notebook.md), and so are the rates of the others: `--search` trains
each of a peer's rates for `--minutes` on nine tenths of the training images and measures on the last tenth; the test
images are never opened there. What each peer is stands in `cifar10_peers.py`.

The interval of the mean over seeds holds seeds and images: a two-way bootstrap.
"""

import argparse
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cifar10_peers import PEERS, Peer, answers, train_peer

from vitreous.api.models import load
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.images.config import DecodeConfig
from vitreous.model.config import ViTConfig
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.run_folder import read_run
from vitreous.storage.atomic import write_atomically
from vitreous.training.config import RunConfig
from vitreous.training.run import train

Files = list[tuple[Path, int]]
SHAPE = ViTConfig(
    image=(32, 32), patch=(4, 4), width=128, depth=6, heads=4, mlp_width=512, classes=10, pool="mean", class_token=False
)
"""Of timm's model: what recipe `small` gives for a ViT on these images."""


@dataclass(frozen=True)
class RaceResult:
    """What one part came to with one seed."""

    name: str
    seed: int
    correct: np.ndarray
    """Which of the images that were measured on, in order."""
    images: int
    """Training images seen."""
    seconds: float
    """Spent in training."""
    parameters: int

    def __str__(self) -> str:
        rate = f"{self.images:,} images in {self.seconds:.0f} s ({self.images / self.seconds:.0f}/s)"
        return f"{self.name}, seed {self.seed}: {self.correct.mean():.2%}; {rate}, {self.parameters:,} parameters"

    def keep(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        record = asdict(self) | {"correct": self.correct.astype(int).tolist()}
        write_atomically(file, json.dumps(record).encode())

    @classmethod
    def kept(cls, file: Path) -> "RaceResult":
        record = json.loads(file.read_text())
        return cls(**record | {"correct": np.array(record["correct"], dtype=bool)})


def interval(correct: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """Return the 95% interval of the mean of (seed, image) by drawing both anew."""
    generator = np.random.default_rng(0)
    seeds, images = correct.shape
    means = [
        correct[generator.integers(seeds, size=seeds)].mean(0)[generator.integers(images, size=images)].mean()
        for _ in range(draws)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def find_or_run(file: Path, run: Callable[[], RaceResult]) -> RaceResult:
    """Return the result that a file keeps; without it run, keep and print."""
    if file.exists():
        return RaceResult.kept(file)
    result = run()
    result.keep(file)
    print(result, flush=True)
    return result


class Lines:
    """A Reporter that prints a line now and then."""

    def __init__(self) -> None:
        self.told = 0.0

    def message(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def phase(self, name: str) -> None:
        self.message(name)

    def progress(self, done: int, total: int, numbers: dict[str, float]) -> None:
        if "loss" in numbers and done / total >= self.told:
            self.message(f"{done / total:4.0%} of the steps, loss {numbers['loss']:.3f}")
            self.told = done / total + 0.1

    def evaluation(self, step: int, numbers: dict[str, float], best: bool) -> None:
        self.message(f"step {step}: top-1 {numbers['top1']:.2%}")

    def close(self) -> None:
        pass


def recipe(
    data: Path, minutes: float, seed: int, name: str = "small", teacher: Path | None = None, held_out: float = 0.0
) -> RunConfig:
    """Return what a recipe makes of this data, looking at the test images only at the end, or at a share of the training
    images, held out, instead."""
    images = str(data / "train")
    where = DataConfig(images, holdout=held_out) if held_out else DataConfig(images, validation=str(data / "test"))
    facts = open_dataset(where, DecodeConfig()).facts
    config = configure(name, RecipeOptions(facts, where, minutes=minutes, teacher=teacher and str(teacher)))
    return replace(config, evaluate_every="100%", export="last", seed=seed)


def run_vitreous(config: RunConfig, test: Files) -> RaceResult:
    print(f"vitreous: {config.model}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = read_run(train(config, Path(folder) / "run", Lines()).run)
        last = [record for record in run.metrics if record["kind"] == "train"][-1]
        names = sorted({path.parent.name for path, _ in test})
        found = load(run.path)([path for path, _ in test])
        correct = np.array([p.label == names[label] for p, (_, label) in zip(found, test, strict=True)])
        return RaceResult("vitreous", config.seed, correct, last["samples"], last["seconds"], run.config["parameters"])


def run_peer(name: str, peer: Peer, train_files: Files, test: Files, seconds: float) -> RaceResult:
    print(f"{name}: {peer}", flush=True)
    model, images, spent = train_peer(peer, SHAPE, train_files, seconds)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return RaceResult(name, peer.seed, answers(model, test), images, spent, parameters)


def files_of(folder: Path) -> Files:
    """List one folder of images a class; classes in the order of their names."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(path, label) for label, name in enumerate(classes) for path in sorted(name.iterdir())]


def search(data: Path, parts: list[str], seconds: float) -> None:
    """Print what each rate of each peer reaches on held-out training images."""
    files = files_of(data / "train")
    order = np.random.default_rng(0).permutation(len(files))
    held_out, rest = ([files[n] for n in part] for part in np.split(order, [len(order) // 10]))
    for name in (part for part in parts if part != "vitreous"):
        found = {}
        for lr in PEERS[name].rates:
            result = run_peer(name, replace(PEERS[name], lr=lr), rest, held_out, seconds)
            found[lr] = result.correct.mean()
            print(f"{name}, rate {lr:g}: {found[lr]:.2%} of {len(held_out):,} held-out training images", flush=True)
        print(f"{name}: best rate {max(found, key=found.__getitem__):g}, set to {PEERS[name].lr:g}", flush=True)


def race(data: Path, parts: list[str], seeds: int, seconds: float, kept: Path) -> list[RaceResult]:
    files, test = files_of(data / "train"), files_of(data / "test")

    def run_part(part: str, seed: int) -> RaceResult:
        if part == "vitreous":
            return run_vitreous(recipe(data, seconds / 60, seed), test)
        return run_peer(part, replace(PEERS[part], seed=seed), files, test, seconds)

    results = []
    for seed in range(seeds):
        for part in parts:
            results.append(find_or_run(kept / f"{part}-{seed}-{seconds:g}.json", partial(run_part, part, seed)))
    return results


def summary(results: list[RaceResult]) -> list[dict]:
    """Return, for each part, the mean over seeds and its interval."""
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        of_it = [result for result in results if result.name == name]
        correct = np.stack([result.correct for result in of_it])
        low, high = interval(correct)
        each = [round(float(value), 4) for value in correct.mean(1)]
        images = sum(result.images for result in of_it) / sum(result.seconds for result in of_it)
        print(
            f"{name}: {correct.mean():.2%} ({low:.2%} to {high:.2%}) over {len(each)} seeds {each}, {images:.0f} images/s"
        )
        rows.append({"name": name, "mean": float(correct.mean()), "interval": [low, high], "seeds": each})
    return rows


def unpacked(data: Path, into: Path) -> Path:
    """Return the folder with train/ and test/, unpacked from tars if need be."""
    if (data / "train").is_dir():
        return data
    for part in ("train", "test"):
        with tarfile.open(data / f"{part}.tar") as tar:
            tar.extractall(into, filter="data")
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*PEERS, "vitreous"]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, for each part and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--search", action="store_true", help="choose the peers' rates on held-out training images")
    parser.add_argument("--processor-time", action="store_true", help="time by what the process had of its one core")
    parser.add_argument("--kept", type=Path, help="folder of what is finished (temporary)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="20 seconds a part, one seed: does it run at all?")
    options = parser.parse_args()
    if options.processor_time:
        options.threads = 1
        # on one core nobody starts a worker, whose time would be another process's
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
        time.perf_counter = time.process_time
    torch.set_num_threads(options.threads)
    seconds, seeds = (20.0, 1) if options.quick else (60 * options.minutes, options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        data = unpacked(options.data, Path(folder))
        print(
            f"{seconds:g} s for each part on {options.threads} threads, torch {torch.__version__}, {time.ctime()}"
            f"{', by the time of its process' * options.processor_time}"
        )
        if options.search:
            search(data, options.parts, seconds)
            return
        rows = summary(race(data, options.parts, seeds, seconds, options.kept or Path(folder) / "kept"))
    if options.json:
        peers = {name: asdict(peer) for name, peer in PEERS.items()}
        record = {"seconds": seconds, "threads": options.threads, "torch": torch.__version__, "peers": peers}
        options.json.write_text(json.dumps(record | {"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
