"""Likely wrong labels, outliers and confused classes, found from frozen features.

A logistic regression on the features of the other images (out of fold) predicts every image's class. A label that it
finds improbable is likely wrong, or the image is unusual: low self-confidence comes first, as in confident learning
(1911.00068). A finding is confident if another class is more probable than that class is on average for the images
labelled with it, which is that paper's threshold.
"""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.logistic import TOLERANCE, cross_validate, divide
from vitreous.metrics.classification import softmax
from vitreous.shapes import Float64, Int64

FOLDS, REPEATS = 5, 4
GRID = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of l2 to try; the one with the lowest out-of-fold loss is used."""
NEIGHBOURS = 5
SAME = 1e-5
"""Distance up to which an image is a copy of its neighbours, or has none: float32 tells no less apart."""
BLOCK = 1024
"""Images that are compared with all others at once."""


def out_of_fold(found: Features, seed: int = 0) -> Float64[np.ndarray, "example label"]:
    """Return each image's probability of each class, by regressions that learned from other images only.

    The mean over REPEATS divisions into folds, so that less depends on which others an image was grouped with; l2 is
    chosen by the first.
    """
    tried = cross_validate([found], divide(found, FOLDS, seed), GRID, TOLERANCE)
    best = min(tried, key=lambda one: one.loss)
    total = softmax(best.logits.astype(np.float64))
    for other in range(seed + 1, seed + REPEATS):
        (again,) = cross_validate([found], divide(found, FOLDS, other), (best.l2,), TOLERANCE)
        total += softmax(again.logits.astype(np.float64))
    return total / REPEATS


@dataclass(frozen=True)
class WrongLabel:
    """An image whose label is improbable."""

    index: int
    confidence: float
    """Out-of-fold probability of its own label."""
    other: int
    """The most probable class."""
    probability: float
    """Probability of that class."""
    confident: bool
    """Whether it is at least the mean over that class's own images."""


def find_wrong_labels(
    probabilities: Float64[np.ndarray, "example label"], labels: Int64[np.ndarray, " example"]
) -> list[WrongLabel]:
    """Return the images for which another class is more probable, the least probable label first.

    The only image of a class is not among them: no other image could tell the regression what the class looks like.
    """
    own = probabilities[np.arange(len(labels)), labels]
    least = np.array(
        [own[labels == label].mean() if (labels == label).any() else 1.0 for label in range(probabilities.shape[1])]
    )
    other, best = probabilities.argmax(1), probabilities.max(1)
    likely = np.flatnonzero((other != labels) & (np.bincount(labels)[labels] > 1))
    ranked = likely[np.argsort(own[likely], kind="stable")].tolist()
    return [
        WrongLabel(one, float(own[one]), int(other[one]), float(best[one]), bool(best[one] >= least[other[one]]))
        for one in ranked
    ]


def outliers(found: Features) -> list[tuple[float, int]]:
    """Return (distance, index) of the images far from all others of their class, the farthest first.

    The distance is 1 minus the mean cosine, about the mean of all, to the nearest NEIGHBOURS of the class; far is more
    than 5 scaled median deviations above the median, both over the images that have no copies in their class.
    """
    vectors = found.vectors - found.vectors.mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    distance = np.zeros(len(found))
    for label in np.unique(found.labels):
        own = np.flatnonzero(found.labels == label)
        count = min(NEIGHBOURS, len(own) - 1)
        for start in range(0, len(own) if count else 0, BLOCK):
            rows = own[start : start + BLOCK]
            alike = vectors[rows] @ vectors[own].T
            alike[np.arange(len(rows)), start + np.arange(len(rows))] = -np.inf
            distance[rows] = 1 - np.partition(alike, -count, axis=1)[:, -count:].mean(1)
    measured = distance[distance > SAME]
    if not len(measured):
        return []
    middle = float(np.median(measured))
    limit = middle + 5 * 1.4826 * float(np.median(np.abs(measured - middle)))
    far = np.flatnonzero(distance > limit)
    return sorted(((float(distance[index]), int(index)) for index in far), reverse=True)


def pair_nearest(found: Features) -> list[tuple[int, int]]:
    """Return each image with the one whose features are most similar."""
    vectors = found.vectors / np.maximum(np.linalg.norm(found.vectors, axis=1, keepdims=True), 1e-12)
    pairs = []
    for start in range(0, len(found), BLOCK):
        alike = vectors[start : start + BLOCK] @ vectors.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
        pairs += [(start + row, int(col)) for row, col in enumerate(alike.argmax(1))]
    return pairs
