"""Few-shot accuracy as the authors measure it: least squares on the frozen features of a few images of each class.

For each seed, `numpy.random.default_rng(seed)` shuffles the training images of each class in turn, and the first 1, 5,
10 ... of each are used: more shots include the fewer ones (big_vision, `evaluators/fewshot_lsr.py`; 3 seeds, l2 =
2^10). If a class has too few images, the authors use all it has; here that is an error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.probes.features import Features, match
from vitreous.evaluation.probes.least_squares import CHUNK, Readout, check_l2, fit, fit_streaming, whiten
from vitreous.metrics.classification import find_indices, wilson_interval
from vitreous.metrics.seeds_and_images import Scores, estimate
from vitreous.shapes import Bool, Int64

SHOTS = (1, 5, 10, 25)
L2 = 2.0**10
"""The authors' fixed regularisation."""
L2_GRID = tuple(2.0**power for power in range(-10, 21))
"""The grid for choosing l2."""
ALL = "all"
Shots = int | Literal["all"]


@dataclass(frozen=True)
class Shot:
    """Accuracy with some number of images of each class."""

    shots: Shots
    mean: float
    """Mean over the seeds."""
    interval: tuple[float, float]
    """95% interval of the mean over seeds and test images (see `seeds_and_images`); for a single seed, for "all", and
    where all answers are right, or none is, Wilson's over the test images."""
    accuracies: tuple[float, ...]
    """Accuracy of each seed: 0, 1, 2, ..."""
    l2: tuple[float, ...]
    """The strength of regularisation that each seed used."""
    predicted: tuple[Int64[np.ndarray, " example"], ...]
    """The class that each seed predicts for each test image."""


@dataclass(frozen=True)
class FewShot:
    """Accuracy at each number of shots."""

    shots: tuple[Shot, ...]
    examples: int
    """Number of test images."""

    def at(self, shots: Shots) -> Shot:
        """Return the accuracy at one number of shots; raises KeyError."""
        return {one.shots: one for one in self.shots}[shots]


def few_shot(
    train: Features,
    test: Features,
    classes: Sequence[str] | None = None,
    shots: Sequence[Shots] = SHOTS,
    l2: float | Sequence[float] = L2,
    seeds: int = 3,
) -> FewShot:
    """Measure few-shot accuracy.

    Args:
        train: features to draw the shots from.
        test: features to measure on.
        classes: those to distinguish, all of them by default; images of others are left out.
        shots: images of each class, in any order: the most are the last of the result; "all" learns from every training image, in one
            pass over the features.
        l2: regularisation. Of several values each seed uses the one that is best on the training images it did not draw
            (among equal ones the largest); the test images are not involved.
        seeds: number of draws.

    Raises:
        DataError: a class with too few images, parts that don't match, or no images left for choosing l2.
        ConfigError: shots, seeds or l2 out of range.
    """
    if classes is not None:
        train, test = select_classes(train, classes), select_classes(test, classes)
    test = match(train, test)
    grid = sorted([l2] if isinstance(l2, (int, float)) else l2)
    check_l2(grid)
    check_shots(train, shots, seeds)
    found = []
    for one in sorted(set(shots), key=lambda one: math.inf if one == ALL else one):
        draws = [fit_all(train, grid)] if one == ALL else [fit_drawn(train, one, grid, seed) for seed in range(seeds)]
        predicted = tuple(readout.predict(test.vectors) for readout, _ in draws)
        accuracies = tuple(float((labels == test.labels).mean()) for labels in predicted)
        interval = compute_interval([labels == test.labels for labels in predicted])
        strengths = tuple(float(strength) for _, strength in draws)
        found.append(Shot(one, float(np.mean(accuracies)), interval, accuracies, strengths, predicted))
    return FewShot(tuple(found), len(test))


def select_classes(part: Features, classes: Sequence[str]) -> Features:
    """Return the images of some classes; raises ConfigError for an unknown class."""
    unknown = [name for name in classes if name not in part.classes]
    if unknown:
        raise ConfigError(f"the features have no class {unknown[0]!r}; they have {', '.join(part.classes[:12])}")
    if tuple(classes) == part.classes:
        return part
    own = find_indices(part.classes, classes)[part.labels]
    chosen = part.take(np.flatnonzero(own >= 0))
    return Features(chosen.vectors, own[own >= 0], chosen.names, tuple(classes))


