"""A distilled ViT beside the same ViT without a teacher, at equal time, on CIFAR-10.

    python benchmarks/distillation.py --data FOLDER --search [--minutes 1.5]     choose how to distil, on training images alone
    python benchmarks/distillation.py --data FOLDER [--minutes 1.5] [--seeds 3] [--kept FOLDER] [--json FILE] [--quick]

FOLDER as in `cifar10.py`, whose functions these are: one core, one thread, timed by what the process had of it, so other
work may take turns. Every part trains for the same time, which includes the teacher's forward passes; the teacher's own
training is besides, said, and the same for all parts and seeds.

The teacher is recipe `small` (a ResNet) on nine tenths of the training images for `--teacher-minutes`. The student is
recipe `deit`, a small ViT with [class] and a distillation token. `alone` has no teacher: both heads learn from the labels. `--search` trains
each way of distilling on those nine tenths and measures on the last tenth, which neither teacher nor student has seen; the test images
are looked at once, by the parts that are compared. Differences between parts are of the same seeds and images.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cifar10 import Files, Lines, RaceResult, files_of, find_or_run, interval, recipe, run_vitreous, summary, unpacked

from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import read_run
from vitreous.training.config import RunConfig
from vitreous.training.run import train

WAYS = {
    "alone": None,
    "hard": ClassifyConfig(),
    "soft": ClassifyConfig(distillation="soft", distillation_temperature=3.0, distillation_weight=0.5),
    "matching": ClassifyConfig(distillation="soft", distillation_temperature=1.0, distillation_weight=1.0),
}
"""How the student learns: alone; as DeiT; softly; or from the teacher alone."""
CHOSEN = ("alone", "hard")
"""What is compared by default: alone, and as DeiT; `--ways` names what `--search` found best."""
HELD_OUT = 0.1
"""Share of the training images that the teacher and the search leave out."""


def configure_student(way: str, teacher: Path, data: Path, minutes: float, seed: int, *, test: bool) -> RunConfig:
    """Return the student's configuration: the same for all ways but for the teacher and the loss."""
    config, learned = recipe(data, minutes, seed, "deit", teacher, 0.0 if test else HELD_OUT), WAYS[way]
    return replace(config, teacher=None) if learned is None else replace(config, objective=learned)


def train_teacher(data: Path, minutes: float, out: Path) -> Path:
    """Train the teacher, unless it is there; say what it reaches on the images that it has not seen."""
    if not (out / "model").is_dir():
        train(recipe(data, minutes, 0, held_out=HELD_OUT), out, Lines())
    found = [record for record in read_run(out).metrics if record["kind"] == "evaluation"][-1]
    print(f"teacher: recipe small, {minutes:g} min: {found['top1']:.2%} of held-out training images", flush=True)
    return out


def search(data: Path, teacher: Path, ways: list[str], minutes: float) -> None:
    """Print what each way reaches on held-out training images."""
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            config = configure_student(way, teacher, data, minutes, 0, test=False)
            run = read_run(train(config, Path(folder) / "run", Lines()).run)
        last = [record for record in run.metrics if record["kind"] == "train"][-1]
        found = [record for record in run.metrics if record["kind"] == "evaluation"][-1]
        rate = f"{last['samples']:,} images in {last['seconds']:.0f} s"
        print(f"search, {way}: {found['top1']:.2%} of held-out training images; {rate}", flush=True)


def compare(
    data: Path, teacher: Path, ways: list[str], seeds: int, minutes: float, test: Files, kept: Path
) -> list[RaceResult]:
    """Return the results of all ways and seeds, those that are kept already among them."""

    def run_way(way: str, seed: int) -> RaceResult:
        config = configure_student(way, teacher, data, minutes, seed, test=True)
        return replace(run_vitreous(config, test), name=way)

    results = []
    for seed in range(seeds):
        for way in ways:
            results.append(find_or_run(kept / f"{way}-{seed}-{minutes:g}.json", partial(run_way, way, seed)))
    return results


def difference(results: list[RaceResult], one: str, other: str) -> tuple[float, float, float]:
    """Return the mean of other - one over the seeds and images that both have, and its 95% interval, both drawn anew."""
    of = {(result.name, result.seed): result.correct.astype(float) for result in results}
    seeds = sorted({seed for _, seed in of if (one, seed) in of and (other, seed) in of})
    gains = np.stack([of[other, seed] - of[one, seed] for seed in seeds])
    return float(gains.mean()), *interval(gains)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.5, help="of training, for each part and seed")
    parser.add_argument("--teacher-minutes", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS))
    parser.add_argument("--search", action="store_true", help="try the ways on held-out training images")
    parser.add_argument("--kept", type=Path, help="folder of the teacher and of what is finished (temporary)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="10 seconds a part, one seed: does it run at all?")
    options = parser.parse_args()
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    time.perf_counter = time.process_time
    torch.set_num_threads(1)
    minutes, seeds = (1 / 6, 1) if options.quick else (options.minutes, options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        data, kept = unpacked(options.data, Path(folder)), options.kept or Path(folder) / "kept"
        print(
            f"{minutes:g} min for each part by its process's time on one core, torch {torch.__version__}, {time.ctime()}"
        )
        teacher = train_teacher(data, minutes if options.quick else options.teacher_minutes, kept / "teacher")
        if options.search:
            search(data, teacher, options.ways or list(WAYS), minutes)
            return
        ways = options.ways or list(CHOSEN)
        results = compare(data, teacher, ways, seeds, minutes, files_of(data / "test"), kept)
    rows = summary(results)
    for way in ways[1:]:
        mean, low, high = difference(results, ways[0], way)
        print(
            f"{way} - {ways[0]}: {100 * mean:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), seed by seed, image by image"
        )
        rows.append({"name": f"{way} - {ways[0]}", "mean": mean, "interval": [low, high]})
    if options.json:
        options.json.write_text(
            json.dumps({"minutes": minutes, "torch": torch.__version__, "results": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
