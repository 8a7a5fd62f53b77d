"""Two models side by side on the same images: each difference with its interval, and the images on which they
differ."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitreous.errors import DataError
from vitreous.metrics.bootstrap import (
    Statistic,
    bootstrap_all,
    difference_statistic,
    macro_f1_statistic,
    mean_statistic,
    recall_statistic,
)
from vitreous.metrics.classification import Judged, Metrics, find_indices, judge, measure
from vitreous.metrics.mcnemar import McNemar, mcnemar
from vitreous.shapes import Float, Int64, Integer


@dataclass(frozen=True)
class Difference:
    """One metric of both models, and the first minus the second."""

    metric: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    """95% interval of the difference, by the paired bootstrap: both models on the same resampled images. None for the calibration
    error: resampling adds to each model's own, and more to that of the better calibrated one, so the interval would be of another
    difference."""


@dataclass(frozen=True)
class ClassDifference:
    """One class: how many of its images only one of the models classifies correctly, and both recalls."""

    name: str
    support: int
    first: float
    """Recall of the first model; 0 without images."""
    second: float
    only_first: int
    only_second: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images."""

    first: Metrics
    second: Metrics
    differences: tuple[Difference, ...]
    test: McNemar
    agreement: float
    """Share of images to which both models give the same class, right or wrong."""
    per_class: tuple[ClassDifference, ...]
    judged: tuple[Judged, Judged]
    """Each model's answer to each image."""
    labels: Int64[np.ndarray, " example"]
    sure: bool = True
    """Whether the answers come with probabilities; otherwise they are bare decisions."""

    def select_only(self, right: int) -> Int64[np.ndarray, " image"]:
        """Return the images that only the given model (0 or 1) classifies correctly, the most decided ones first.

        Most decided by the product of the two models' probabilities for their own answers; bare decisions keep their
        order.
        """
        one, other = self.judged[right], self.judged[1 - right]
        found = np.flatnonzero(one.right & ~other.right)
        sure = one.confidence[found] * other.confidence[found]
        return found[np.argsort(-sure, kind="stable")]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the answers to single images as JSON values."""
        return {
            "differences": [asdict(one) for one in self.differences],
            "mcnemar": self.test.to_dict(),
            "agreement": self.agreement,
            "per_class": [asdict(one) for one in self.per_class],
            "other": self.second.to_dict(),
        }


def compare(
    first: Float[np.ndarray, "example label"],
    second: Float[np.ndarray, "example label"],
    labels: Integer[np.ndarray, " example"],
    classes: tuple[str, ...],
    seed: int = 0,
    sure: bool = True,
) -> Comparison:
    """Compare two models by their logits.

    Args:
        first: logits of one model.
        second: logits of the other, for the same images and classes in the same order (see `match_classes`).
        labels: indices into `classes`.
        classes: names, one per column.
        seed: of the bootstrap.
        sure: whether softmax turns the logits into probabilities. If False, only the order of the classes counts, and
            loss
            and calibration are left out.

    Raises:
        DataError: no examples, or logits that are not finite.
    """
    one, other = judge(first, labels), judge(second, labels)
    whole = measure(one, classes), measure(other, classes)
    statistics = {
        name: difference_statistic(theirs, ours)
        for (name, ours), theirs in zip(_build_statistics(one).items(), _build_statistics(other).values(), strict=True)
        if sure or name != "nll"
    }
    found = bootstrap_all(statistics, len(labels), seed=seed)
    differences = tuple(
        Difference(
            name, getattr(whole[0], name), getattr(whole[1], name), interval.value, (interval.low, interval.high)
        )
        for name, interval in found.items()
    )
    if sure:
        differences += (Difference("ece", whole[0].ece, whole[1].ece, whole[0].ece - whole[1].ece, None),)
    agreement = float((one.predicted == other.predicted).mean())
    per_class, test = _compare_classes(one, other, classes), mcnemar(one.right, other.right)
    return Comparison(*whole, differences, test, agreement, per_class, (one, other), one.labels, sure)


def match_classes(
    first: tuple[str, ...], second: tuple[str, ...], names: tuple[str, str] = ("the model", "the other model")
) -> Int64[np.ndarray, " label"]:
    """Return, for each class of the first model, its index among the second's, in any order.

    Raises:
        DataError: one model has a class that the other lacks.
    """
    alone = [sorted(set(first) - set(second)), sorted(set(second) - set(first))]
    if any(alone):
        said = "; ".join(
            f"only {name} has {_format_some(classes)}" for name, classes in zip(names, alone, strict=True) if classes
        )
        raise DataError(f"models can be compared only if they have the same classes, but {said}")
    return find_indices(first, second)


def _format_some(classes: list[str]) -> str:
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return ", ".join(map(repr, classes[:5])) + more


def _build_statistics(judged: Judged) -> dict[str, Statistic]:
    """Return the compared statistics by the name of their field in Metrics."""
    return {
        "top1": mean_statistic(judged.right),
        "balanced": recall_statistic(judged.labels, judged.right),
        "macro_f1": macro_f1_statistic(judged.labels, judged.predicted),
        "nll": mean_statistic(judged.loss),
    }


def _compare_classes(one: Judged, other: Judged, classes: tuple[str, ...]) -> tuple[ClassDifference, ...]:
    every, first, second, alone, other_alone = (
        np.bincount(one.labels[chosen], minlength=len(classes)).tolist()
        for chosen in (slice(None), one.right, other.right, one.right & ~other.right, ~one.right & other.right)
    )
    return tuple(
        ClassDifference(name, count, *((hits / count, others / count) if count else (0.0, 0.0)), *only)
        for name, count, hits, others, *only in zip(classes, every, first, second, alone, other_alone, strict=True)
    )
