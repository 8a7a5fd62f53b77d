"""Regularised least squares from features to {-1, 1} for each class, as the authors evaluate (2010.11929, section 4.1).

The definition is that of big_vision's `evaluators/fewshot_lsr.py`: features are centred and divided by their standard
deviation (over the training examples, divided by n) plus 1e-5; a constant 100 is appended, so large that its weight,
the bias, is hardly regularised; targets are 1 for the own class and -1 for the others; and

    W = (X^T X + l2 I)^-1 X^T Y        where there are at least as many examples as columns,
    W = X^T (X X^T + l2 I)^-1 Y        where there are fewer: the same W, from a smaller system.

A test image is assigned to the class with the highest value of x W. The authors compute in float32, this in float64.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.errors import ConfigError
from vitreous.shapes import Float, Float64, Int64, Integer

BIAS = 100.0
"""The constant column."""
STD_EPS = 1e-5
"""Added to each standard deviation."""
CHUNK = 8192
"""Examples held in float64 at a time."""


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear classifier of whitened features."""

    mean: Float64[np.ndarray, " features"]
    std: Float64[np.ndarray, " features"]
    """STD_EPS included."""
    weights: Float64[np.ndarray, "column label"]
    """The last of features + 1 columns is that of the constant BIAS."""

    def scores(self, vectors: Float[np.ndarray, "example features"]) -> Float64[np.ndarray, "example label"]:
        """Return each class's value for each example, in float64."""
        return whiten(vectors, self.mean, self.std) @ self.weights

    def predict(self, vectors: Float[np.ndarray, "example features"]) -> Int64[np.ndarray, " example"]:
        """Return the class with the highest value, the first among equal ones; a chunk of examples at a time."""
        found = [self.scores(chunk).argmax(1) for chunk in split_chunks(vectors)]
        return np.concatenate(found) if found else np.empty(0, np.int64)


def split_chunks(vectors: Float[np.ndarray, "example features"]) -> Iterator[Float[np.ndarray, "chunk features"]]:
    """Yield consecutive pieces of at most CHUNK examples."""
    yield from (vectors[first : first + CHUNK] for first in range(0, len(vectors), CHUNK))


def whiten(
    vectors: Float[np.ndarray, "example features"],
    mean: Float64[np.ndarray, " features"],
    std: Float64[np.ndarray, " features"],
) -> Float64[np.ndarray, "example column"]:
    """Centre and scale the features, and append the constant."""
    x = (vectors.astype(np.float64) - mean) / std
    return np.pad(x, ((0, 0), (0, 1)), constant_values=BIAS)


def fit(
    vectors: Float[np.ndarray, "example features"],
    labels: Integer[np.ndarray, " example"],
    classes: int,
    l2: Sequence[float] = (2.0**10,),
) -> list[Readout]:
    """Fit one readout for each strength of regularisation, from one eigendecomposition.

    Args:
        vectors: features, all held in memory.
        labels: 0 to classes - 1.
        classes: outputs.
        l2: each above 0.

    Raises:
        ConfigError: an l2 that is not above 0.
    """
    check_l2(l2)
    x64 = vectors.astype(np.float64)
    mean, std = x64.mean(0), x64.std(0) + STD_EPS
    x = whiten(x64, mean, std)
    y = 2.0 * np.eye(classes)[labels] - 1.0
    if x.shape[0] >= x.shape[1]:
        values, q = np.linalg.eigh(x.T @ x)
        left, right = q, q.T @ (x.T @ y)
    else:
        values, q = np.linalg.eigh(x @ x.T)
        left, right = x.T @ q, q.T @ y
    return [Readout(mean, std, (left / (values + one)) @ right) for one in l2]


def fit_streaming(
    chunks: Iterable[tuple[Float[np.ndarray, "chunk features"], Integer[np.ndarray, " chunk"]]],
    classes: int,
    l2: Sequence[float] = (2.0**10,),
) -> list[Readout]:
    """Fit as `fit` does, from examples that arrive in pieces and are not kept: memory is that of features x features.

    Sums of x, x x^T and, for each class, x are accumulated in float64, of features shifted by the first chunk's mean,
    so that the final subtraction is small.

    Args:
        chunks: (features, labels) of consecutive examples.
        classes: outputs.
        l2: each above 0.

    Raises:
        ConfigError: an l2 that is not above 0, or no examples at all.
    """
    check_l2(l2)
    sums = None
    for vectors, labels in chunks:
        if len(labels):
            sums = sums or Sums.empty(vectors.astype(np.float64).mean(0), classes)
            sums.add(vectors, labels)
    if sums is None:
        raise ConfigError("there are no examples to learn from")
    return sums.solve(l2)


@dataclass(eq=False)
class Sums:
    """The sums over examples for the normal equations."""

    shift: Float64[np.ndarray, " features"]
    count: int
    by_class: Float64[np.ndarray, "label features"]
    """Sum of the shifted features of each class."""
    members: Int64[np.ndarray, " label"]
    """Examples of each class."""
    products: Float64[np.ndarray, "features features"]
    """Sum of x x^T of the shifted features."""

    @classmethod
    def empty(cls, shift: Float64[np.ndarray, " features"], classes: int) -> "Sums":
        """Return the sums of no examples."""
        width = len(shift)
        return cls(shift, 0, np.zeros((classes, width)), np.zeros(classes, np.int64), np.zeros((width, width)))

    def add(self, vectors: Float[np.ndarray, "chunk features"], labels: Integer[np.ndarray, " chunk"]) -> None:
        """Add a piece."""
        x = vectors.astype(np.float64) - self.shift
        self.count += len(x)
        np.add.at(self.by_class, labels, x)
        self.members += np.bincount(labels, minlength=len(self.members))
        self.products += x.T @ x

    def solve(self, l2: Sequence[float]) -> list[Readout]:
        """Return a readout for each l2."""
        mean = self.by_class.sum(0) / self.count
        covariance = self.products - self.count * np.outer(mean, mean)
        std = np.sqrt(np.maximum(np.diag(covariance) / self.count, 0)) + STD_EPS
        width, total = len(mean), self.members.sum()
        gram = np.zeros((width + 1, width + 1))
        gram[:width, :width] = covariance / np.outer(std, std)
        gram[width, width] = BIAS**2 * self.count
        # x^T y with y = 2 onehot - 1: whitened features sum to 0, so only the class's own sum is left.
        targets = np.zeros((width + 1, len(self.members)))
        targets[:width] = 2 * ((self.by_class - self.members[:, None] * mean) / std).T
        targets[width] = BIAS * (2 * self.members - total)
        values, q = np.linalg.eigh(gram)
        right = q.T @ targets
        return [Readout(self.shift + mean, std, (q / (values + one)) @ right) for one in l2]


def check_l2(l2: Sequence[float]) -> None:
    """Raise ConfigError unless every strength of regularisation is above 0."""
    if not l2 or not all(0 < one < float("inf") for one in l2):
        raise ConfigError(f"l2 is {', '.join(f'{one:g}' for one in l2) or 'empty'}; every value must be above 0")
