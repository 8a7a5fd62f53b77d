"""What a few seeds support: means with intervals, paired differences, and claims of difference or sameness.

An interval covers seeds and, where a number is a mean over images, images too (`metrics/seeds_and_images.py`). A claim
of a difference, or of sameness within a margin stated beforehand (two one-sided tests, Schuirmann 1987), comes with the
probability of such numbers if it were false. `settle_verdicts` calls it seen or not seen, after Holm's correction
(1979) for all the claims of a study. Anything else can't be told.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from vitreous.metrics.seeds_and_images import Estimate, Scores, estimate

Candidate = TypeVar("Choice", bound=Hashable)
Seen = Literal["seen", "not seen", "can't be told"]
LEVEL = 0.95
"""Confidence level of intervals."""
ROUNDING = 1e-9
"""Smaller differences count as rounding errors."""
ERROR = 0.05
"""The chance that any of a study's verdicts is wrong if there is no effect."""


@dataclass(frozen=True)
class Evidence:
    """How improbable the measured numbers are if a claim were false, and if it were true."""

    seen: float
    """Probability of such numbers if the claim were false, before any correction; if it is small, the claim is seen."""
    unseen: float
    """The same for the opposite of the claim."""


@dataclass(frozen=True)
class Verdict:
    """Whether one of the paper's findings was seen again."""

    claim: str
    """The paper's finding, as a clause: "having position embeddings helps"."""
    evidence: Evidence | None
    """None for a claim that is not decided, whatever the numbers."""
    sentence: str
    """The measurement, with its interval."""
    chance: float = 1.0
    """The smaller of the evidence's probabilities, after Holm's correction for the study's claims."""
    seen: Seen = "can't be told"
    """Set by `settle_verdicts`, for all claims of a study together."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    low: float
    """Minus infinity for a single value, which says nothing about the spread."""
    high: float
    count: int
    """Number of values."""

    def points(self, digits: int = 1) -> str:
        """Format a share in percentage points: "+1.3 (0.4 to 2.2)".

        >>> Interval(0.013, 0.004, 0.022, 3).points()
        '+1.3 (+0.4 to +2.2)'
        """
        shown = f"{100 * self.mean:+.{digits}f}"
        if self.count < 2:
            return f"{shown} (one seed)"
        return f"{shown} ({100 * self.low:+.{digits}f} to {100 * self.high:+.{digits}f})"

    def percent(self, digits: int = 1) -> str:
        """Format a share in percent with the half-width of the interval: "76.8 ± 0.9".

        >>> Interval(0.768, 0.759, 0.777, 5).percent()
        '76.8 ± 0.9'
        """
        if not self.count:
            return "–"
        shown = f"{100 * self.mean:.{digits}f}"
        return shown if self.count < 2 else f"{shown} ± {50 * (self.high - self.low):.{digits}f}"


def find_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Return the mean and its two-sided t interval over seeds and images: NaN without values, unbounded for one."""
    found = list(values)
    mean = estimate(found)
    low, high = mean.within(level) if len(found) > 1 else (-math.inf, math.inf)
    return Interval(mean.mean, low, high, len(found))


