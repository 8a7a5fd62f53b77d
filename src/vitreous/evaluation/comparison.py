"""Two models on the same images: what tells them apart, and what each costs."""

from dataclasses import dataclass
from typing import Any

from vitreous.evaluation.throughput import Cost
from vitreous.metrics.comparison import Comparison


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """A model beside another."""

    other: str
    """Where the other model was loaded from."""
    names: tuple[str, str]
    """Of both, the model's first, told apart."""
    found: Comparison
    """Every figure of both with the interval of the difference, McNemar's test, recall class by class."""
    costs: tuple[Cost, ...] = ()
    """Of both, if they were measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"with": self.other, **self.found.to_dict()}
