"""What is optimised: settings only, no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class ClassifyConfig:
    """Supervised classification."""

    KIND: ClassVar[str] = "classify"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: cross entropy over the classes. sigmoid: one binary cross entropy a class, summed."""
    smoothing: float = 0.0
    """Label smoothing: share of each target spread evenly over all classes, 0 to below 1."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh each class by the inverse of its frequency in training (mean weight 1), for unbalanced data."""
