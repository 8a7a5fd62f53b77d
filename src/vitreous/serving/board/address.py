"""What a board shows, as its address says it: a view is shared by copying that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from vitreous.serving.board.runs import BoardRun, Runs

MOST_RUNS = 6
"""Runs side by side: as many as the palette has colours."""
FOLLOWED = 3
"""Newest runs that are shown where none is chosen."""
ROWS = 50
"""Runs on one page of the table."""
SMOOTHING = (0, 2, 5, 10, 20)
"""Percent of a line's points over which its running mean goes."""
Sort = Literal["newest", "name", "best", "state"]
SORTS: dict[str, str] = {"newest": "newest first", "name": "by name", "best": "best first", "state": "by state"}
STATES = ("running", "diverged", "interrupted", "finished")


@dataclass(frozen=True)
class View:
    """The choices of one reader."""

    runs: tuple[str, ...] = ()
    """Names of the runs side by side; none: the newest."""
    find: str = ""
    """Words that a run's name, recipe, data or state must have."""
    sort: str = "newest"
    smooth: int = 5
    log: bool = False
    """Logarithmic losses and rates."""
    by: Literal["epoch", "step"] = "epoch"
    page: int = 1

    @classmethod
    def read(cls, query: Mapping[str, Sequence[str]]) -> "View":
        """Read an address's query; what it can't be is as if it weren't there."""
        one = {name: values[-1] for name, values in query.items() if values}

        def number(name: str, default: int) -> int:
            given = one.get(name, "")
            return int(given) if given.isascii() and given.isdigit() and len(given) < 7 else default

        smooth = number("smooth", cls.smooth)
        return cls(
            tuple(dict.fromkeys(query.get("run", ())))[:MOST_RUNS],
            one.get("find", "")[:200],
            one.get("sort", "") if one.get("sort") in SORTS else cls.sort,
            smooth if smooth in SMOOTHING else cls.smooth,
            one.get("log") == "1",
            "step" if one.get("by") == "step" else "epoch",
            max(1, number("page", 1)),
        )

    @property
    def query(self) -> str:
        """The query of its address."""
        pairs = [("run", name) for name in self.runs]
        pairs += [
            (name, str(int(value) if value is True else value))
            for name, value in vars(self).items()
            if name != "runs" and value != getattr(View, name)
        ]
        return urlencode(pairs)

    def turn(self, page: int) -> str:
        """Return the query of another page of the table."""
        return replace(self, page=page).query

    def choose_rows(self, runs: Runs) -> list[BoardRun]:
        """Return all runs that fit, in their order."""
        words = self.find.lower().split()
        found = [run for run in runs.all if all(word in describe(run) for word in words)]
        found.sort(key=lambda run: run.title)
        if self.sort == "newest":
            found.sort(key=lambda run: -run.metrics.changed)
        elif self.sort == "state":
            found.sort(key=lambda run: STATES.index(run.state))
        elif self.sort == "best":
            found.sort(key=rank)
        return found

    def choose_shown(self, runs: Runs, rows: Sequence[BoardRun]) -> list[BoardRun]:
        """Return the runs side by side."""
        if self.runs:
            return [runs.by_name[name] for name in self.runs if name in runs.by_name]
        return sorted(rows, key=lambda run: -run.metrics.changed)[:FOLLOWED]


def describe(run: BoardRun) -> str:
    """Return what a search looks in."""
    told = (
        run.title,
        run.state,
        run.settings.get("recipe"),
        run.settings.get("data.path"),
        run.settings.get("weights"),
    )
    return " ".join(str(one) for one in told if one).lower()


def rank(run: BoardRun) -> tuple[int, float]:
    """Return the sort key for the best first: by accuracy or average precision, then those with only a loss, those measured on images that they
    learned from, and the rest."""
    if run.figure is None:
        return (3, 0.0)
    name, value = run.figure
    place, key = (1, value) if name == "loss" else (0, -value)
    return (2 if run.learned else place, key)
