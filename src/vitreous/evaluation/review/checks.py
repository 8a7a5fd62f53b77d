"""A review of labelled image files: what each check found, in the order in which a person should look."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.data.sources.files import FileSource
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.review.duplicates import near_duplicates
from vitreous.evaluation.review.labels import nearest_pairs, out_of_fold, outliers, wrong_labels
from vitreous.evaluation.review.pictures import Look

WRONG, DUPLICATE, OUTLIER = "label", "near-duplicate", "outlier"
SMALL, BLURRED, FLAT = "too small", "blurred", "one colour"
FLAT_CONTRAST = 3.0
"""Standard deviation, in grey levels, below which an image is of one colour."""
SMALL_SHARE = 0.25
"""Of the median shorter side: what is shorter is too small."""
BLURRED_SHARE = 0.04
"""Of the median sharpness."""
IMBALANCE = 10
"""Times as many images as the smallest class from which that is said of the largest."""


@dataclass(frozen=True)
class Finding:
    """Something about one image that a person should look at."""

    kind: str
    index: int
    """The image, counted through all splits."""
    score: float
    """label: out-of-fold probability of its label; near-duplicate: correlation; outlier: distance; too small: shorter side in
    pixels; blurred: variance of the Laplacian; one colour: standard deviation."""
    other: int = -1
    """near-duplicate: the image that it is like; label: the class that is more probable."""
    leave_out: bool = False
    """A cleaned manifest is without it."""


@dataclass(frozen=True, eq=False)
class Review:
    """What was found in labelled images, and what they are."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    confused: tuple[tuple[str, str, int], ...]
    """(label, taken for, images) by the regression on features, the most frequent first."""
    unbalanced: tuple[str, int, str, int] | None
    """(largest class, images, smallest class, images) where they differ much."""

    def of(self, kind: str) -> list[Finding]:
        """Return what a check found, the worst first."""
        return [one for one in self.findings if one.kind == kind]


def review_images(
    sources: Mapping[str, FileSource], looks: Sequence[Look], features: Features | None, tell: Callable[[str], None]
) -> Review:
    """Compare all images of all splits with each other.

    Args:
        sources: the images by split.
        looks: of all images, split after split.
        features: of all images in the same order; None: what needs them is left out.
        tell: told what is being done.
    """
    splits = tuple(split for split, source in sources.items() for _ in range(len(source)))
    names = tuple(name for source in sources.values() for name in source.names)
    labels = tuple(source.classes[label] for source in sources.values() for label in source.labels)
    tell("looking for near-duplicates")
    findings = find_duplicates(looks, splits, nearest_pairs(features) if features is not None else [])
    confused: tuple[tuple[str, str, int], ...] = ()
    if features is not None:
        tell("asking for each label from the other images")
        probabilities = out_of_fold(features)
        wrong = wrong_labels(probabilities, features.labels)
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
    """Return near-duplicates across splits first, then within; of a pair the one to leave out: across splits that which is trained on, or chosen by."""
    first: dict[bytes, int] = {}
    same = [(first.setdefault(look.digest, index), index) for index, look in enumerate(looks)]
    exact = [(1.0, one, other) for one, other in same if one != other]
    known = {pair[1:] for pair in exact}
    near = near_duplicates([look.grey for look in looks], candidates)
    found = []
    for score, one, other in [*exact, *(pair for pair in near if pair[1:] not in known)]:
        gone, stays = (one, other) if rank_split(splits[one]) < rank_split(splits[other]) else (other, one)
        found.append(Finding(DUPLICATE, gone, score, stays, True))
    return sorted(found, key=lambda one: (splits[one.index] == splits[one.other], -one.score))


def rank_split(split: str) -> int:
    """Return how little images of a split may be spared: those that are trained on most, those of the test least."""
    return ("train", "validation", "test").index(split) if split else 0


def find_unusable(looks: Sequence[Look]) -> list[Finding]:
    """Return what is too small, blurred or of one colour, the worst first."""
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
