"""Whether bfloat16 is worth its rounding, by measurement: there are processors that announce it and multiply it at half of
float32's speed (docs/notebook.md). Imports no torch."""

import time
from collections.abc import Callable

WORTH = 1.2
"""From this many times the speed of float32 on, bfloat16 is worth its rounding."""
ROUNDS = 6
"""Products of each precision that are timed; the first of each warm up."""


def compare_speeds(fp32: Callable[[], object], bf16: Callable[[], object]) -> float:
    """Return how many times as fast as in float32 a product is in bfloat16.

    The precisions take turns and the fastest product of each counts, so that other work changes the ratio little.
    """
    fastest = {fp32: float("inf"), bf16: float("inf")}
    for _ in range(ROUNDS):
        for multiply in fastest:
            start = time.perf_counter()
            multiply()
            fastest[multiply] = min(fastest[multiply], time.perf_counter() - start)
    return fastest[fp32] / fastest[bf16]
