"""One way to call every probe: its settings checked before any features are computed, then its result."""

from collections.abc import Sequence

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.evaluation.probes import knn as neighbours
from vitreous.evaluation.probes import linear
from vitreous.evaluation.probes.features import Features, check_parts
from vitreous.evaluation.probes.few_shot import FewShot, check_shots, few_shot
from vitreous.evaluation.probes.least_squares import check_l2
from vitreous.evaluation.probes.options import ProbeOptions
from vitreous.shapes import Float32, Int64

Found = FewShot | linear.Linear | neighbours.KNN


def check(kind: str, options: ProbeOptions, train: Source, test: Source) -> None:
    """Raise UserError for invalid settings, or parts that don't match each other or the probe."""
    check_parts(train, test)
    if kind == "few-shot":
        check_l2(options.strengths())
        check_shots(train, options.shots, options.seeds)
    elif kind == "linear":
        linear.check(options.linear())
    else:
        neighbours.check(options.knn(), len(train))


def measure(kind: str, options: ProbeOptions, train: Features, test: Features) -> Found:
    """Learn from one part and measure on the other.

    Args:
        kind: few-shot, linear or knn.
        options: settings that passed `check`.
        train: features to learn from.
        test: features to measure on; classes are matched by name.

    Raises:
        UserError: features that are not finite or don't match.
    """
    if kind == "few-shot":
        return few_shot(train, test, None, options.shots, options.strengths(), options.seeds)
    if kind == "linear":
        return linear.linear_probe(train, test, options.linear())
    return neighbours.knn(train, test, options.knn())


def scores(found: Found, classes: Sequence[str]) -> Float32[np.ndarray, "example label"]:
    """Return a probe's scores of the test images: logits, or decisions; for few-shot, seed 0's with the most shots."""
    if isinstance(found, linear.Linear):
        return found.logits
    return decisions(found.shots[-1].predicted[0] if isinstance(found, FewShot) else found.predicted, classes)


def decisions(predicted: Int64[np.ndarray, " example"], names: Sequence[str]) -> Float32[np.ndarray, "example label"]:
    """Return decisions as scores: 1 for the chosen class, 0 for the others."""
    return (predicted[:, None] == np.arange(len(names))).astype(np.float32)
