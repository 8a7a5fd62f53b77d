"""Linear probe: multinomial logistic regression on frozen features, its one setting chosen on held-out training images.

Features are centred and divided by their standard deviation over the training images. Two solvers:

    lbfgs   minimises  mean cross-entropy + l2 / 2 |W|^2  (the bias is free) to its optimum, for each l2 of a grid; the
            same optimum as scikit-learn's LogisticRegression with C = 1 / (l2 n), which for two classes keeps one
            column in place of two: there C = 2 / (l2 n)
    sgd     stochastic gradient descent without l2, momentum 0.9, the rate falling to 0 along a half cosine, for each rate
            of a grid at once (as linear probes of self-supervised models are trained, e.g. 2104.14294, section 4.1)

A fifth of each class is held out of the training images; the value that is best there (among equal ones the larger l2,
the smaller rate) is used on all training images together. The test images are not involved.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError, DataError, UnknownName
from vitreous.evaluation.probes.features import Features, match
from vitreous.evaluation.probes.few_shot import hold_out
from vitreous.evaluation.probes.least_squares import CHUNK, STD_EPS, check_l2
from vitreous.metrics.classification import wilson_interval
from vitreous.shapes import Bool, Float32, Float64, Int64

L2_GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
HELD_OUT = 0.2
"""Share of each class's training images on which the setting is chosen."""
LIMITED = 1
"""SciPy's status of a minimisation that the limit of iterations ended."""
Indices = Int64[np.ndarray, " chosen"]


@dataclass(frozen=True)
class LinearOptions:
    """How the probe is trained."""

    solver: Literal["lbfgs", "sgd"] = "lbfgs"
    grid: tuple[float, ...] = ()
    """Values of l2 (lbfgs) or rates (sgd) to choose from; empty: L2_GRID or RATES. With a single one nothing is
    chosen."""
    steps: int = 1000
    """lbfgs: most iterations."""
    epochs: int = 30
    """sgd: passes over the training images."""
    batch: int = 256
    """sgd: images per step."""
    seed: int = 0
    """Seed for the held-out images; sgd: also for their order."""


@dataclass(frozen=True)
class Linear:
    """The result of a linear probe."""

    accuracy: float
    """Accuracy on the test images."""
    interval: tuple[float, float]
    """95% Wilson interval."""
    solver: str
    chosen: float
    """The chosen l2 or rate."""
    tried: tuple[tuple[float, float], ...]
    """(value, accuracy on the held-out training images) for each value tried; empty if there was only one."""
    logits: Float32[np.ndarray, "example label"]
    """Logits of the test images, one column for each of the training split's classes."""
    limited: bool = False
    """Whether the limit of iterations ended lbfgs before the optimum."""


@dataclass(frozen=True, eq=False)
class Whitened:
    """Training features with their whitening."""

    part: Features
    mean: Float64[np.ndarray, " features"]
    std: Float64[np.ndarray, " features"]

    @property
    def outputs(self) -> int:
        """Classes."""
        return len(self.part.classes)

    def pieces(self, indices: Indices) -> Iterator[tuple[Float64[Tensor, "chunk features"], Int64[Tensor, " chunk"]]]:
        """Yield whitened features and labels, a chunk at a time."""
        for first in range(0, len(indices), CHUNK):
            chunk = indices[first : first + CHUNK]
            yield self.whiten(self.part.vectors[chunk]), torch.from_numpy(self.part.labels[chunk])

    def whiten(self, vectors: np.ndarray) -> Float64[Tensor, "chunk features"]:
        """Centre vectors and divide them by the deviations."""
        return torch.from_numpy((vectors.astype(np.float64) - self.mean) / self.std)


def linear_probe(
    train: Features,
    test: Features,
    options: LinearOptions = LinearOptions(),
    held: Bool[np.ndarray, " example"] | None = None,
) -> Linear:
    """Train a linear classifier on frozen features and measure it.

    Args:
        train: features to learn from.
        test: features to measure on; classes are matched by name.
        options: the solver and its grid.
        held: which training images the setting is chosen on; None: a fifth of each class.

    Raises:
        DataError: parts that don't match, a single class, a test class without training images.
        UnknownName, ConfigError: an unknown solver, or a setting out of range; a rate at which sgd diverges.
    """
    test = match(train, test)
    grid = check(options)
    everything = np.arange(len(train))
    held = hold_out(train.labels, HELD_OUT, options.seed) if held is None else held
    solve = {"lbfgs": lbfgs, "sgd": sgd}[options.solver]
    tried: tuple[tuple[float, float], ...] = ()
    chosen = grid[0]
    if len(grid) > 1:
        if not held.any():
            raise DataError(
                "no training images can be held out to choose a setting by: no class has more than two; give one value "
                "(--l2; --rates with sgd)"
            )
        problem = build_problem(train, everything[~held])
        weights, _ = solve(problem, everything[~held], grid, options)
        shares = [measure_accuracy(problem, one, everything[held]) for one in weights]
        tried = tuple(zip(grid, shares, strict=True))
        chosen = max(tried, key=lambda one: (one[1], one[0] if options.solver == "lbfgs" else -one[0]))[0]
    problem = build_problem(train, everything)
    (weights,), limited = solve(problem, everything, [chosen], options)
    if not weights.isfinite().all():
        raise ConfigError(f"the linear probe diverged at {chosen:g}; give smaller rates (--rates), or solver lbfgs")
    logits = score(problem, weights, test.vectors)
    right = int((logits.argmax(1) == test.labels).sum())
    return Linear(right / len(test), wilson_interval(right, len(test)), options.solver, chosen, tried, logits, limited)


