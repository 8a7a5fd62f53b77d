"""Further figures from logits: intervals, ranking of classes, and the effect of temperature scaling."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitreous.evaluation.throughput import Cost
from vitreous.metrics.bootstrap import Interval, bootstrap_all, macro_f1_statistic, mean_statistic, recall_statistic
from vitreous.metrics.calibration import Scaled, cross_fit_temperature
from vitreous.metrics.classification import judge
from vitreous.metrics.ranking import Ranking, rank_classes
from vitreous.runtime.display import Shown
from vitreous.shapes import Float, Int64


@dataclass(frozen=True, repr=False)
class Details(Shown):
    """The details of one evaluation."""

    intervals: dict[str, Interval]
    """95% bootstrap intervals over images of balanced, macro_f1 and nll. (Top-1 has Wilson's.)"""
    ranking: Ranking
    scaled: Scaled | None
    """None with fewer than two images."""
    cost: Cost | None = None
    """None if it wasn't measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "intervals": {name: asdict(one) for name, one in self.intervals.items()},
            "ranking": self.ranking.to_dict(),
            "temperature": self.scaled.to_dict() if self.scaled else None,
            "cost": self.cost.to_dict() if self.cost else None,
        }

    def __str__(self) -> str:
        lines = []
        if self.ranking.auroc is not None:
            lines.append(f"AUROC      {self.ranking.auroc:.4f}   (each class against the rest, mean)")
        if self.ranking.mean_average_precision is not None:
            lines.append(f"mAP        {self.ranking.mean_average_precision:.4f}")
        if self.scaled:
            (first, second), (before, after) = self.scaled.temperatures, self.scaled.ece
            lines.append(
                f"scaled     ECE {before:.4f} -> {after:.4f} by temperatures {first:.2f} and {second:.2f}, each fitted on the other half"
            )
        return "\n".join([*lines, *([str(self.cost)] if self.cost else [])])


def details(
    logits: Float[np.ndarray, "example label"],
    labels: Int64[np.ndarray, " example"],
    classes: tuple[str, ...],
    cost: Cost | None = None,
) -> Details:
    """Compute the details; raises DataError as `evaluate_logits` does."""
    judged = judge(logits, labels)
    statistics = {
        "balanced": recall_statistic(labels, judged.predicted == labels),
        "macro_f1": macro_f1_statistic(labels, judged.predicted),
        "nll": mean_statistic(judged.loss),
    }
    return Details(
        intervals=bootstrap_all(statistics, len(labels)),
        ranking=rank_classes(logits, labels, classes),
        scaled=cross_fit_temperature(logits, labels) if len(labels) > 1 else None,
        cost=cost,
    )
