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
from jaxtyping import Bool, Float32, Float64, Int64

from vitreous.errors import DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.linear import Whitened, whitening
from vitreous.metrics.classification import wilson_interval

FOLDS = 5
L2_GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Stronger than a probe's by a factor of ten: a hundred images of hundreds of features want it."""


ROUGH, TOLERANCE = 1e-4, 1e-6
"""Largest entry of the gradient, in nats, at which a fit ends: one that only chooses, and the last one."""


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
        progress: called after each strength with (those done, all).

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
    fold_of = np.tile(division, len(views))
    parts = [_Fold(together, fold_of != fold, first, division == fold) for fold in range(int(division.max()) + 1)]
    strengths = sorted(grid, reverse=True)
    logits, losses = [], []
    for done, l2 in enumerate(strengths):
        found = np.zeros((len(first), len(first.classes)), np.float32)
        for part in parts:
            found[part.held] = part.predict(l2)
        logits.append(found)
        losses.append(cross_entropy(found, first.labels))
        if progress is not None:
            progress(done + 1, len(strengths))
        if len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]):
            break  # weaker ones, which take the longest, would only do worse
    best = int(np.argmin(losses))
    whole = _Fold(together, np.ones(len(together), bool), first, division >= 0)
    weight, bias = unwhiten(whole.problem, whole.fit(strengths[best], TOLERANCE))
    right = int((logits[best].argmax(1) == first.labels).sum())
    return LogisticHead(
        weight,
        bias,
        strengths[best],
        tuple(zip(strengths, losses, strict=False)),
        logits[best],
        right / len(first),
        wilson_interval(right, len(first)),
    )


class _Fold:
    """Some images to learn from and others to predict; fits from strong to weak l2, each starting where the last ended."""

    def __init__(
        self, learned: Features, chosen: Bool[np.ndarray, " view"], first: Features, held: Bool[np.ndarray, " image"]
    ) -> None:
        self.problem = whitening(learned, np.flatnonzero(chosen))
        self.inputs = self.problem.white(learned.vectors[chosen]).numpy()
        self.labels = learned.labels[chosen]
        self.held, self.first = held, first
        self.start = np.zeros((self.inputs.shape[1] + 1, len(first.classes)))

    def fit(self, l2: float, tolerance: float) -> Float64[np.ndarray, "column label"]:
        """Return the weights of whitened features; the last row is the bias."""
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(self.start.shape)
            loss, error = softmax_error(self.inputs @ weights[:-1] + weights[-1], self.labels)
            gradient = np.concatenate([self.inputs.T @ error + l2 * weights[:-1], error.sum(0)[None]])
            return loss + 0.5 * l2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

        limits = {"maxiter": 1000, "gtol": tolerance, "ftol": 0.0}
        with threadpool_limits(
            1, "blas"
        ):  # matrices this small are faster by one thread, and the same bits by any number
            found = minimize(objective, self.start.ravel(), method="L-BFGS-B", jac=True, options=limits).x
        self.start = found.reshape(self.start.shape)
        return self.start

    def predict(self, l2: float) -> Float32[np.ndarray, "held label"]:
        """Return the logits of the held-out images."""
        weights = self.fit(l2, ROUGH)
        held = self.problem.white(self.first.vectors[self.held]).numpy()
        return (held @ weights[:-1] + weights[-1]).astype(np.float32)


def softmax_error(
    logits: Float64[np.ndarray, "view label"], labels: Int64[np.ndarray, " view"]
) -> tuple[float, Float64[np.ndarray, "view label"]]:
    """Return the mean cross-entropy in nats, and its gradient by the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    exponents = np.exp(shifted)
    sums = exponents.sum(1)
    rows = np.arange(len(labels))
    loss = float((np.log(sums) - shifted[rows, labels]).mean())
    error = exponents / sums[:, None]
    error[rows, labels] -= 1
    return loss, error / len(labels)


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