def check(options: LinearOptions) -> list[float]:
    """Return the grid; raises UnknownName for an unknown solver, ConfigError for a setting out of range."""
    if options.solver not in ("lbfgs", "sgd"):
        raise UnknownName("solver", options.solver, ("lbfgs", "sgd"))
    grid = sorted(options.grid or (L2_GRID if options.solver == "lbfgs" else RATES))
    if options.solver == "lbfgs":
        check_l2(grid)
    elif not all(0 < rate < math.inf for rate in grid):
        raise ConfigError(f"the rates are {', '.join(f'{rate:g}' for rate in grid)}; each must be above 0")
    for name in ("steps", "epochs", "batch"):
        if getattr(options, name) < 1:
            raise ConfigError(f"{name} is {getattr(options, name)}; it must be at least 1")
    return grid


def build_problem(part: Features, indices: Indices) -> Whitened:
    """Return a problem whose features are whitened by these images' mean and standard deviation, a chunk at a time."""
    shift = part.vectors[indices[:1]].astype(np.float64)[0]
    total, squares = np.zeros_like(shift), np.zeros_like(shift)
    for first in range(0, len(indices), CHUNK):
        chunk = part.vectors[indices[first : first + CHUNK]].astype(np.float64) - shift
        total += chunk.sum(0)
        squares += (chunk**2).sum(0)
    mean = total / len(indices)
    std = np.sqrt(np.maximum(squares / len(indices) - mean**2, 0)) + STD_EPS
    return Whitened(part, shift + mean, std)


def lbfgs(
    problem: Whitened, indices: Indices, grid: Sequence[float], options: LinearOptions
) -> tuple[list[Float64[Tensor, "column label"]], bool]:
    """Return the optimal weights for each l2 (the last row is the bias), each starting from the next stronger one's, and
    whether the limit of iterations ended any of them before."""
    from scipy.optimize import minimize

    shape = (len(problem.mean) + 1, problem.outputs)

    def objective(flat: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat.reshape(shape))
        loss, gradient = 0.5 * l2 * float((weights[:-1] ** 2).sum()), torch.zeros(shape, dtype=torch.float64)
        gradient[:-1] = l2 * weights[:-1]
        for x, labels in problem.pieces(indices):
            logits = x @ weights[:-1] + weights[-1]
            loss += float(F.cross_entropy(logits, labels, reduction="sum")) / len(indices)
            error = logits.softmax(1)
            error[torch.arange(len(labels)), labels] -= 1
            gradient[:-1] += x.T @ error / len(indices)
            gradient[-1] += error.sum(0) / len(indices)
        return loss, gradient.numpy().ravel()

    found, start, limited = {}, np.zeros(shape[0] * shape[1]), False
    limits = {"maxiter": options.steps, "maxfun": 2 * options.steps, "gtol": 1e-7, "ftol": 0.0}
    for l2 in sorted(grid, reverse=True):
        ended = minimize(objective, start, (l2,), "L-BFGS-B", jac=True, options=limits)
        start, limited = ended.x, limited or ended.status == LIMITED
        found[l2] = torch.from_numpy(start.reshape(shape).copy())
    return [found[l2] for l2 in grid], limited


def sgd(
    problem: Whitened, indices: Indices, grid: Sequence[float], options: LinearOptions
) -> tuple[list[Float64[Tensor, "column label"]], bool]:
    """Return the weights for each rate, all of them trained side by side on the same batches, and False: there is no
    optimum to fall short of."""
    rates = torch.tensor(grid, dtype=torch.float32)[:, None, None]
    weights = torch.zeros(len(grid), len(problem.mean) + 1, problem.outputs)
    momentum = torch.zeros_like(weights)
    rng = np.random.default_rng(options.seed)
    steps = options.epochs * math.ceil(len(indices) / options.batch)
    step = 0
    for _ in range(options.epochs):
        order = rng.permutation(indices)
        for first in range(0, len(order), options.batch):
            chunk = np.sort(order[first : first + options.batch])
            x = F.pad(problem.whiten(problem.part.vectors[chunk]).float(), (0, 1), value=1.0)
            labels = torch.from_numpy(problem.part.labels[chunk])
            error = (x @ weights).softmax(2)
            error[:, torch.arange(len(labels)), labels] -= 1
            momentum = 0.9 * momentum + x.T @ error / len(labels)
            weights = weights - rates * 0.5 * (1 + math.cos(math.pi * step / steps)) * momentum
            step += 1
    return [one.double() for one in weights], False


def measure_accuracy(problem: Whitened, weights: Float64[Tensor, "column label"], indices: Indices) -> float:
    """Return the share of these training images that the weights classify correctly; 0 for weights that are not
    finite."""
    if not weights.isfinite().all():
        return 0.0
    right = sum(
        int(((x @ weights[:-1] + weights[-1]).argmax(1) == labels).sum()) for x, labels in problem.pieces(indices)
    )
    return right / len(indices)


def score(
    problem: Whitened, weights: Float64[Tensor, "column label"], vectors: np.ndarray
) -> Float32[np.ndarray, "example label"]:
    """Return the logits for any images' features, a chunk at a time."""
    found = np.empty((len(vectors), problem.outputs), np.float32)
    for first in range(0, len(vectors), CHUNK):
        chunk = problem.whiten(vectors[first : first + CHUNK])
        found[first : first + CHUNK] = (chunk @ weights[:-1] + weights[-1]).numpy()
    return found
