"""A linear head by logistic regression, its l2 chosen by cross-validation: what recipe `probe` trains.

Features are centred and divided by their standard deviation over the training images, the regression is solved to its
optimum for each l2 of a grid (`linear.py`), and the l2 of the lowest cross-entropy on images that the fit has not seen
is taken for all images together. Accuracy would choose more coarsely: on a hundred images many l2 are level in it. The
predictions made on the way, each by a fit without that image, say what to expect of the head on new images, and which
labels look wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from vitreous.errors import DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.linear import LinearOptions, Whitened, lbfgs, scored, whitening
from vitreous.metrics.classification import wilson_interval

FOLDS = 5
L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Stronger than a probe's by a factor of ten: a hundred images of hundreds of features want it."""


@dataclass(frozen=True, eq=False)
class LogisticHead:
    """A head for frozen features."""

    weight: Float32[np.ndarray, "label features"]
    bias: Float32[np.ndarray, " label"]
    l2: float
    """The strength that was chosen."""
    sweep: tuple[tuple[float, float], ...]
    """(l2, mean cross-entropy in nats on images that the fit has not seen) of each that was tried."""
    logits: Float32[np.ndarray, "image label"]
    """Of each training image, by the fit that has not seen it."""
    accuracy: float
    """Of those logits."""
    interval: tuple[float, float]
    """95% Wilson interval."""


def fit_logistic_head(
    views: list[Features],
    grid: tuple[float, ...] = L2_GRID,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LogisticHead:
    """Fit a linear head to frozen features.

    Args:
        views: features of the training images; further entries are those of augmented views of the same images, in the same
            order. All are learned from; the first alone is predicted.
        grid: strengths of l2 regularisation to choose from; a single one needs no choice.
        folds: parts that the images are divided into, class by class; each is predicted by a fit to the others.
        seed: of that division.
        progress: called after each fold with (folds done, folds in all).

    Raises:
        DataError: images of a single class.
    """
    first = views[0]
    division = divide(first, folds, seed)
    together = Features(
        np.concatenate([one.vectors for one in views]),
        np.concatenate([one.labels for one in views]),
        sum((one.names for one in views), ()),
        first.classes,
    )
    everything = np.arange(len(together))
    fold_of = np.tile(division, len(views))
    options, found = LinearOptions(), np.zeros((len(grid), len(first), len(first.classes)), np.float32)
    count = int(division.max()) + 1
    for fold in range(count):
        learned = everything[fold_of != fold]
        problem = whitening(together, learned)
        for place, weights in enumerate(lbfgs(problem, learned, grid, options)):
            found[place, division == fold] = scored(problem, weights, first.vectors[division == fold])
        if progress is not None:
            progress(fold + 1, count)
    losses = [cross_entropy(logits, first.labels) for logits in found]
    best = min(range(len(grid)), key=lambda place: (losses[place], -grid[place]))
    problem = whitening(together, everything)
    (weights,) = lbfgs(problem, everything, [grid[best]], options)
    weight, bias = unwhiten(problem, weights.numpy())
    right = int((found[best].argmax(1) == first.labels).sum())
    return LogisticHead(
        weight,
        bias,
        grid[best],
        tuple(zip(grid, losses, strict=True)),
        found[best],
        right / len(first),
        wilson_interval(right, len(first)),
    )


def divide(part: Features, folds: int, seed: int) -> Int64[np.ndarray, " image"]:
    """Return each image's fold, 0 and up, class by class as evenly as can be; raises DataError."""
    counts = np.bincount(part.labels, minlength=len(part.classes))
    if (counts > 0).sum() < 2:
        raise DataError("a head is fitted to at least two classes; there are images of one alone")
    rng = np.random.default_rng(seed)
    division, next_fold = np.zeros(len(part), np.int64), 0
    for label in range(len(part.classes)):
        own = rng.permutation(np.flatnonzero(part.labels == label))
        division[own] = (next_fold + np.arange(len(own))) % min(folds, len(part))
        next_fold += len(own)
    return division


def cross_entropy(logits: Float32[np.ndarray, "image label"], labels: Int64[np.ndarray, " image"]) -> float:
    """Return the mean cross-entropy in nats."""
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels)))


def unwhiten(
    problem: Whitened, weights: Float64[np.ndarray, "column label"]
) -> tuple[Float32[np.ndarray, "label features"], Float32[np.ndarray, " label"]]:
    """Return weight and bias for features as they are, from those for whitened ones (whose last row is the bias)."""
    weight = weights[:-1].T / problem.std
    return weight.astype(np.float32), (weights[-1] - weight @ problem.mean).astype(np.float32)
