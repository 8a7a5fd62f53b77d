"""The progress of a study: the current cell, the number of cells, and the approximate time left."""

import time
from collections.abc import Mapping, Sequence

from vitreous.model import count
from vitreous.studies.engine.study import Cell, Setting
from vitreous.training.config import RunConfig
from vitreous.training.duration import Duration, Scale
from vitreous.training.reporter import Reporter

PASSED = ("training", "evaluating", "measuring")
OVERHEAD = 20e9
"""Assumed operations for opening the data, evaluating and reporting of a run."""


def estimate_cost(config: RunConfig, examples: int) -> float:
    """Estimate a run's operations: three forward passes for each image of a step."""
    duration = Duration.parse(config.duration)
    if duration.unit == "min":
        return duration.amount * 1e12
    images = duration.steps(Scale(examples, config.batch)) * config.batch
    return OVERHEAD + 3.0 * images * count.count_flops(config.model)


class Clock:
    """Estimates the remaining time from the time of the finished cells."""

    def __init__(self, setting: Setting, cells: Sequence[Cell]) -> None:
        self.costs = {cell.name: estimate_cost(cell.config, setting.facts.train) for cell in cells}
        self.order = [cell.name for cell in cells]
        self.finished: list[str] = []
        self.started = time.monotonic()

    def finish(self, cell: Cell) -> None:
        """Count a cell as finished."""
        self.finished.append(cell.name)

    def place(self, cell: Cell) -> str:
        """Return a cell's position: "cell 3 of 40"."""
        return f"cell {self.order.index(cell.name) + 1} of {len(self.order)}"

    def estimate_left(self) -> float | None:
        """Return the remaining seconds, or None before the first cell is finished."""
        spent = sum(self.costs[name] for name in self.finished)
        if not spent:
            return None
        return (time.monotonic() - self.started) * (sum(self.costs.values()) - spent) / spent


class CellReporter:
    """Passes on a cell's messages, shortened, under the cell's name."""

    def __init__(self, reporter: Reporter, clock: Clock, cell: Cell) -> None:
        self.reporter, self.cell = reporter, cell
        left = clock.estimate_left()
        minutes = "" if left is None else f", about {max(1, round(left / 60))} min left"
        reporter.message(f"{clock.place(cell)}: {cell.name}{minutes}")

    def message(self, text: str) -> None:
        """Suppress the messages of a single run."""

    def phase(self, name: str) -> None:
        """Pass on the current wait, except for those that last only a moment in every run."""
        if name.startswith(PASSED):
            self.reporter.phase(name)

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Pass on the run's progress."""
        self.reporter.progress(done, total, numbers)

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Pass on validation numbers."""
        self.reporter.evaluation(step, numbers, best)

    def close(self) -> None:
        """Leave the display open for the next cell."""