def check_shots(train: Features | Source, shots: Sequence[Shots], seeds: int) -> None:
    """Raise ConfigError for invalid shots or seeds, and DataError if these images don't have enough."""
    numbers = [one for one in shots if one != ALL]
    if not shots or any(isinstance(one, str) or one < 1 for one in numbers) or seeds < 1:
        given = ", ".join(map(str, shots)) or "none"
        raise ConfigError(f"shots are {given} and seeds {seeds}; each must be at least 1 (or 'all', for shots)")
    counts = np.bincount(train.labels, minlength=len(train.classes))
    most = max((one for one in numbers if not isinstance(one, str)), default=0)
    short = [(train.classes[label], int(count)) for label, count in enumerate(counts) if 0 < count < most]
    if short:
        listed = ", ".join(f"{name!r} has {count:,}" for name, count in short[:5])
        more = f" (and {len(short) - 5} more classes have too few)" if len(short) > 5 else ""
        least = min(count for _, count in short)
        raise DataError(
            f"{most} shots need {most} training images of each class, but {listed}{more}; use at most {least} shots"
        )


def draw(train: Features, shots: int, seed: int) -> Int64[np.ndarray, " chosen"]:
    """Return which training images a seed draws, class by class."""
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(train.labels == label)) for label in range(len(train.classes))]
    return np.concatenate([indices[:shots] for indices in by_class])


def fit_drawn(train: Features, shots: int, grid: Sequence[float], seed: int) -> tuple[Readout, float]:
    """Fit the images drawn with a seed; return the readout and its l2."""
    chosen = draw(train, shots, seed)
    readouts = fit(train.vectors[chosen], train.labels[chosen], len(train.classes), grid)
    if len(grid) == 1:
        return readouts[0], grid[0]
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    best = choose_best(readouts, train, rest)
    return readouts[best], grid[best]


def fit_all(train: Features, grid: Sequence[float]) -> tuple[Readout, float]:
    """Fit all training images in one pass, choosing the l2 that is best on a fifth of each class."""
    strength = choose_strength(train, grid, hold_out(train.labels, 0.2, seed=0)) if len(grid) > 1 else grid[0]
    return fit_streaming(pieces(train, np.arange(len(train))), len(train.classes), [strength])[0], strength


def choose_strength(train: Features, grid: Sequence[float], held: Bool[np.ndarray, " example"]) -> float:
    """Return the l2 that is best on the held-out images when the others are fitted."""
    indices = np.arange(len(train))
    readouts = fit_streaming(pieces(train, indices[~held]), len(train.classes), grid)
    return grid[choose_best(readouts, train, indices[held])]


def pieces(train: Features, indices: Int64[np.ndarray, " chosen"]):
    """Yield (vectors, labels) of these images, a chunk at a time."""
    for first in range(0, len(indices), CHUNK):
        chunk = indices[first : first + CHUNK]
        yield train.vectors[chunk], train.labels[chunk]


def choose_best(readouts: Sequence[Readout], train: Features, held: Int64[np.ndarray, " held"]) -> int:
    """Return the best readout on these training images, the last (largest l2) among equal ones; raises DataError.

    The readouts are of one fit, so they share the same whitening.
    """
    if not len(held):
        raise DataError("no training images are left to choose l2 by; give a single l2, or fewer shots")
    right = np.zeros(len(readouts), np.int64)
    for vectors, labels in pieces(train, held):
        x = whiten(vectors, readouts[0].mean, readouts[0].std)
        right += [int(((x @ one.weights).argmax(1) == labels).sum()) for one in readouts]
    return int(len(right) - 1 - right[::-1].argmax())


def hold_out(labels: Int64[np.ndarray, " example"], share: float, seed: int) -> np.ndarray:
    """Return which images are held out: a share of each class, rounded, but never all of it."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        held[own[: min(round(share * len(own)), len(own) - 1)]] = True
    return held


def compute_interval(right: Sequence[Bool[np.ndarray, " image"]]) -> tuple[float, float]:
    """Return the 95% interval of the mean accuracy, from the test images that each seed classifies correctly.

    Over seeds and images; for one seed, and where answers don't vary at all, Wilson's over the images.
    """
    found = estimate([Scores(one) for one in right])
    if len(right) == 1 or not found.error:
        return wilson_interval(round(found.mean * len(right[0])), len(right[0]))
    low, high = found.within()
    return max(0.0, low), min(1.0, high)
