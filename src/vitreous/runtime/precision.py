"""Measure whether bfloat16 is worth its rounding: some processors announce it but multiply it at half of float32's
speed (docs/notebook.md). Imports no torch."""

import time
from collections.abc import Callable

WORTH = 1.2
"""bfloat16 is worth its rounding if it is at least this many times as fast as float32."""
ROUNDS = 6
"""Number of products that are timed in each precision; the first ones are a warm-up."""


def compare_speeds(fp32: Callable[[], object], bf16: Callable[[], object]) -> float:
    """Return how many times as fast a product is in bfloat16 as in float32.

    The precisions take turns and the fastest product of each counts, so that other work hardly changes the ratio.
    """
    fastest = {fp32: float("inf"), bf16: float("inf")}
    for _ in range(ROUNDS):
        for multiply in fastest:
            start = time.perf_counter()
            multiply()
            fastest[multiply] = min(fastest[multiply], time.perf_counter() - start)
    return fastest[fp32] / fastest[bf16]
