"""How good a classifier is, from its logits: every figure in float64, every definition stated."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from vitreous.errors import ConfigError, DataError
from vitreous.metrics.headline import format_interval
from vitreous.runtime.display import Shown, strip_hidden
from vitreous.shapes import Bool, Float, Float64, Int64, Integer
from vitreous.storage.scratch import iterate_blocks

BINS = 15
"""Equal-width bins of confidence for the expected calibration error (Guo et al., 1706.04599)."""
MATRIX = 1000
"""Most classes for which the confusion matrix is written out."""
Z95 = 1.959963984540054
"""Two-sided 95% of the normal distribution."""


@dataclass(frozen=True)
class ClassMetrics:
    """One class's figures; a ratio whose denominator is 0 is 0."""

    name: str
    support: int
    """Examples of this class."""
    precision: float
    recall: float
    f1: float


TOP = 5
"""The k of top-k accuracy. With k classes or fewer, every answer is among the first k."""


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability of the predicted class."""
    accuracy: float


@dataclass(frozen=True, repr=False)
class Metrics(Shown):
    """All figures that follow from logits and labels."""

    examples: int
    top1: float
    """Share of examples whose highest logit is the label's; among equal logits, the first class counts."""
    top5: float | None
    """Share whose label is among the five highest; None with five classes or fewer, where it says nothing."""
    interval: tuple[float, float]
    """95% Wilson interval of top1."""
    balanced: float
    """Mean recall over the classes that have examples."""
    macro_f1: float
    """Mean F1 over the classes that have examples."""
    nll: float
    """Mean negative log-likelihood, in nats."""
    ece: float
    """Expected calibration error over BINS equal bins."""
    per_class: tuple[ClassMetrics, ...]
    confusions: tuple[tuple[int, int, int], ...]
    """(true class, predicted class, examples) for each pair that occurs, in class order."""
    reliability: tuple[Bin, ...]

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The confusions as a matrix: rows are true classes, columns predicted ones."""
        matrix = [[0] * len(self.per_class) for _ in self.per_class]
        for true, predicted, count in self.confusions:
            matrix[true][predicted] = count
        return tuple(map(tuple, matrix))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; the confusion matrix only for up to MATRIX classes."""
        return {**asdict(self), "confusion": self.confusion if len(self.per_class) <= MATRIX else None}

    def __str__(self) -> str:
        lines = [
            f"examples   {self.examples:,}",
            f"top-1      {self.top1:.2%}   ({format_interval(self.interval, 2)})",
            *([f"top-5      {self.top5:.2%}"] if self.top5 is not None else []),
            f"balanced   {self.balanced:.2%}",
            f"macro F1   {self.macro_f1:.2%}",
            f"loss       {self.nll:.4f}",
            f"ECE        {self.ece:.4f}   ({BINS} bins)",
        ]
        shown = sorted((one for one in self.per_class if one.support), key=lambda one: one.f1)
        wide = max([len(strip_hidden(one.name)) for one in shown[:10]] + [5])
        title = "class" if len(shown) <= 10 else "worst"
        lines += ["", f"{title:{wide}}  images  precision  recall      F1"]
        for one in self.per_class if len(shown) <= 10 else shown[:10]:
            row = (
                f"{one.precision:9.2%}  {one.recall:6.1%}  {one.f1:6.1%}"
                if one.support
                else f"{'–':>9}  {'–':>6}  {'–':>6}"
            )
            lines.append(f"{strip_hidden(one.name):{wide}}  {one.support:6,}  {row}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Judged:
    """What the logits say about each example: all that the metrics need, for any number of classes."""

    labels: Int64[np.ndarray, " example"]
    predicted: Int64[np.ndarray, " example"]
    rank: Int64[np.ndarray, " example"]
    """How many classes rank before the label; 0 where the prediction is right."""
    confidence: Float64[np.ndarray, " example"]
    """Probability of the predicted class."""
    loss: Float64[np.ndarray, " example"]
    """Negative log-likelihood of the label, in nats."""

    @property
    def right(self) -> Bool[np.ndarray, " example"]:
        """Whether the prediction is the label."""
        return self.rank == 0

    @classmethod
    def join(cls, parts: "Sequence[Judged]") -> "Judged":
        """Put the examples of several batches together."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


def judge(logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"]) -> Judged:
    """Judge the logits of some examples, block by block; raises DataError if there are none, or some are not finite."""
    return Judged.join([judge_scores(scores, labels[place]) for place, scores in iterate_scores(logits)])


def judge_scores(scores: Float64[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"]) -> Judged:
    """Judge finite logits in float64."""
    log_probability, own = compute_log_likelihood(scores, labels)
    confidence = np.exp(log_probability.max(1))
    return Judged(labels.astype(np.int64), scores.argmax(1), rank_labels(scores, labels), confidence, -own)


def iterate_scores(
    logits: Float[np.ndarray, "example label"],
) -> Iterator[tuple[slice, Float64[np.ndarray, "example label"]]]:
    """Yield the logits in float64, in blocks with their places; raises DataError if there are none,
    or some are not finite."""
    if not len(logits):
        raise DataError("there are no examples to evaluate on")
    for place in iterate_blocks(logits):
        scores = logits[place].astype(np.float64)
        if not np.isfinite(scores).all():
            refuse_infinite(sum(count_infinite(logits[one]) for one in iterate_blocks(logits)), len(logits))
        yield place, scores


def count_infinite(logits: Float[np.ndarray, "example label"]) -> int:
    """Return how many examples have a logit that is no finite number."""
    return int((~np.isfinite(logits)).any(1).sum())


def refuse_infinite(infinite: int, count: int) -> None:
    """Raise DataError if some of the examples' logits are not finite."""
    if infinite:
        raise DataError(
            f"{infinite} of {count} outputs of the model are not finite, so it can't be measured; check its weights"
        )


def evaluate_logits(
    logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"], classes: tuple[str, ...]
) -> Metrics:
    """Compute all metrics.

    Args:
        logits: any real scores whose softmax is the model's probability.
        labels: indices into `classes`.
        classes: names, one per column of the logits.

    Raises:
        DataError: no examples, or logits that are not finite.
    """
    return measure(judge(logits, labels), classes)


def measure(judged: Judged, classes: tuple[str, ...]) -> Metrics:
    """Compute all metrics from judged examples; `classes` are the names that the labels index."""
    right = judged.right
    per_class = class_metrics(judged, classes)
    reliability = calibration(judged.confidence, right)
    return Metrics(
        examples=len(right),
        top1=float(right.mean()),
        top5=float((judged.rank < TOP).mean()) if len(classes) > TOP else None,
        interval=wilson_interval(int(right.sum()), len(right)),
        balanced=float(np.mean([one.recall for one in per_class if one.support])),
        macro_f1=float(np.mean([one.f1 for one in per_class if one.support])),
        nll=float(judged.loss.mean()),
        ece=compute_calibration_error(reliability),
        per_class=per_class,
        confusions=count_confusions(judged, len(classes)),
        reliability=reliability,
    )


def check_finite(logits: Float[np.ndarray, "example label"]) -> Float64[np.ndarray, "example label"]:
    """Return the outputs in float64; raises DataError if there are none, or if some are not finite."""
    if not len(logits):
        raise DataError("there are no examples to evaluate on")
    scores = logits.astype(np.float64)
    refuse_infinite(count_infinite(scores), len(scores))
    return scores


def top_k(logits: Float[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"], k: int) -> float:
    """Return the share of examples whose label is among the k highest logits; among equals, the first class counts.

    With k classes or fewer it is 1. Raises ConfigError for k below 1, and DataError as `evaluate_logits` does.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; top-k accuracy needs at least 1")
    return float((rank_labels(check_finite(logits), labels) < k).mean())


def rank_labels(
    scores: Float64[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"]
) -> Int64[np.ndarray, " example"]:
    """Return how many classes rank before each label: those with a higher score, and earlier ones with an equal
    score."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    return (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None])).sum(1)


def log_sum_exp(scores: Float64[np.ndarray, "example label"]) -> Float64[np.ndarray, "example 1"]:
    """Return log(sum(exp(row))), without overflow."""
    highest = scores.max(1, keepdims=True)
    return highest + np.log(np.exp(scores - highest).sum(1, keepdims=True))


def compute_log_likelihood(
    scores: Float64[np.ndarray, "example label"], labels: Integer[np.ndarray, " example"]
) -> tuple[Float64[np.ndarray, "example label"], Float64[np.ndarray, " example"]]:
    """Return the log-probability of every class, and that of each label."""
    log_probability = scores - log_sum_exp(scores)
    return log_probability, np.take_along_axis(log_probability, labels[:, None], 1)[:, 0]


def find_indices(names: Sequence[str], known: Sequence[str]) -> Int64[np.ndarray, " name"]:
    """Return each name's index among the known ones; -1 if it isn't among them."""
    index = {name: number for number, name in enumerate(known)}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def softmax(scores: Float64[np.ndarray, "example label"]) -> Float64[np.ndarray, "example label"]:
    """Return probabilities, without overflow."""
    return np.exp(scores - log_sum_exp(scores))


def count_confusions(judged: Judged, classes: int) -> tuple[tuple[int, int, int], ...]:
    """Count the pairs of true and predicted class that occur."""
    pairs, counts = np.unique(judged.labels * classes + judged.predicted, return_counts=True)
    return tuple(zip((pairs // classes).tolist(), (pairs % classes).tolist(), counts.tolist(), strict=True))


def class_metrics(judged: Judged, classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    """Count each class's images, predictions and hits."""
    hit = judged.labels[judged.right]
    columns = (np.bincount(part, minlength=len(classes)) for part in (hit, judged.labels, judged.predicted))
    return tuple(map(build_class_metrics, classes, *(column.tolist() for column in columns)))


def build_class_metrics(name: str, hits: int, support: int, claimed: int) -> ClassMetrics:
    """Return a class's precision, recall and F1 from counts; a ratio whose denominator is 0 is 0."""
    precision, recall = hits / claimed if claimed else 0.0, hits / support if support else 0.0
    f1 = 2 * hits / (support + claimed) if support + claimed else 0.0
    return ClassMetrics(name, support, precision, recall, f1)


def calibration(confidence: Float64[np.ndarray, " example"], right: np.ndarray) -> tuple[Bin, ...]:
    """Sort predictions into equal bins of confidence; bin i holds i / BINS < confidence <= (i + 1) / BINS."""
    place = assign_bins(confidence)
    bins = []
    for index in range(BINS):
        inside = place == index
        count = int(inside.sum())
        mean, accuracy = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (0.0, 0.0)
        bins.append(Bin(index / BINS, (index + 1) / BINS, count, mean, accuracy))
    return tuple(bins)


def assign_bins(confidence: Float64[np.ndarray, " example"]) -> Int64[np.ndarray, " example"]:
    """Return each confidence's bin."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def compute_calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: the gap of each bin, weighted by its count."""
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / sum(one.count for one in bins)


def wilson_interval(hits: float, count: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share (Wilson, 1927).

    Of images that are each asked several times, `hits` may be the sum of their shares of right answers: those vary no
    more than single answers do, so the interval is not too narrow.
    """
    share = hits / count
    spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    middle, scale = share + Z95**2 / (2 * count), 1 + Z95**2 / count
    # Rounding must not put the share itself outside the interval when none or all of them hit.
    return max(0.0, min(share, (middle - spread) / scale)), min(1.0, max(share, (middle + spread) / scale))
