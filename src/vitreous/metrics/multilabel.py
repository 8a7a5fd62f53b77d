"""How good a model is where an image may have several labels, from logits and a 0/1 matrix."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from vitreous.errors import DataError
from vitreous.metrics.classification import ClassMetrics, build_class_metrics, check_finite
from vitreous.metrics.ranking import Ranking, average_precision, measure_ranking, replace_nan


@dataclass(frozen=True)
class MultiLabelMetrics:
    """All figures that follow from logits and label matrices; a label is predicted where its sigmoid is at least one
    half."""

    examples: int
    mean_average_precision: float | None
    """Mean of the labels' average precisions, over the labels that at least one example has (mAP)."""
    micro_average_precision: float | None
    """Average precision over all pairs of example and label at once."""
    auroc: float | None
    """Mean over the labels that some examples have and others lack."""
    macro_f1: float
    """Mean F1 over the labels that at least one example has."""
    micro_f1: float
    """F1 over all pairs of example and label at once."""
    exact: float
    """Share of examples with every label right."""
    hamming: float
    """Share of pairs of example and label that are wrong."""
    nll: float
    """Mean binary cross entropy over all pairs, in nats."""
    per_label: tuple[ClassMetrics, ...]
    ranking: Ranking

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def evaluate_labels(
    logits: Float[np.ndarray, "example label"], targets: Shaped[np.ndarray, "example label"], names: tuple[str, ...]
) -> MultiLabelMetrics:
    """Compute all metrics of a model with one sigmoid per label.

    Args:
        logits: any real scores whose sigmoids are the model's probabilities.
        targets: 1 (or True) where an example has a label, else 0.
        names: of the labels, one per column.

    Raises:
        DataError: no examples, logits that are not finite, or targets that are neither 0 nor 1.
    """
    scores, actual = check_finite(logits), check_targets(targets)
    claimed = scores >= 0
    per_label = tuple(measure_label(actual[:, index], claimed[:, index], name) for index, name in enumerate(names))
    found = measure_ranking(scores, actual, names)
    present = [one.f1 for one in per_label if one.support]
    whole = measure_label(actual.reshape(-1), claimed.reshape(-1), "all")
    return MultiLabelMetrics(
        examples=len(scores),
        mean_average_precision=found.mean_average_precision,
        micro_average_precision=replace_nan(float(average_precision(scores.reshape(-1), actual.reshape(-1)))),
        auroc=found.auroc,
        macro_f1=float(np.mean(present)) if present else 0.0,
        micro_f1=whole.f1,
        exact=float((claimed == actual).all(1).mean()),
        hamming=float((claimed != actual).mean()),
        nll=float(np.logaddexp(0, np.where(actual, -scores, scores)).mean()),
        per_label=per_label,
        ranking=found,
    )


def check_targets(targets: Shaped[np.ndarray, "example label"]) -> Bool[np.ndarray, "example label"]:
    """Return a 0/1 matrix as booleans; raises DataError for any other value."""
    wrong = ~np.isin(targets, (0, 1))
    if wrong.any():
        row, col = (int(place) for place in np.argwhere(wrong)[0])
        raise DataError(f"target of example {row}, label {col} is {targets[row, col]}; it must be 0 or 1")
    return targets.astype(bool)


def measure_label(actual: Bool[np.ndarray, " pair"], claimed: Bool[np.ndarray, " pair"], name: str) -> ClassMetrics:
    """Count one label's hits."""
    return build_class_metrics(name, int((actual & claimed).sum()), int(actual.sum()), int(claimed.sum()))
