"""`vitreous.runs`: the runs under a folder as a table, and the settings in which they differ. It reads runs as the
board does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitreous.errors import UnknownName
from vitreous.metrics.headline import format_named
from vitreous.runtime.data_frames import Tabular
from vitreous.runtime.display import Shown, align_columns, strip_hidden
from vitreous.serving.board.address import SORTS, View
from vitreous.serving.board.folder import Folder
from vitreous.serving.board.runs import BoardRun, Runs, list_settings

LONGEST = 40
"""Number of characters of a setting's value that are shown."""
MOST_COLUMNS = 4
"""Number of differing settings that become columns of the table; `differences` and the side-by-side view have all."""


@dataclass(frozen=True)
class RunSummary:
    """The state of a run, as read from its folder."""

    name: str
    """Its path below the folder."""
    state: str
    """running, interrupted, finished or diverged."""
    step: int
    steps: int
    """Planned steps; 0: not known."""
    figure: str | None
    """The figure that decides which evaluation is best: top1, map or loss; None before the first."""
    value: float | None
    interval: tuple[float, float] | None
    """95% interval of an accuracy (Wilson), for the images it was measured on."""
    settings: dict[str, Any] = field(repr=False)
    """Settings by dotted name."""
    problem: str = ""
    """Why the run broke off, or can't be read."""
    learned: bool = False
    """Whether the run was evaluated on images that it learned from."""

    @classmethod
    def take(cls, run: BoardRun) -> "RunSummary":
        """Return a summary of what the board knows about a run."""
        figure, value = run.figure or (None, None)
        problem = run.problem or run.reason
        return cls(
            run.title, run.state, run.step, run.steps, figure, value, run.interval, run.settings, problem, run.learned
        )

    @property
    def best(self) -> str:
        """The best evaluation in words."""
        if self.figure is None or self.value is None:
            return "–"
        said = format_named(self.figure, self.value)
        if self.learned:
            return f"{said} (on images that it learned from)"
        return said if self.interval is None else f"{said} ({self.interval[0]:.1%} to {self.interval[1]:.1%})"


@dataclass(frozen=True, repr=False)
class RunsResult(Shown, Tabular):
    """Runs, and the settings in which they differ."""

    folder: Path
    runs: tuple[RunSummary, ...]
    differences: dict[str, list[Any]]
    """The settings that aren't the same in all runs, by name: each run's value, or None if it has none."""
    side_by_side: bool = False
    """Whether every setting is shown, those that differ first."""

    @property
    def columns(self) -> dict[str, list[Any]]:
        """One row per run: name, state, step, steps, figure, value, low, high, and the settings that differ."""
        names = ("name", "state", "step", "steps", "figure", "value")
        found: dict[str, list[Any]] = {name: [getattr(one, name) for one in self.runs] for name in names}
        for place, end in enumerate(("low", "high")):
            found[end] = [one.interval[place] if one.interval else None for one in self.runs]
        return found | self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return the runs with all their settings, and those that differ, as JSON values."""
        return {"runs": [vars(one) for one in self.runs], "differences": self.differences}

    def __str__(self) -> str:
        if not self.runs:
            return f"no runs in {self.folder}"
        return self._format_settings() if self.side_by_side else self._format_rows()

    def _format_rows(self) -> str:
        shown = list(self.differences)[:MOST_COLUMNS]
        rows = [["run", "state", "step", "best", *shown]]
        for place, one in enumerate(self.runs):
            step = f"{one.step:,}/{one.steps:,}" if one.steps else f"{one.step:,}"
            rows.append(
                [one.name, one.state, step, one.best, *(shorten(self.differences[name][place]) for name in shown)]
            )
        lines = align(rows)
        more = len(self.differences) - len(shown)
        if more > 0:
            lines.append(f"\n{more:,} more settings differ: name runs with --compare, or use --json")
        lines += [strip_hidden(f"{one.name}: {one.problem}") for one in self.runs if one.problem]
        return "\n".join(lines)

    def _format_settings(self) -> str:
        names = list(dict.fromkeys(name for one in self.runs for name in one.settings))
        names.sort(key=lambda name: name not in self.differences)
        rows = [["", *(one.name for one in self.runs)]]
        rows += [["  best", *(one.best for one in self.runs)], ["  state", *(one.state for one in self.runs)]]
        for name in names:
            mark = "*" if name in self.differences else " "
            rows.append([f"{mark} {name}", *(shorten(one.settings.get(name)) for one in self.runs)])
        return "\n".join(align(rows))


def shorten(value: Any) -> str:
    """Return a setting's value in one short line."""
    said = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with the same number of fields as lines with aligned columns."""
    return align_columns([[strip_hidden(one) for one in row] for row in rows], words=len(rows[0]))


def runs(
    folder: str | Path = "runs", *, find: str = "", sort: str = "newest", compare: Sequence[str] = ()
) -> RunsResult:
    """List the runs under a folder, and the settings in which they differ. It only reads.

    >>> print(vitreous.runs("runs", sort="best"))                                        # doctest: +SKIP
    >>> vitreous.runs("runs", compare=["photos-small-1", "photos-small-2"]).differences     # doctest: +SKIP

    Args:
        folder: a folder of run folders, at any depth. Links in it are not followed.
        find: only runs whose name, recipe, data or state contains these words.
        sort: newest, name, best or state.
        compare: only these runs, by name, with all their settings side by side; those that differ are marked.

    Raises:
        ConfigError: no such folder. UnknownName: no such run, or order.
    """
    if sort not in SORTS:
        raise UnknownName("order", sort, tuple(SORTS))
    known = Runs(Folder(folder))
    known.refresh(0.0)
    left = 0
    while known.unread != left:  # a line that is still being written stays unread
        left = known.unread
        known.refresh(0.0)
    chosen = View(find=find, sort=sort).choose_rows(known)
    if compare:
        named = {run.title: run for run in known.by_name.values()}
        for name in compare:
            if name not in named:
                raise UnknownName("run", name, tuple(named))
        chosen = [named[name] for name in dict.fromkeys(compare)]
    differences = {name: values for name, values, differs in list_settings(chosen) if differs}
    return RunsResult(known.folder.path, tuple(map(RunSummary.take, chosen)), differences, bool(compare))
