"""`vitreous.compare`: two models on the same images."""

from typing import Any

from vitreous.api.data import Data
from vitreous.api.evaluation import EvaluationResult, evaluate
from vitreous.api.models import ModelLike
from vitreous.api.probes import ProbeResult, probe


def compare(
    model: ModelLike, other: ModelLike, data: Data | None = None, *, protocol: str = "accuracy", **options: Any
) -> EvaluationResult | ProbeResult:
    """Measure two models on the same images and compare them, with the interval of every difference and McNemar's test.

    >>> found = vitreous.compare("runs/photos-1", "runs/photos-2", "photos/val")         # doctest: +SKIP
    >>> found.comparison.figures.test.p, found.comparison.figures.differences[0].interval    # doctest: +SKIP
    (0.012, (0.006, 0.041))

    Args:
        model: what `vitreous.load` accepts or returns.
        other: another one, of any kind and size.
        data: labelled images; None: those of the first model's run.
        protocol: accuracy (their own heads, which must know the same classes), or few-shot, linear or knn (the same
            probe of both models' features).
        options: those of `vitreous.evaluate` for accuracy, those of `vitreous.probe` for a probe.

    Returns:
        The first model's result; its `comparison` holds the differences.

    Raises:
        UserError: as `vitreous.evaluate` and `vitreous.probe`.
    """
    if protocol == "accuracy":
        return evaluate(model, data, compare=other, **options)
    return probe(model, data, kind=protocol, compare=other, **options)
