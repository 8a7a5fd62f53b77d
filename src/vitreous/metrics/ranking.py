"""How well scores rank the examples of a class above all others: AUROC and average precision, weighted or not.

Every function takes weights of shape (..., example), so that thousands of bootstrap resamples take one call: the weight
of an example in a resample is how often it was drawn.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitreous.metrics.classification import iterate_scores, log_sum_exp
from vitreous.shapes import Bool, Float, Float64, Integer, Shaped
from vitreous.storage.scratch import iterate_blocks, release

COLLECTED = 2**26
"""Values of several columns that are held at once."""
SORTED = 2**23
"""Scores of pairs of example and label that are sorted at once."""


@dataclass(frozen=True)
class ClassRanking:
    """One class against the rest; None where no example, or every example, is of that class."""

    name: str
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Ranking:
    """One against the rest, for every class by its softmax probability."""

    auroc: float | None
    """Mean over the classes that have one. With two classes it is the binary AUROC, which is the same for both."""
    mean_average_precision: float | None
    """Mean over the classes that have examples (mAP)."""
    per_class: tuple[ClassRanking, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def auroc(
    scores: Float[np.ndarray, " example"],
    positive: Bool[np.ndarray, " example"],
    weights: Float[np.ndarray, "*resample example"] | None = None,
) -> Float64[np.ndarray, "*resample"]:
    """Return the area under the receiver operating characteristic.

    It is the probability that a positive example scores higher than a negative one, ties counting one half
    (Mann-Whitney's U over all pairs; Hanley and McNeil, 1982). NaN without positives or without negatives.
    """
    return _compute_area(*_sum_ties(scores, positive, weights))


def average_precision(
    scores: Float[np.ndarray, " example"],
    positive: Bool[np.ndarray, " example"],
    weights: Float[np.ndarray, "*resample example"] | None = None,
) -> Float64[np.ndarray, "*resample"]:
    """Return the sum over thresholds of precision times the gain in recall, without interpolation.

    Thresholds run over the distinct scores from the highest down; equal scores are passed together. NaN without
    positives.
    """
    return _compute_precision(*_sum_ties(scores, positive, weights))


def _compute_area(
    hits: Float64[np.ndarray, "*resample score"], misses: Float64[np.ndarray, "*resample score"]
) -> Float64[np.ndarray, "*resample"]:
    below = np.cumsum(misses, axis=-1) - misses
    pairs = hits.sum(-1) * misses.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((hits * (below + misses / 2)).sum(-1) / pairs)


def _compute_precision(
    hits: Float64[np.ndarray, "*resample score"], misses: Float64[np.ndarray, "*resample score"]
) -> Float64[np.ndarray, "*resample"]:
    hits, misses = hits[..., ::-1], misses[..., ::-1]
    found = np.cumsum(hits, axis=-1)
    retrieved = found + np.cumsum(misses, axis=-1)
    precision = np.divide(found, retrieved, out=np.zeros_like(found), where=retrieved > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((precision * hits).sum(-1) / hits.sum(-1))


def compute_pooled_precision(
    scores: Float[np.ndarray, "example label"], targets: Shaped[np.ndarray, "example label"]
) -> float:
    """Return the average precision over all pairs of example and label at once; NaN without positives.

    Beyond `SORTED` pairs only the positives are sorted, since precision counts at their scores alone, and the negatives are
    counted between them, a block of rows at a time. Positives beyond `SORTED` are taken range by range, from the highest
    scores down, with a pass over the rows for each.
    """
    if scores.size <= SORTED:
        return float(average_precision(scores.reshape(-1), targets.reshape(-1).astype(bool)))
    above, gains = 0.0, []
    for low, high in _divide_positives(scores, targets):
        levels, hits = _count_levels(_iterate_positives(scores, targets, low, high))
        if not len(levels):
            continue
        # How many negatives lie above none of the levels, above the lowest alone, above two, ...
        negatives = np.zeros(len(levels) + 1, np.int64)
        for place in iterate_blocks(scores):
            block = np.sort(scores[place][~targets[place].astype(bool)])
            release(targets)
            negatives += np.bincount(np.searchsorted(levels, block, side="right"), minlength=len(negatives))
        found = above + np.cumsum(hits[::-1])
        misses = np.cumsum(negatives[:0:-1])
        gains.append(float((found / (found + misses) * hits[::-1]).sum()))
        above = float(found[-1])
    return math.fsum(gains) / above if above else np.nan


def _divide_positives(
    scores: Float[np.ndarray, "example label"], targets: Shaped[np.ndarray, "example label"]
) -> list[tuple[float, float]]:
    """Return ranges of scores (from, below), the highest first, each with about `SORTED` positives at most."""
    count = sum(int(targets[place].astype(bool).sum()) for place in iterate_blocks(targets))
    if count <= SORTED:
        return [(-np.inf, np.inf)]
    apart = max(1, SORTED // 1024)
    sample = np.sort(np.concatenate([one[::apart] for one in _iterate_positives(scores, targets, -np.inf, np.inf)]))
    parts = -(-count // SORTED)
    edges = np.unique(sample[[len(sample) * part // parts for part in range(1, parts)]]).tolist()
    return list(zip([-np.inf, *edges], [*edges, np.inf], strict=True))[::-1]


def _iterate_positives(
    scores: Float[np.ndarray, "example label"], targets: Shaped[np.ndarray, "example label"], low: float, high: float
) -> Iterator[Float[np.ndarray, " pair"]]:
    """Yield the positives' scores from `low` to below `high`, a block of rows at a time."""
    for place in iterate_blocks(scores):
        block = scores[place][targets[place].astype(bool)]
        release(targets)
        yield block if np.isinf(low) and np.isinf(high) else block[(block >= low) & (block < high)]


def _count_levels(
    blocks: Iterable[Float[np.ndarray, " pair"]],
) -> tuple[Float[np.ndarray, " level"], Float64[np.ndarray, " level"]]:
    """Return the distinct scores of all blocks in ascending order, and how often each comes."""
    counted = [np.unique(block, return_counts=True) for block in blocks]
    scores, counts = (np.concatenate(side) for side in zip(*counted, strict=True))
    levels, places = np.unique(scores, return_inverse=True)
    return levels, np.bincount(places, counts, minlength=len(levels)).astype(np.float64)


def _sum_ties(
    scores: Float[np.ndarray, " example"],
    positive: Bool[np.ndarray, " example"],
    weights: Float[np.ndarray, "*resample example"] | None,
) -> tuple[Float64[np.ndarray, "*resample score"], Float64[np.ndarray, "*resample score"]]:
    """Sum the weights of positives and of negatives with the same score, in ascending order of score."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    every = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    sorted_weights = every[..., order]
    return tuple(  # type: ignore[return-value]
        np.add.reduceat(sorted_weights * side, starts, axis=-1) for side in (positive[order], ~positive[order])
    )


def rank_classes(
    logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"], classes: tuple[str, ...]
) -> Ranking:
    """Rank every class against the rest, by its log-odds: the order of the probabilities, of which many may be rounded to 1.

    Raises:
        DataError: no examples, or logits that are not finite.
    """
    if logits.shape[1] == 2:
        apart = np.concatenate([scores[:, 0] - scores[:, 1] for _, scores in iterate_scores(logits)])
        return rank_columns(((apart, labels == 0), (-apart, labels == 1)), classes)
    blocks = [_sum_others(scores) for _, scores in iterate_scores(logits)]
    top, scale, rest = (np.concatenate(side) for side in zip(*blocks, strict=True))

    def log_odds(index: int, column: Float[np.ndarray, " example"]) -> Float64[np.ndarray, " example"]:
        own = column.astype(np.float64)
        below = np.minimum(own - scale, -np.log(2))  # no other class than the top one is more probable than 1/2
        return np.where(top == index, own - rest, below - np.log1p(-np.exp(below)))

    columns = enumerate(iterate_columns(logits))
    return rank_columns(((log_odds(index, column), labels == index) for index, column in columns), classes)


def _sum_others(scores: Float64[np.ndarray, "example label"]):
    """Return the top class of some logits, and log(sum(exp)) of all of them, and of all others than the top one."""
    top, scale = scores.argmax(1), log_sum_exp(scores)[:, 0]
    others = scores.copy()
    others[np.arange(len(top)), top] = -np.inf
    with np.errstate(invalid="ignore"):  # a single class has no others
        return top, scale, log_sum_exp(others)[:, 0]


def iterate_columns(rows: Shaped[np.ndarray, "example label"]) -> Iterator[Shaped[np.ndarray, " example"]]:
    """Yield the columns of many rows, some of which are collected in each pass over the rows."""
    most = max(1, COLLECTED // len(rows))
    for first in range(0, rows.shape[1], most):
        found = np.empty((min(most, rows.shape[1] - first), len(rows)), rows.dtype)
        for place in iterate_blocks(rows):
            found[:, place] = rows[place, first : first + most].T
        yield from found


def measure_ranking(
    scores: Float[np.ndarray, "example label"], targets: Shaped[np.ndarray, "example label"], names: tuple[str, ...]
) -> Ranking:
    """Compute AUROC and average precision of every column, and their means over the columns where they are defined."""
    columns = zip(iterate_columns(scores), iterate_columns(targets), strict=True)
    return rank_columns(((score, target.astype(bool)) for score, target in columns), names)


def rank_columns(
    columns: Iterable[tuple[Float[np.ndarray, " example"], Bool[np.ndarray, " example"]]], names: tuple[str, ...]
) -> Ranking:
    """Compute AUROC and average precision of scores and targets that come column by column."""
    sums = (_sum_ties(score, target, None) for score, target in columns)
    found = [(float(_compute_area(*one)), float(_compute_precision(*one))) for one in sums]
    areas, precisions = [area for area, _ in found], [precision for _, precision in found]
    rows = zip(names, map(replace_nan, areas), map(replace_nan, precisions), strict=True)
    return Ranking(mean_known(areas), mean_known(precisions), tuple(ClassRanking(*row) for row in rows))


def replace_nan(value: float) -> float | None:
    """Return the number, or None for NaN."""
    return None if np.isnan(value) else value


def mean_known(values: list[float]) -> float | None:
    """Return the mean of the values that aren't None, or None if all are."""
    kept = [value for value in values if not np.isnan(value)]
    return float(np.mean(kept)) if kept else None