def pair_differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Return one minus other for each seed that both have, in the order of the seeds."""
    return list(subtract_paired(one, other).values())


def subtract_paired(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Return one minus other by seed."""
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def average_groups(groups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over groups for each seed that all of them have."""
    if not groups:
        return {}
    shared = set.intersection(*(set(group) for group in groups))
    return {seed: sum(group[seed] for group in groups) / len(groups) for seed in sorted(shared)}


def choose_on_others(found: Mapping[Candidate, Mapping[int, float]]) -> dict[int, Candidate]:
    """Return, for each seed that all choices have, the choice with the highest mean over the other seeds.

    A choice made without the seed on which it is measured gains nothing by that seed's chance, however many alternatives it has. If all
    seeds are measured on the same images it does gain by theirs (docs/studies.md has how much).

    >>> choose_on_others({0.1: {0: 0.9, 1: 0.2, 2: 0.2}, 0.3: {0: 0.1, 1: 0.3, 2: 0.3}})
    {0: 0.3, 1: 0.1, 2: 0.1}
    """
    shared = set.intersection(*(set(values) for values in found.values())) if found else set()
    chosen = {}
    for seed in sorted(shared):
        others = {choice: [values[other] for other in shared - {seed}] for choice, values in found.items()}
        if all(others.values()) or len(found) == 1:
            chosen[seed] = max(others, key=lambda choice: sum(others[choice]))
    return chosen


NOTHING = Evidence(1.0, 1.0)
"""The evidence of too few seeds."""


def floor_rounding(found: Sequence[float]) -> Estimate:
    """Return the estimate of paired differences, with mere rounding errors taken as zero."""
    values = [value if isinstance(value, Scores) or abs(value) > ROUNDING else 0.0 for value in found]
    return estimate(values)


def weigh_claim(found: Sequence[float], expected: Literal["more", "less"], margin: float | None = None) -> Evidence:
    """Weigh paired differences against the claim that they are above, or below, zero.

    The alternative is the opposite, or with a margin, that they lie within it.
    """
    if len(found) < 2:
        return NOTHING
    shown = floor_rounding(found if expected == "more" else [-value for value in found])
    opposite = make_two_sided(shown.below())
    against = opposite if margin is None else min(1.0, 2 * min(opposite, find_equivalence_probability(found, margin)))
    return Evidence(make_two_sided(shown.above()), against)


def make_two_sided(probability: float) -> float:
    """Return the probability of a difference as large in either direction."""
    return min(1.0, 2 * probability)


def find_equivalence_probability(found: Sequence[float], margin: float) -> float:
    """Return the probability that two one-sided tests find differences within ± margin if they are not."""
    shown = floor_rounding(found)
    return max(shown.above(-margin), shown.below(margin)) if len(found) > 1 else 1.0


def find_difference_probability(found: Sequence[float], margin: float) -> float:
    """Return the probability of differences beyond ± margin if they are within it."""
    shown = floor_rounding(found)
    return make_two_sided(min(shown.above(margin), shown.below(-margin))) if len(found) > 1 else 1.0


def weigh_equivalence(found: Sequence[Sequence[float]], margin: float) -> Evidence:
    """Weigh several paired differences against the claim that all of them are within ± margin."""
    return combine_evidence(
        [Evidence(find_equivalence_probability(one, margin), find_difference_probability(one, margin)) for one in found]
    )


def weigh_above(found: Sequence[float]) -> Evidence:
    """Weigh numbers against the one-sided claim that their mean is above zero."""
    return Evidence(floor_rounding(found).above(), floor_rounding(found).below()) if len(found) > 1 else NOTHING


def combine_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence that all of several claims are true: the weakest for it, and the strongest against it.

    >>> combine_evidence([Evidence(0.01, 1.0), Evidence(0.2, 1.0)]), combine_evidence([Evidence(0.01, 1.0), Evidence(1.0, 0.02)])
    (Evidence(seen=0.2, unseen=1.0), Evidence(seen=1.0, unseen=0.04))
    """
    if not parts:
        return NOTHING
    return Evidence(max(one.seen for one in parts), min(1.0, len(parts) * min(one.unseen for one in parts)))


def settle_verdicts(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Decide every claim of a study, after Holm's correction for their number.

    Claims are taken in descending order of certainty. Of k claims, the first counts if k times its probability is at
    most 5%, the next if k - 1 times its own is, and so on until one does not.
    """
    claims = [one for one in verdicts if one.evidence is not None]
    corrected = correct_holm(
        [min(one.evidence.seen, one.evidence.unseen) for one in claims if one.evidence is not None]
    )
    settled = iter(
        [replace(one, chance=chance, seen=decide(one, chance)) for one, chance in zip(claims, corrected, strict=True)]
    )
    return [one if one.evidence is None else next(settled) for one in verdicts]


def correct_holm(chances: Sequence[float]) -> list[float]:
    """Return probabilities corrected for their number (Holm, 1979).

    >>> correct_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [1.0] * len(chances), 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        corrected[index] = highest
    return corrected


def decide(verdict: Verdict, chance: float) -> Seen:
    """Decide a claim with this corrected probability."""
    if verdict.evidence is None or chance > ERROR:
        return "can't be told"
    return "seen" if verdict.evidence.seen <= verdict.evidence.unseen else "not seen"


def weigh_difference(
    claim: str, words: str, one: Mapping[int, float], other: Mapping[int, float], paper: str = ""
) -> list[Verdict]:
    """Return the verdict on a claim that one condition's values, by seed, are above another's; none without a seed of both.

    Args:
        claim: the claim.
        words: what is subtracted from what: "ViT minus ResNet".
        one: shares, 0 to 1, of the condition that should be better.
        other: those of the other.
        paper: the paper's difference in points, if it has one.
    """
    gain = pair_differences(one, other)
    if not gain:
        return []
    said = f" (paper: {paper})" if paper else ""
    return [Verdict(claim, weigh_claim(gain, "more"), f"{words}: {find_interval(gain).points()} points{said}.")]


def note_grid_edges(chosen: Mapping[str, Mapping[int, float]], grids: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return a note for each condition whose chosen value is, for some seed, the smallest or largest of several tried.

    >>> note_grid_edges({"Adam": {0: 0.1, 1: 0.3}}, {"Adam": (0.1, 0.3, 1.0)})
    ('The best rate for Adam, 0.1, is the lowest that was tried: a better one may lie beyond.',)
    """
    return tuple(
        f"The best rate for {name}, {end:g}, is the {word} that was tried: a better one may lie beyond."
        for name, by_seed in chosen.items()
        for end, word in ((min(grids[name]), "lowest"), (max(grids[name]), "highest"))
        if end in by_seed.values() and len(grids[name]) > 1
    )
