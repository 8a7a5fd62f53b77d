"""Temperature scaling: one number that makes a model as confident as it is accurate, fitted and reported on
different images."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitreous.errors import DataError
from vitreous.metrics.classification import (
    Bin,
    Judged,
    calibration,
    compute_calibration_error,
    iterate_scores,
    judge_scores,
)
from vitreous.shapes import Bool, Float, Float64, Integer

LEAST = 50
"""Fewest predictions of unseen images from which a temperature can be fitted."""
HELD = 2**26
"""Logits that are held in float64 while a temperature is fitted; more are read anew for each that is tried."""
COLDEST, HOTTEST = 0.01, 100.0
"""Range of temperatures that the fit searches; where every prediction is right, the best one would be 0."""


@dataclass(frozen=True)
class Scaled:
    """How temperature scaling changes a model's probabilities; its predictions stay the same."""

    temperatures: tuple[float, float]
    """One fitted on each half of the images; each is applied to the half that it wasn't fitted on."""
    ece: tuple[float, float]
    """Expected calibration error before and after, over all images."""
    nll: tuple[float, float]
    """Mean negative log-likelihood before and after, in nats."""
    reliability: tuple[Bin, ...]
    """The reliability diagram after scaling."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def fit_temperature(
    logits: Float[np.ndarray, "example label"],
    labels: Integer[np.ndarray, " example"],
    chosen: Bool[np.ndarray, " example"] | None = None,
) -> float:
    """Return the T that minimises the mean negative log-likelihood of softmax(logits / T) (Guo et al., 1706.04599).

    The loss is convex in 1 / T. Bisection between COLDEST and HOTTEST finds the zero of its derivative, mean(E[logit] -
    logit of the label); without a zero there, the nearer end is returned. Where T changes nothing (all logits are
    equal), it is 1. `chosen`: the examples to fit to; None: all.

    Raises:
        DataError: no examples, or logits that are not finite.
    """
    from scipy.optimize import brentq

    count = len(labels) if chosen is None else int(chosen.sum())
    kept = list(_iterate_shifted(logits, chosen)) if count * logits.shape[1] <= HELD else None

    def slope(log_temperature: float) -> float:
        found, done = np.empty(count), 0
        for place, scores in _iterate_shifted(logits, chosen) if kept is None else kept:
            weights = np.exp(scores * np.exp(-log_temperature))
            own = np.take_along_axis(scores, labels[place][:, None], 1)[:, 0]
            found[done : done + len(own)] = np.einsum("ij,ij->i", weights, scores) / weights.sum(1) - own
            done += len(own)
        return float(found.mean())

    low, high = np.log(COLDEST), np.log(HOTTEST)
    at_low, at_high = slope(low), slope(high)
    if at_low == at_high <= 0:
        return 1.0
    if at_low <= 0:  # more certainty would help even at the coldest
        return COLDEST
    if at_high >= 0:
        return HOTTEST
    return float(np.exp(brentq(slope, low, high, xtol=1e-9)))


def _iterate_shifted(
    logits: Float[np.ndarray, "example label"], chosen: Bool[np.ndarray, " example"] | None
) -> Iterator[tuple[Integer[np.ndarray, " example"], Float64[np.ndarray, "example label"]]]:
    """Yield the chosen examples in blocks: their numbers, and their logits less the highest, so that no exponential
    overflows."""
    for place, scores in iterate_scores(logits):
        numbers = np.arange(place.start, place.stop)
        if chosen is not None:
            numbers, scores = numbers[chosen[place]], scores[chosen[place]]
        yield numbers, scores - scores.max(1, keepdims=True)


def fit_held_out_temperature(
    logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"]
) -> float:
    """Return the temperature fitted to predictions of unseen images; 1 if there are fewer than `LEAST`.

    Raises:
        DataError: logits that are not finite.
    """
    return 1.0 if len(labels) < LEAST else fit_temperature(logits, labels)


def split_halves(
    labels: Integer[np.ndarray, " example"], seed: int = 0
) -> tuple[Bool[np.ndarray, " example"], Bool[np.ndarray, " example"]]:
    """Split examples at random into two halves of nearly equal size, each class evenly, and return their masks.

    Raises:
        DataError: fewer than two examples.
    """
    if len(labels) < 2:
        raise DataError(
            f"can't split {len(labels)} example into one part to fit on and one to report on; at least 2 are needed"
        )
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.zeros(len(labels), bool)
    first[ordered[::2]] = True
    return first, ~first


def cross_fit_temperature(
    logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"], seed: int = 0
) -> Scaled:
    """Fit a temperature on each half of the examples, apply it to the other half, and compare over all of them.

    Raises:
        DataError: fewer than two examples, or logits that are not finite.
    """
    parts = split_halves(labels, seed)
    first, second = (fit_temperature(logits, labels, part) for part in parts)
    # Each half is divided by the temperature of the other one.
    divisors = np.where(parts[0], second, first)[:, None]
    blocks = [
        (judge_scores(scores, labels[place]), judge_scores(scores / divisors[place], labels[place]))
        for place, scores in iterate_scores(logits)
    ]
    before, after = (_measure(Judged.join(found)) for found in zip(*blocks, strict=True))
    return Scaled((first, second), (before[0], after[0]), (before[1], after[1]), after[2])


def _measure(judged: Judged) -> tuple[float, float, tuple[Bin, ...]]:
    """Return ECE, negative log-likelihood and the bins of reliability."""
    bins = calibration(judged.confidence, judged.predicted == judged.labels)
    return compute_calibration_error(bins), float(judged.loss.mean()), bins
