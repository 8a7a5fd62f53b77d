"""How good a model is where an image may have several labels, from logits and a 0/1 matrix."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitreous.errors import DataError
from vitreous.metrics.classification import ClassMetrics, build_class_metrics, iterate_scores
from vitreous.metrics.ranking import Ranking, compute_pooled_precision, measure_ranking, replace_nan
from vitreous.shapes import Bool, Float, Shaped
from vitreous.storage.scratch import release


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
    counts = np.zeros((3, logits.shape[1]), np.int64)
    exact, wrong, losses = 0, 0, []
    for place, scores in iterate_scores(logits):
        actual, claimed = check_targets(targets, place), scores >= 0
        counts += [(actual & claimed).sum(0), actual.sum(0), claimed.sum(0)]
        exact += int((claimed == actual).all(1).sum())
        wrong += int((claimed != actual).sum())
        losses.append(float(np.logaddexp(0, np.where(actual, -scores, scores)).sum()))
    per_label = tuple(map(build_class_metrics, names, *counts.tolist()))
    ranking = measure_ranking(logits, targets, names)
    present = [one.f1 for one in per_label if one.support]
    return MultiLabelMetrics(
        examples=len(logits),
        mean_average_precision=ranking.mean_average_precision,
        micro_average_precision=replace_nan(compute_pooled_precision(logits, targets)),
        auroc=ranking.auroc,
        macro_f1=float(np.mean(present)) if present else 0.0,
        micro_f1=build_class_metrics("all", *counts.sum(1).tolist()).f1,
        exact=exact / len(logits),
        hamming=wrong / logits.size,
        nll=math.fsum(losses) / logits.size,
        per_label=per_label,
        ranking=ranking,
    )


def check_targets(targets: Shaped[np.ndarray, "example label"], place: slice) -> Bool[np.ndarray, "row label"]:
    """Return some rows of a 0/1 matrix as booleans; raises DataError for any other value."""
    rows = targets[place]
    if rows.dtype != bool and (wrong := ~np.isin(rows, (0, 1))).any():
        row, col = (int(at) for at in np.argwhere(wrong)[0])
        raise DataError(f"target of example {place.start + row}, label {col} is {rows[row, col]}; it must be 0 or 1")
    found = rows.astype(bool)
    release(targets)
    return found
