"""Two models on the same images: do they differ by more than chance?"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vitreous.shapes import Bool

FEW = 25
"""Discordant pairs below which McNemar's test is exact."""


@dataclass(frozen=True)
class McNemar:
    """McNemar's test (1947) of whether two models are right equally often; only images that exactly one classifies
    correctly count."""

    both: int
    """Images that both classify correctly."""
    only_first: int
    only_second: int
    neither: int
    p: float
    """Two-sided: the chance of a split at least as uneven if both were right equally often."""
    method: Literal["exact", "chi-squared"]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def mcnemar(first: Bool[np.ndarray, " example"], second: Bool[np.ndarray, " example"]) -> McNemar:
    """Compare two models by which images each classifies correctly.

    With fewer than FEW discordant images the binomial distribution is summed. Otherwise (|b - c| - 1)^2 / (b + c), with
    the continuity correction of Edwards (1948), is compared with chi-squared with one degree of freedom. Without a
    discordant image p is 1.
    """
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    if one + other < FEW:
        return McNemar(both, one, other, neither, compute_exact_p(one, other), "exact")
    statistic = max(0, abs(one - other) - 1) ** 2 / (one + other)
    return McNemar(both, one, other, neither, math.erfc(math.sqrt(statistic / 2)), "chi-squared")


def compute_exact_p(one: int, other: int) -> float:
    """Return the two-sided p of a fair coin that landed `one` times on one side and `other` times on the other."""
    count = one + other
    tail = sum(math.comb(count, fewer) for fewer in range(min(one, other) + 1))
    return min(1.0, 2 * tail / 2**count)
