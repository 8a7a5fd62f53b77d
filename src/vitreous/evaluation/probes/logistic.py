"""A linear head by logistic regression, its l2 chosen by cross-validation: the head of recipe `probe`.

Features are centred and divided by their standard deviation over the training images, and the regression is solved to
its optimum for each l2 of a grid (`linear.py`). The l2 with the lowest cross-entropy on images that the fit has not
seen is used for all images together. Accuracy would be a coarser criterion: on a hundred images many values of l2 have
the same. The out-of-fold predictions made on the way say what to expect of the head on new images, and which labels
look wrong.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.linear import Whitened, build_problem
from vitreous.metrics.classification import compute_log_likelihood, wilson_interval
from vitreous.shapes import Bool, Float32, Float64, Int64

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

FOLDS = 5
L2_GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ten times stronger than a probe's, as a hundred images with hundreds of features need."""


ROUGH, TOLERANCE = 1e-4, 1e-6
"""Largest entry of the gradient, in nats, at which a fit ends: one for choosing l2, and the final one."""


@dataclass(frozen=True, eq=False)
class LogisticHead:
    """A head for frozen features."""

    weight: Float32[np.ndarray, "label features"]
    bias: Float32[np.ndarray, " label"]
    l2: float
    """The chosen strength."""
    tried: tuple[tuple[float, float], ...]
    """(l2, mean cross-entropy in nats on images that the fit has not seen) for each value tried."""
    logits: Float32[np.ndarray, "image label"]
    """Logits of each training image, by the fit that has not seen it."""
    accuracy: float
    """Accuracy of those logits."""
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
        views: features of the training images; further entries are those of augmented views of the same images, in the
            same
            order. All are used for fitting, but only the first is predicted.
        grid: strengths of l2 regularisation to choose from; with a single one nothing is chosen.
        folds: parts into which the images are divided, class by class; each is predicted by a fit to the others.
        seed: of that division.
        progress: called after each strength with (those done, all).

    Raises:
        DataError: images of a single class.
    """
    first = views[0]
    if len(np.unique(first.labels)) < 2:
        raise DataError("a head needs at least two classes, but the images are all of one; add images of another")
    tried = cross_validate(views, divide(first, folds, seed), grid, progress=progress)
    best = min(tried, key=lambda one: one.loss)
    weight, bias = fit_at(views, best.l2)
    right = int((best.logits.argmax(1) == first.labels).sum())
    return LogisticHead(
        weight,
        bias,
        best.l2,
        tuple((one.l2, one.loss) for one in tried),
        best.logits,
        right / len(first),
        wilson_interval(right, len(first)),
    )


def fit_at(
    views: list[Features], l2: float
) -> tuple[Float32[np.ndarray, "label features"], Float32[np.ndarray, " label"]]:
    """Return weight and bias of the regression with this l2, for `views` as `fit_logistic_head` takes them."""
    first, together = views[0], concatenate(views)
    whole = _Fold(together, np.ones(len(together), bool), first, np.zeros(len(first), bool))
    return unwhiten(whole.problem, whole.fit(l2, TOLERANCE))


@dataclass(frozen=True, eq=False)
class Tried:
    """The result of one strength of l2 on images that its fits have not seen."""

    l2: float
    loss: float
    """Mean cross-entropy in nats."""
    logits: Float32[np.ndarray, "image label"]


def cross_validate(
    views: list[Features],
    division: Int64[np.ndarray, " image"],
    grid: tuple[float, ...],
    tolerance: float = ROUGH,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tried]:
    """Predict each image by regressions on the others, for each strength of l2, the strongest first.

    Args:
        views: as `fit_logistic_head` takes them.
        division: each image's fold, from 0.
        grid: strengths; the weaker ones are left out once two in a row are worse than an earlier one.
        tolerance: largest entry of the gradient, in nats, at which a fit ends.
        progress: called after each strength with (those done, all).
    """
    first, together = views[0], concatenate(views)
    fold_of = np.tile(division, len(views))
    parts = [_Fold(together, fold_of != fold, first, division == fold) for fold in np.unique(division)]
    tried: list[Tried] = []
    strengths = sorted(grid, reverse=True)
    for l2 in strengths:
        logits = np.zeros((len(first), len(first.classes)), np.float32)
        for part in parts:
            logits[part.held] = part.predict(l2, tolerance)
        loss = -float(compute_log_likelihood(logits.astype(np.float64), first.labels)[1].mean())
        tried.append(Tried(l2, loss, logits))
        if progress is not None:
            progress(len(tried), len(strengths))
        losses = [one.loss for one in tried]
        if len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]):
            break  # weaker ones, which take the longest, would only be worse
    return tried


def concatenate(views: Sequence[Features]) -> Features:
    """Return the features of all views, or of several sets of images, one after the other; all have the same classes."""
    return Features(
        np.concatenate([one.vectors for one in views]),
        np.concatenate([one.labels for one in views]),
        sum((one.names for one in views), ()),
        views[0].classes,
    )


class _Fold:
    """Some images to learn from and others to predict; fits from strong to weak l2, each starting where the last one
    ended."""

    def __init__(
        self, learned: Features, chosen: Bool[np.ndarray, " view"], first: Features, held: Bool[np.ndarray, " image"]
    ) -> None:
        self.problem = build_problem(learned, np.flatnonzero(chosen))
        self.inputs = self.problem.whiten(learned.vectors[chosen]).numpy()
        self.labels = learned.labels[chosen]
        self.held, self.held_vectors = held, self.problem.whiten(first.vectors[held]).numpy()
        self.start = np.zeros((self.inputs.shape[1] + 1, len(first.classes)))

    def fit(self, l2: float, tolerance: float) -> Float64[np.ndarray, "column label"]:
        """Return the weights of whitened features; the last row is the bias."""
        from scipy.optimize import minimize

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(self.start.shape)
            loss, error = softmax_error(self.inputs @ weights[:-1] + weights[-1], self.labels)
            gradient = np.concatenate([self.inputs.T @ error + l2 * weights[:-1], error.sum(0)[None]])
            return loss + 0.5 * l2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

        limits = {"maxiter": 1000, "gtol": tolerance, "ftol": 0.0}
        # Matrices this small are faster with one thread, and give the same bits with any number.
        with find_blas().limit(limits=1, user_api="blas"):
            found = minimize(objective, self.start.ravel(), method="L-BFGS-B", jac=True, options=limits).x
        self.start = found.reshape(self.start.shape)
        return self.start

    def predict(self, l2: float, tolerance: float) -> Float32[np.ndarray, "held label"]:
        """Return the logits of the held-out images."""
        weights = self.fit(l2, tolerance)
        return (self.held_vectors @ weights[:-1] + weights[-1]).astype(np.float32)


@functools.cache
def find_blas() -> "ThreadpoolController":
    """Return what limits the threads of NumPy's matrix products; finding the library takes longer than a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def softmax_error(
    logits: Float64[np.ndarray, "view label"], labels: Int64[np.ndarray, " view"]
) -> tuple[float, Float64[np.ndarray, "view label"]]:
    """Return the mean cross-entropy in nats, and its gradient by the logits."""
    log_probability, own = compute_log_likelihood(logits, labels)
    error = np.exp(log_probability)
    error[np.arange(len(labels)), labels] -= 1
    return -float(own.mean()), error / len(labels)


def divide(part: Features, folds: int, seed: int) -> Int64[np.ndarray, " image"]:
    """Return each image's fold, from 0, with every class divided as evenly as possible."""
    rng = np.random.default_rng(seed)
    division, next_fold = np.zeros(len(part), np.int64), 0
    for label in range(len(part.classes)):
        own = rng.permutation(np.flatnonzero(part.labels == label))
        division[own] = (next_fold + np.arange(len(own))) % min(folds, len(part))
        next_fold += len(own)
    return division


def unwhiten(
    problem: Whitened, weights: Float64[np.ndarray, "column label"]
) -> tuple[Float32[np.ndarray, "label features"], Float32[np.ndarray, " label"]]:
    """Return weight and bias for the original features, from those for whitened ones (whose last row is the bias)."""
    weight = weights[:-1].T / problem.std
    return weight.astype(np.float32), (weights[-1] - weight @ problem.mean).astype(np.float32)
