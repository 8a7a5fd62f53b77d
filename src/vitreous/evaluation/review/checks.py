"""A review of labelled image files: the findings of each check, in the order in which to look at them."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitreous.data.sources.files import FileSource
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.review.duplicates import find_near_duplicates
from vitreous.evaluation.review.labels import find_wrong_labels, out_of_fold, outliers, pair_nearest
from vitreous.evaluation.review.pictures import Look

WRONG, DUPLICATE, OUTLIER = "label", "near-duplicate", "outlier"
SMALL, BLURRED, FLAT = "too small", "blurred", "one colour"
FLAT_CONTRAST = 3.0
"""Standard deviation, in grey levels, below which an image is of one colour."""
SMALL_SHARE = 0.25
"""Share of the median shorter side below which an image is too small."""
BLURRED_SHARE = 0.04
"""Share of the median sharpness below which an image is blurred."""
IMBALANCE = 10
"""Ratio of the largest to the smallest class from which imbalance is reported."""


@dataclass(frozen=True)
class Finding:
    """Something about one image that the user should look at."""

    kind: str
    index: int
    """The image's index, across all splits."""
    score: float
    """label: out-of-fold probability of its label; near-duplicate: correlation; outlier: distance; too small: shorter side in
    pixels; blurred: variance of the Laplacian; one colour: standard deviation."""
    other: int = -1
    """near-duplicate: the other image; label: the more probable class."""
    leave_out: bool = False
    """Whether a cleaned manifest leaves it out."""


@dataclass(frozen=True, eq=False)
class Review:
    """The findings about labelled images, and the images themselves."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    confused: tuple[tuple[str, str, int], ...]
    """(label, confused with, images) by the regression on features, the most frequent first."""
    unbalanced: tuple[str, int, str, int] | None
    """(largest class, images, smallest class, images) if they differ much."""

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of a check, the worst first."""
        return [one for one in self.findings if one.kind == kind]


def review_images(
    sources: Mapping[str, FileSource], looks: Sequence[Look], features: Features | None, tell: Callable[[str], None]
) -> Review:
    """Compare all images of all splits with each other.

    Args:
        sources: the images by split.
        looks: of all images, split by split.
        features: of all images in the same order; None: checks that need them are left out.
        tell: called with the name of the current step.
    """
    splits = tuple(split for split, source in sources.items() for _ in range(len(source)))
    names = tuple(name for source in sources.values() for name in source.names)
    labels = tuple(source.classes[label] for source in sources.values() for label in source.labels)
    tell("looking for near-duplicates")
    findings = find_duplicates(looks, splits, pair_nearest(features) if features is not None else [])
    confused: tuple[tuple[str, str, int], ...] = ()
    if features is not None:
        tell("predicting each label from the other images")
        probabilities = out_of_fold(features)
        wrong = find_wrong_labels(probabilities, features.labels)
        findings += [Finding(WRONG, one.index, one.confidence, one.other, one.confident) for one in wrong]
        findings += [Finding(OUTLIER, index, distance) for distance, index in outliers(features)]
        pairs = Counter(zip(features.labels.tolist(), probabilities.argmax(1).tolist(), strict=True))
        apart = [(features.classes[a], features.classes[b], count) for (a, b), count in pairs.items() if a != b]
        confused = tuple(sorted(apart, key=lambda one: (-one[2], one[:2])))
    findings += find_unusable(looks)
    counts = Counter(labels).most_common()
    (most, large), (least, small) = counts[0], counts[-1]
    unbalanced = (most, large, least, small) if large >= IMBALANCE * small else None
    return Review(names, splits, labels, tuple(sorted(set(labels))), tuple(findings), confused, unbalanced)


def find_duplicates(
    looks: Sequence[Look], splits: Sequence[str], candidates: Sequence[tuple[int, int]]
) -> list[Finding]:
    """Return near-duplicates across splits first, then within; of a pair across splits, leave out the one for
    training or choices.

    An image is left out for one that stays: of a chain, in which each resembles the next alone, not all but one are.
    """
    first: dict[bytes, int] = {}
    same = [(first.setdefault(look.digest, index), index) for index, look in enumerate(looks)]
    exact = [(1.0, one, other) for one, other in same if one != other]
    known = {pair[1:] for pair in exact}
    near = find_near_duplicates([look.grey for look in looks], candidates)
    found = []
    for score, one, other in [*exact, *(pair for pair in near if pair[1:] not in known)]:
        gone, stays = (one, other) if rank_split(splits[one]) < rank_split(splits[other]) else (other, one)
        found.append(Finding(DUPLICATE, gone, score, stays))
    found.sort(key=lambda one: (splits[one.index] == splits[one.other], -rank_split(splits[one.other]), -one.score))
    return sorted(_leave_out(found, splits), key=lambda one: (splits[one.index] == splits[one.other], -one.score))


def _leave_out(found: Sequence[Finding], splits: Sequence[str]) -> Iterator[Finding]:
    """Mark what is left out, pair by pair: nothing for an image that is left out itself, and of one split rather the image for
    which none was."""
    lost, kept = set[int](), set[int]()
    for one in found:
        if one.index in lost or one.other in lost:
            yield one
            continue
        if one.index in kept and one.other not in kept and splits[one.index] == splits[one.other]:
            one = replace(one, index=one.other, other=one.index)
        lost.add(one.index)
        kept.add(one.other)
        yield replace(one, leave_out=True)


def rank_split(split: str) -> int:
    """Return how readily images of a split may be left out: those for training most, those of the test split least."""
    return ("train", "validation", "test").index(split) if split else 0


def find_unusable(looks: Sequence[Look]) -> list[Finding]:
    """Return images that are too small, blurred or of one colour, the worst first."""
    sides = np.array([min(look.size.rows, look.size.cols) for look in looks], float)
    sharp = np.array([look.sharpness for look in looks])
    contrast = np.array([look.contrast for look in looks])
    flat = contrast < FLAT_CONTRAST
    checks = (
        (SMALL, sides, sides < SMALL_SHARE * np.median(sides)),
        (BLURRED, sharp, ~flat & (sharp < BLURRED_SHARE * np.median(sharp))),
        (FLAT, contrast, flat),
    )
    return [
        Finding(kind, int(index), float(values[index]), leave_out=kind == FLAT)
        for kind, values, bad in checks
        for index in sorted(np.flatnonzero(bad), key=lambda index: (values[index], index))
        if math.isfinite(values[index])
    ]
