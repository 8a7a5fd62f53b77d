"""What may be concluded from a few seeds: means with t intervals, paired differences, difference and sameness.

A difference is called only when its 95% interval says so, sameness only when a difference is shown to be within a margin
that was stated before (two one-sided tests at 5% each, Schuirmann 1987). Anything else can't be told.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from vitreous.studies.study import Seen

LEVEL = 0.95
"""Of intervals."""
ROUNDING = 1e-9
"""What is smaller than this is no difference but the computer's rounding."""
ERROR = 0.05
"""Of each of the two tests for sameness."""


@dataclass(frozen=True)
class Interval:
    """A mean and where it may lie."""

    mean: float
    low: float
    """Minus infinity where a single value says nothing of the spread."""
    high: float
    count: int
    """Values."""

    def points(self, digits: int = 1) -> str:
        """Write a share in percentage points: "+1.3 (0.4 to 2.2)".

        >>> Interval(0.013, 0.004, 0.022, 3).points()
        '+1.3 (+0.4 to +2.2)'
        """
        shown = f"{100 * self.mean:+.{digits}f}"
        if self.count < 2:
            return f"{shown} (one seed)"
        return f"{shown} ({100 * self.low:+.{digits}f} to {100 * self.high:+.{digits}f})"

    def percent(self, digits: int = 1) -> str:
        """Write a share in percent with half of the interval: "76.8 ± 0.9".

        >>> Interval(0.768, 0.759, 0.777, 5).percent()
        '76.8 ± 0.9'
        """
        if not self.count:
            return "–"
        shown = f"{100 * self.mean:.{digits}f}"
        return shown if self.count < 2 else f"{shown} ± {50 * (self.high - self.low):.{digits}f}"


def interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Return the mean and its two-sided t interval; of no values: NaN, of one: without bounds."""
    found = np.asarray(list(values), dtype=np.float64)
    if len(found) < 2:
        mean = float(found[0]) if len(found) else math.nan
        return Interval(mean, -math.inf, math.inf, len(found))
    mean = float(found.mean())
    half = float(stats.t.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Interval(mean, mean - half, mean + half, len(found))


def differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Return one minus other for each seed that both have, in the order of the seeds."""
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]


def average(groups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over groups for each seed that all of them have."""
    if not groups:
        return {}
    shared = set.intersection(*(set(group) for group in groups))
    return {seed: float(np.mean([group[seed] for group in groups])) for seed in sorted(shared)}


def best_on_others(found: Mapping[float, Mapping[int, float]]) -> dict[int, float]:
    """Return, for each seed that all choices have, the choice whose mean over the other seeds is highest.

    A choice that is made without the seed it is measured on favours no condition, however many choices it has.

    >>> best_on_others({0.1: {0: 0.9, 1: 0.2, 2: 0.2}, 0.3: {0: 0.1, 1: 0.3, 2: 0.3}})
    {0: 0.3, 1: 0.1, 2: 0.1}
    """
    shared = set.intersection(*(set(values) for values in found.values())) if found else set()
    chosen = {}
    for seed in sorted(shared):
        others = {choice: [values[other] for other in shared - {seed}] for choice, values in found.items()}
        if all(others.values()):
            chosen[seed] = max(others, key=lambda choice: sum(others[choice]))
    return chosen


def compare(found: Sequence[float]) -> Literal["more", "less", "open"]:
    """Tell whether paired differences are above or below zero, by their 95% interval."""
    around = interval(found)
    if around.low > ROUNDING:
        return "more"
    return "less" if around.high < -ROUNDING else "open"


def within(found: Sequence[float], margin: float) -> Literal["same", "apart", "open"]:
    """Tell whether paired differences are shown to be within ± margin, or beyond it.

    same: both one-sided t tests at 5% reject a difference of the margin or more, that is, the 90% interval lies inside.
    apart: the 95% interval lies wholly outside.
    """
    inner, outer = interval(found, 1 - 2 * ERROR), interval(found)
    if -margin < inner.low and inner.high < margin:
        return "same"
    return "apart" if outer.low > margin or outer.high < -margin else "open"


def judged(found: Sequence[float], expected: Literal["more", "less"], margin: float | None = None) -> Seen:
    """Hold paired differences against a claim that they are more, or less, than zero.

    Not seen: the opposite is shown, or with a margin, that they are within it and not as expected.
    """
    shown = compare(found)
    if shown == expected:
        return "seen"
    if shown != "open" or (margin is not None and within(found, margin) == "same"):
        return "not seen"
    return "can't be told"


def both(one: Seen, other: Seen) -> Seen:
    """Return what is to be said of two claims together.

    >>> both("seen", "seen"), both("seen", "can't be told"), both("not seen", "can't be told")
    ('seen', "can't be told", 'not seen')
    """
    if "not seen" in (one, other):
        return "not seen"
    return "seen" if one == other == "seen" else "can't be told"


def beyond(chosen: Mapping[str, Mapping[int, float]], grids: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return a note for each condition whose chosen value is, for some seed, the smallest or largest that was tried.

    >>> beyond({"Adam": {0: 0.1, 1: 0.3}}, {"Adam": (0.1, 0.3, 1.0)})
    ('The best rate for Adam, 0.1, is the lowest that was tried: a better one may lie beyond.',)
    """
    return tuple(
        f"The best rate for {name}, {end:g}, is the {word} that was tried: a better one may lie beyond."
        for name, by_seed in chosen.items()
        for end, word in ((min(grids[name]), "lowest"), (max(grids[name]), "highest"))
        if end in by_seed.values()
    )


def judged_same(found: Sequence[Sequence[float]], margin: float) -> Seen:
    """Hold several paired differences against the claim that all of them are within ± margin."""
    shown = [within(one, margin) for one in found]
    if shown and all(one == "same" for one in shown):
        return "seen"
    return "not seen" if "apart" in shown else "can't be told"
