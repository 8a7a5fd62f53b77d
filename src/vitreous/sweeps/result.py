"""What a sweep has found: a row for each variant, with the mean over seeds and its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vitreous.metrics.headline import NAMES, SAID, find_headline, format_figure, rank_evaluation
from vitreous.metrics.seeds import Interval, find_interval, pair_differences
from vitreous.runtime.data_frames import Tabular
from vitreous.runtime.display import Shown, align_columns, strip_hidden
from vitreous.sweeps.grid import Variant, format_value, format_values
from vitreous.sweeps.plan import Figures, SweepCell, SweepPlan

ROUNDING = 1e-9
"""Width of an interval that is only rounding."""


@dataclass(frozen=True)
class VariantResult:
    """One variant, with all its seeds."""

    variant: Variant
    runs: Mapping[int, Figures]
    """The figures of the runs that are done, by seed; empty where one diverged."""
    seeds: int
    """Seeds in all."""

    def take(self, name: str, split: str | None = None) -> dict[int, float]:
        """Return a figure of each run that has it, by seed; `split`: "test", or else of the validation images."""
        chosen = {seed: one.get(split, {}) if split else one for seed, one in self.runs.items()}
        return {seed: one[name] for seed, one in chosen.items() if one.get(name) is not None}

    def average(self, *names: str) -> dict[str, float]:
        """Return the means over seeds of the figures that there are."""
        found = {name: self.take(name) for name in names}
        return {name: sum(one.values()) / len(one) for name, one in found.items() if one}

    def is_whole(self, name: str) -> bool:
        """Return whether every seed has this figure."""
        return len(self.take(name)) == self.seeds

    @property
    def diverged(self) -> int:
        """Runs that diverged."""
        return sum(not one for one in self.runs.values())


@dataclass(frozen=True, repr=False)
class SweepResult(Shown, Tabular):
    """The variants of a sweep, compared by the validation images."""

    folder: Path
    variants: tuple[VariantResult, ...]
    signal: int | None = None
    """Number of the signal that interrupted it."""

    @classmethod
    def take(cls, plan: SweepPlan, signal: int | None = None) -> "SweepResult":
        """Return what the runs of a plan have reached."""
        found: list[VariantResult] = []
        by_variant: dict[str, list[SweepCell]] = {}
        for cell in plan.cells:
            by_variant.setdefault(format_values(cell.variant), []).append(cell)
        for cells in by_variant.values():
            runs = {cell.seed: plan.results[cell.name] for cell in cells if cell.name in plan.results}
            found.append(VariantResult(cells[0].variant, runs, len(cells)))
        return cls(plan.folder, tuple(found), signal)

    @cached_property
    def figure(self) -> str:
        """What variants are judged by: top1, map or, without labels, loss."""
        every = [one for each in self.variants for one in each.runs.values() if one]
        return (find_headline(every[0]) if every else None) or "loss"

    @property
    def done(self) -> int:
        """Runs that are done."""
        return sum(len(one.runs) for one in self.variants)

    @property
    def cells(self) -> int:
        """Runs in all."""
        return sum(one.seeds for one in self.variants)

    @cached_property
    def ranking(self) -> list[VariantResult]:
        """The variants with a figure for every seed, the best mean first."""
        whole = [one for one in self.variants if one.is_whole(self.figure)]
        return sorted(whole, key=lambda one: rank_evaluation(one.average(self.figure, "loss")), reverse=True)

    @property
    def best(self) -> VariantResult | None:
        """The variant with the best mean; None until all runs are done, or if none has figures for all seeds."""
        return next(iter(self.ranking), None) if self.done == self.cells else None

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """A row for each variant: its values, then seeds, diverged, mean, low, high of the figure, and whether it is the
        best."""
        names = dict.fromkeys(name for one in self.variants for name in one.variant)
        found: dict[str, list[Any]] = {name: [one.variant.get(name) for one in self.variants] for name in names}
        intervals = [find_interval(one.take(self.figure).values()) for one in self.variants]
        best = self.best
        found |= {"seeds": [one.count for one in intervals], "diverged": [one.diverged for one in self.variants]}
        for name in ("mean", "low", "high"):
            known = name == "mean"
            found[name] = [
                clip(getattr(one, name), self.figure) if one.count > 1 or (known and one.count) else None
                for one in intervals
            ]
        return found | {"best": [one is best for one in self.variants]}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        rows = [
            {
                "variant": one.variant,
                "runs": {str(seed): figures for seed, figures in one.runs.items()},
                **{name: self.columns[name][place] for name in ("mean", "low", "high")},
            }
            for place, one in enumerate(self.variants)
        ]
        best = self.best
        found = {"figure": self.figure, "runs": self.cells, "done": self.done, "variants": rows}
        return found | {"best": best.variant if best else None, "chosen_on": "validation"}

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for one in self.variants for name in one.variant))
        rows = [["", *names, "seeds", SAID.get(self.figure, self.figure)]]
        for one in self.variants:
            values = [format_value(one.variant[name]) if name in one.variant else "–" for name in names]
            said = format_interval(find_interval(one.take(self.figure).values()), self.figure)
            said += f", {one.diverged} diverged" if one.diverged else ""
            rows.append(["*" if one is self.best else "", *values, f"{len(one.runs)}/{one.seeds}", said])
        lines = align_columns([[strip_hidden(one) for one in row] for row in rows], words=len(rows[0]))
        return "\n".join([*lines, *(f"\n{one}" if not place else one for place, one in enumerate(self.explain()))])

    def explain(self) -> list[str]:
        """Return sentences on the best setting, and on how far it may be believed."""
        best = self.best
        if best is None:
            left = self.cells - self.done
            return [f"{left} of {self.cells} runs are left"] if left else ["no setting has a figure for every seed"]
        said = [f"best: {format_values(best.variant) or 'the only setting'}"]
        if len(self.variants) > 1:
            said.append(
                f"chosen on the validation images, among {len(self.variants)} settings: its figure there flatters. {self._tell_apart(best)}"
            )
        if best.seeds == 1:
            said.append("one seed has no interval; --seeds 3 adds two more to the same folder")
        test = best.take(self.figure, "test")
        if len(test) == best.seeds:
            said.append(
                f"on the test images, which chose nothing: {format_interval(find_interval(test.values()), self.figure)}"
            )
        elif len(self.variants) > 1:
            said.append("no test split has measured it; images that chose nothing would give a fair figure")
        return said

    def _tell_apart(self, best: VariantResult) -> str:
        """Say whether the best setting differs from the next by more than its seeds do."""
        if len(self.ranking) < 2:
            return "No other setting has a figure for every seed"
        other = self.ranking[1]
        found = find_interval(pair_differences(best.take(self.figure), other.take(self.figure)))
        second = format_values(other.variant)
        if found.count < 2:
            return f"Next is {second}"
        # Differences that are equal for all seeds, usual with few images, leave no width to judge by.
        apart = found.high - found.low > ROUNDING and (found.low > 0 or found.high < 0)
        scale, unit = (100, " points") if self.figure == "top1" else (1, "")
        difference = (
            f"{scale * found.mean:+.3g} ({scale * found.low:+.3g} to {scale * found.high:+.3g}){unit}, seed by seed"
        )
        verb = "differs" if apart else "can't be told apart"
        return f"On these images it {verb} from the next, {second}: {difference}"


def clip(value: float, figure: str) -> float:
    """Return an end of an interval, within the range of a share."""
    return min(1.0, max(0.0, value)) if figure in NAMES else value


def format_interval(found: Interval, figure: str) -> str:
    """Format a mean over seeds with its 95% interval."""
    if not found.count:
        return "–"
    mean = format_figure(figure, found.mean)
    if found.count < 2:
        return mean
    low, high = (format_figure(figure, clip(end, figure)) for end in (found.low, found.high))
    return f"{mean} ({low} to {high})"
