"""Images a second on one core: images from formulas, drawn, and as augmented training tensors, beside JPEGs.

    python benchmarks/formula.py [--quick]

"drawn": `FormulaSource.read` alone, 20 classes (their parameters found beforehand: "a class" says how long that takes).
"training": through `TrainStream`, with a random window and a flip at 32 x 32, with a random resized crop and a flip at
224 x 224. JPEG: the same crop and flip from a file of 500 x 375 (see `loader.py`). Interleaved, one thread, glibc's
malloc set up as training sets it up; medians of the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from loader import jpegs, ours

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.base import Source
from vitreous.data.stream.loader import TrainStream
from vitreous.data.synthetic.contours import draw_contour
from vitreous.data.synthetic.fractals import find_system
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.runtime.device import tune_cpu

KINDS = ("fractals", "contours", "atoms")
AUGMENT = {32: AugmentConfig(crop="pad", crop_pad=4), 224: AugmentConfig(crop="inception")}


def source_of(kind: str, size: int) -> Source:
    return open_dataset(DataConfig(f"formula:{kind}?classes=20&images=1000&size={size}")).train


def training(source: Source, size: int) -> Callable[[int], object]:
    stream = TrainStream(source, 0, AUGMENT[size], PreprocessConfig(size=(size, size)), DecodeConfig())
    return lambda number: stream.example(number)


def drawing(source: Source) -> Callable[[int], object]:
    return lambda number: source.read(number * 7919 % len(source))


def decoding(files: list[bytes]) -> Callable[[int], object]:
    return lambda number: ours(files[number % len(files)], number)


def seconds(load: Callable[[int], object], first: int, count: int) -> float:
    started = time.perf_counter()
    for number in range(first, first + count):
        load(number)
    return time.perf_counter() - started


def rates(loads: dict[str, Callable[[int], object]], rounds: int, count: int = 64) -> dict[str, float]:
    """Return images a second of each, interleaved; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in loads}
    for turn in range(rounds + 1):
        for name, load in loads.items():
            times[name].append(seconds(load, turn * count, count))
    return {name: count / statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 15
    torch.set_num_threads(1)
    tune_cpu()
    for kind, find in (("fractals", find_system), ("contours", draw_contour)):
        taken = seconds(lambda label, find=find: find(1, label), 0, 200)
        print(f"{kind}: {taken / 200 * 1000:.2f} ms to find a class, once in each process")
    for size in AUGMENT:
        loads: dict[str, Callable[[int], object]] = {}
        for kind in KINDS:
            source = source_of(kind, size)
            loads[f"{kind}, drawn"] = drawing(source)
            loads[f"{kind}, training"] = training(source, size)
        if size == 224:
            loads["JPEG of 500x375, training"] = decoding(jpegs(500, 375, 16))
        print(f"{size}x{size}, images a second on one core")
        for name, rate in rates(loads, rounds).items():
            print(f"  {name:28}{rate:8,.0f}")


if __name__ == "__main__":
    main()
