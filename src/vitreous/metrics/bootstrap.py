"""Intervals by the bootstrap: images are drawn with replacement, and the metric is computed on each resample.

A statistic is a function from weights (resample, example), which count how often each image was drawn, to one value per
resample. `index_statistic` wraps metrics that can't be written this way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vitreous.errors import ConfigError
from vitreous.metrics.ranking import auroc, average_precision
from vitreous.shapes import Bool, Float, Float64, Int64, Integer

RESAMPLES = 1000
"""Resamples per interval (Efron and Tibshirani, 1993, chapter 13: percentile intervals need about 1,000)."""
CELLS = 4_000_000
"""Most weights held in memory at once."""

Weights = Float64[np.ndarray, "resample example"]
Statistic = Callable[[Weights], Float64[np.ndarray, " resample"]]


@dataclass(frozen=True)
class Interval:
    """A value measured on all images, with a percentile bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Statistic, examples: int, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return a statistic with its percentile interval; the same seed draws the same resamples.

    Resamples in which the statistic is undefined (NaN: say, a class that was never drawn) are left out. If all of them
    are, or if it is undefined on the whole set, the ends are NaN. A paired difference is a statistic of the same
    weights.

    Raises:
        ConfigError: no examples, no resamples, or a level that is not between 0 and 1.
    """
    return bootstrap_all({"": statistic}, examples, resamples, seed, level)[""]


def bootstrap_all(
    statistics: Mapping[str, Statistic],
    examples: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return the intervals of several statistics, as `bootstrap` does, all on the same resamples."""
    if examples < 1 or resamples < 1 or not 0 < level < 1:
        raise ConfigError(
            f"can't bootstrap {resamples} resamples of {examples} examples at level {level}: expected at least 1 "
            "of each, and a level between 0 and 1"
        )
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in _resample(examples, resamples, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights))
    whole = np.ones((1, examples))
    return {
        name: _interval(float(statistic(whole)[0]), np.concatenate(drawn[name]), level)
        for name, statistic in statistics.items()
    }


def _interval(value: float, values: Float64[np.ndarray, " resample"], level: float) -> Interval:
    values = values[~np.isnan(values)]
    if not len(values) or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _resample(examples: int, resamples: int, seed: int):
    """Yield the weights of all resamples in chunks. The size of a chunk changes no weight."""
    rng = np.random.default_rng(seed)
    most = max(1, CELLS // examples)
    for first in range(0, resamples, most):
        count = min(most, resamples - first)
        drawn = rng.integers(examples, size=(count, examples))
        flat = (drawn + examples * np.arange(count)[:, None]).reshape(-1)
        yield np.bincount(flat, minlength=count * examples).reshape(count, examples).astype(np.float64)


def mean_statistic(values: Float[np.ndarray, " example"] | Bool[np.ndarray, " example"]) -> Statistic:
    """Return the mean of one value per example: top-k accuracy from hits, loss from losses."""
    plain = values.astype(np.float64)
    return lambda weights: weights @ plain / weights.sum(1)


def recall_statistic(labels: Integer[np.ndarray, " example"], right: Bool[np.ndarray, " example"]) -> Statistic:
    """Return the mean recall over the classes that were drawn."""
    sums = _sum_groups(labels)

    def statistic(weights: Weights) -> Float64[np.ndarray, " resample"]:
        support, hits = sums(weights), sums(weights * right)
        recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
        return recall.sum(1) / (support > 0).sum(1)

    return statistic


def macro_f1_statistic(labels: Int64[np.ndarray, " example"], predicted: Int64[np.ndarray, " example"]) -> Statistic:
    """Return the mean F1 over the classes that were drawn."""
    classes = np.union1d(labels, predicted)
    true, taken = np.searchsorted(classes, labels), np.searchsorted(classes, predicted)
    supports, claims = _sum_groups(true, len(classes)), _sum_groups(taken, len(classes))

    def statistic(weights: Weights) -> Float64[np.ndarray, " resample"]:
        support, claimed, hits = supports(weights), claims(weights), supports(weights * (labels == predicted))
        f1 = np.divide(2 * hits, support + claimed, out=np.zeros_like(hits), where=support + claimed > 0)
        return np.where(support > 0, f1, 0).sum(1) / (support > 0).sum(1)

    return statistic


def auroc_statistic(scores: Float64[np.ndarray, " example"], positive: Bool[np.ndarray, " example"]) -> Statistic:
    """Return the area under the receiver operating characteristic."""
    return lambda weights: auroc(scores, positive, weights)


def average_precision_statistic(
    scores: Float64[np.ndarray, " example"], positive: Bool[np.ndarray, " example"]
) -> Statistic:
    """Return the average precision."""
    return lambda weights: average_precision(scores, positive, weights)


def index_statistic(metric: Callable[[Int64[np.ndarray, " drawn"]], float]) -> Statistic:
    """Wrap any metric of the indices of the images drawn, computed one resample at a time."""

    def statistic(weights: Weights) -> Float64[np.ndarray, " resample"]:
        every = np.arange(weights.shape[1])
        return np.array([metric(np.repeat(every, row.astype(np.int64))) for row in weights], dtype=np.float64)

    return statistic


def difference_statistic(first: Statistic, second: Statistic) -> Statistic:
    """Return second minus first on the same resamples: the paired difference."""
    return lambda weights: second(weights) - first(weights)


def _sum_groups(groups: Integer[np.ndarray, " example"], count: int | None = None):
    """Return a function that sums weights by group: (resample, example) to (resample, group)."""
    present, places = np.unique(groups, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], np.arange(len(present)))

    def sums(weights: Weights) -> Float64[np.ndarray, "resample group"]:
        found = np.add.reduceat(weights[:, order], starts, axis=1)
        if count is None:
            return found
        whole = np.zeros((len(weights), count))
        whole[:, present] = found
        return whole

    return sums
