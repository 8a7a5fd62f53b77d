"""How far a study is: which cell of how many, and about how long it has to go."""

import time
from collections.abc import Mapping, Sequence

from vitreous.model import count
from vitreous.studies.engine.study import Cell, Setting
from vitreous.training.config import RunConfig
from vitreous.training.duration import Duration, Scale
from vitreous.training.reporter import Reporter

PASSED = ("training", "evaluating", "measuring")
OVERHEAD = 20e9
"""Operations that opening the data, evaluating and reporting of a run are reckoned as."""


def estimate_cost(config: RunConfig, examples: int) -> float:
    """Estimate a run's operations: three forward passes for each image of a step."""
    duration = Duration.parse(config.duration)
    if duration.unit == "min":
        return duration.amount * 1e12
    images = duration.steps(Scale(examples, config.batch)) * config.batch
    return OVERHEAD + 3.0 * images * count.count_flops(config.model)


class Clock:
    """Reckons the time that is left from the time that the finished cells took."""

    def __init__(self, setting: Setting, cells: Sequence[Cell]) -> None:
        self.costs = {cell.name: estimate_cost(cell.config, setting.facts.train) for cell in cells}
        self.order = [cell.name for cell in cells]
        self.finished: list[str] = []
        self.started = time.monotonic()

    def done(self, cell: Cell) -> None:
        """Count a cell as finished."""
        self.finished.append(cell.name)

    def place(self, cell: Cell) -> str:
        """Say which cell this is: "cell 3 of 40"."""
        return f"cell {self.order.index(cell.name) + 1} of {len(self.order)}"

    def left(self) -> float | None:
        """Return the seconds that are left, or None before the first cell is finished."""
        spent = sum(self.costs[name] for name in self.finished)
        if not spent:
            return None
        return (time.monotonic() - self.started) * (sum(self.costs.values()) - spent) / spent


class CellReporter:
    """Passes on what a cell's run has to say, shortened, under the cell's name."""

    def __init__(self, reporter: Reporter, clock: Clock, cell: Cell) -> None:
        self.reporter, self.cell = reporter, cell
        left = clock.left()
        minutes = "" if left is None else f", about {max(1, round(left / 60))} min left"
        reporter.message(f"{clock.place(cell)}: {cell.name}{minutes}")

    def message(self, text: str) -> None:
        """Leave out what a single run would say."""

    def phase(self, name: str) -> None:
        """Pass on what is being waited for, but for what every run does in a moment."""
        if name.startswith(PASSED):
            self.reporter.phase(name)

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Pass on how far the run is."""
        self.reporter.progress(done, total, numbers)

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Pass on validation numbers."""
        self.reporter.evaluation(step, numbers, best)

    def close(self) -> None:
        """Leave the display open for the next cell."""
