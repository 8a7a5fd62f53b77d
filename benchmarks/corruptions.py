"""Milliseconds an image on one core: each corruption of `images/corruptions/` at severity 3, at 32 and 224 pixels.

    python benchmarks/corruptions.py [--quick]

The corruptions take turns, so that what slows the machine down slows all; medians of the rounds.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from loader import jpegs

from vitreous.images.config import DecodeConfig
from vitreous.images.corruptions.catalog import CORRUPTIONS, corrupt
from vitreous.images.decode import decode
from vitreous.shapes import UInt8

SIZES = (32, 224)
SEVERITY = 3


def timed(pixels: UInt8[np.ndarray, "row col channel"], rounds: int) -> dict[str, float]:
    """Return the median seconds of each corruption; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in CORRUPTIONS}
    for turn in range(rounds + 1):
        for name, found in times.items():
            started = time.perf_counter()
            corrupt(pixels, name, SEVERITY, turn)
            found.append(time.perf_counter() - started)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 30
    torch.set_num_threads(1)
    found = [timed(decode(jpegs(size, size, 1)[0], DecodeConfig()), rounds) for size in SIZES]
    print(f"{'ms an image':20}" + "".join(f"{f'{size} px':>10}" for size in SIZES))
    for name in CORRUPTIONS:
        print(f"{name:20}" + "".join(f"{1000 * each[name]:10.2f}" for each in found))
    print(f"{'all fifteen':20}" + "".join(f"{1000 * sum(each.values()):10.2f}" for each in found))


if __name__ == "__main__":
    main()
