"""k nearest neighbours on frozen features: nothing is trained, and only one chunk of distances is held in memory.

Neighbours are the training images with the highest cosine similarity, or the smallest Euclidean distance. Each votes
with weight 1 (as in scikit-learn's KNeighborsClassifier), or with weight exp(similarity / T), T = 0.07 (Wu et al.,
1805.01978, section 3.4; the k-NN of DINO, 2104.14294).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import ConfigError, UnknownName
from vitreous.evaluation.probes.features import Features, match
from vitreous.metrics.classification import wilson_interval
from vitreous.shapes import Float64, Int, Int64

KS = (1, 5, 10, 20)
TEMPERATURE = 0.07
QUERIES, KEYS = 512, 8192
"""Test and training images whose distances are held in memory at a time."""
LEFT_OUT = 10_000
"""Most training images that are left out in turn to choose k."""


@dataclass(frozen=True)
class KNNOptions:
    """The measure of distance, and how neighbours vote."""

    ks: tuple[int, ...] = ()
    """Numbers of neighbours; empty: those of KS below the number of training images."""
    metric: Literal["cosine", "euclid"] = "cosine"
    votes: Literal["temperature", "uniform"] = "temperature"
    """Weights of the votes; temperature is for cosine similarity."""
    temperature: float = TEMPERATURE


@dataclass(frozen=True)
class KNN:
    """The result of k nearest neighbours."""

    accuracy: float
    """On the test images, with the chosen k."""
    interval: tuple[float, float]
    """95% Wilson interval."""
    chosen: int
    """The k that is best on the training images, leaving each out in turn; the smallest among equal ones."""
    accuracies: tuple[tuple[int, float, float], ...]
    """(k, accuracy on the test images, leave-one-out accuracy on the training images) for each k."""
    predicted: Int64[np.ndarray, " example"]
    """The class of each test image, with the chosen k."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training images of some images, the nearest first."""

    indices: Int64[np.ndarray, "example k"]
    closeness: Float64[np.ndarray, "example k"]
    """Cosine similarity, or minus the squared Euclidean distance."""


def knn(train: Features, test: Features, options: KNNOptions = KNNOptions()) -> KNN:
    """Classify test images by their nearest training images.

    Args:
        train: features of the neighbours.
        test: features to classify; classes are matched by name.
        options: number of neighbours, measure of distance, and how they vote.

    Raises:
        DataError: parts that don't match, a single class, a test class without training images.
        ConfigError: more neighbours than training images, or incompatible settings.
    """
    test = match(train, test)
    ks = check(options, len(train))
    found = neighbours(train.vectors, test.vectors, ks[-1], options.metric)
    best = {k: vote(train, found, k, options) for k in ks}
    turns = np.sort(np.random.default_rng(0).permutation(len(train))[:LEFT_OUT])
    others = neighbours(train.vectors, train.vectors[turns], min(ks[-1], len(train) - 1), options.metric, turns)
    rows = []
    for k in ks:
        own = vote(train, others, min(k, len(train) - 1), options)
        rows.append((k, float((best[k] == test.labels).mean()), float((own == train.labels[turns]).mean())))
    chosen = max(rows, key=lambda row: (row[2], -row[0]))[0]
    right = int((best[chosen] == test.labels).sum())
    return KNN(right / len(test), wilson_interval(right, len(test)), chosen, tuple(rows), best[chosen])


def check(options: KNNOptions, count: int) -> list[int]:
    """Return the numbers of neighbours, ascending; raises ConfigError for invalid settings."""
    for name, value, known in (
        ("measure of distance", options.metric, ("cosine", "euclid")),
        ("way to vote", options.votes, ("temperature", "uniform")),
    ):
        if value not in known:
            raise UnknownName(name, value, known)
    ks = sorted(set(options.ks or (1, *(k for k in KS if k < count))))
    if ks[0] < 1 or ks[-1] > count:
        given = ", ".join(map(str, ks))
        raise ConfigError(f"k is {given}; each must be at least 1 and at most the {count:,} training images")
    if options.votes == "temperature" and options.metric != "cosine":
        raise ConfigError("votes by temperature weight cosine similarities; with euclid choose uniform votes")
    if not options.temperature > 0:
        raise ConfigError(f"temperature is {options.temperature}; it must be above 0")
    return ks


def neighbours(
    train: np.ndarray, queries: np.ndarray, k: int, metric: str, own: Int64[np.ndarray, " query"] | None = None
) -> Neighbours:
    """Find the k nearest rows of `train` for each query, in float64, a chunk of distances at a time; among equal ones the first.

    Args:
        train: (example features).
        queries: (query features).
        k: how many.
        metric: cosine or euclid.
        own: each query's own index in `train`, which is not its neighbour.
    """
    centre = np.zeros(train.shape[1]) if metric == "cosine" else _mean(train)
    indices, closeness = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    for first in range(0, len(queries), QUERIES):
        rows = slice(first, first + QUERIES)
        block = _prepare(queries[rows], centre, metric)
        near = torch.full((len(block), 0), -torch.inf, dtype=torch.float64)
        which = torch.empty((len(block), 0), dtype=torch.int64)
        for start in range(0, len(train), KEYS):
            keys = _prepare(train[start : start + KEYS], centre, metric)
            close = _close(block, keys, metric)
            if own is not None:
                here = np.flatnonzero((own[rows] >= start) & (own[rows] < start + len(keys)))
                close[here, own[rows][here] - start] = -torch.inf
            which = torch.cat([which, torch.arange(start, start + len(keys)).expand(len(block), -1)], 1)
            near, place = _choose_nearest(torch.cat([near, close], 1), min(k, which.shape[1]))
            which = which.gather(1, place)
        indices[rows], closeness[rows] = which.numpy(), near.numpy()
    return Neighbours(indices, closeness)


def _choose_nearest(
    close: Float64[Tensor, "query key"], k: int
) -> tuple[Float64[Tensor, "query k"], Int[Tensor, "query k"]]:
    """Return the k highest of each row and their places, the first ones among equals, which topk takes in any order."""
    near, place = close.topk(k, dim=1)
    tied = ((close >= near[:, -1:]).sum(1) > k) | (near[:, 1:] == near[:, :-1]).any(1)
    if tied.any():
        ordered, places = close[tied].sort(dim=1, descending=True, stable=True)
        near[tied], place[tied] = ordered[:, :k], places[:, :k]
    return near, place


def _close(
    queries: Float64[Tensor, "query features"], keys: Float64[Tensor, "key features"], metric: str
) -> Float64[Tensor, "query key"]:
    """Return how close each query is to each key: the higher, the closer."""
    products = queries @ keys.T
    if metric == "cosine":
        return products
    return 2 * products - (queries**2).sum(1, keepdim=True) - (keys**2).sum(1)


def _prepare(vectors: np.ndarray, centre: np.ndarray, metric: str) -> Float64[Tensor, "example features"]:
    """Return rows of length 1 for cosine (0 stays 0), and shifted ones for Euclid, where a distant origin would cost
    digits."""
    rows = torch.from_numpy(vectors.astype(np.float64) - centre)
    return torch.nn.functional.normalize(rows, dim=1) if metric == "cosine" else rows


def _mean(vectors: np.ndarray) -> Float64[np.ndarray, " features"]:
    total = np.zeros(vectors.shape[1])
    for first in range(0, len(vectors), KEYS):
        total += vectors[first : first + KEYS].sum(0, dtype=np.float64)
    return total / len(vectors)


def vote(train: Features, found: Neighbours, k: int, options: KNNOptions) -> Int64[np.ndarray, " example"]:
    """Return the class with most votes of the k nearest, the first among equal ones."""
    winners = np.empty(len(found.indices), np.int64)
    for first in range(0, len(winners), QUERIES):
        rows = slice(first, first + QUERIES)
        closeness, labels = found.closeness[rows, :k], train.labels[found.indices[rows, :k]]
        weights = np.ones(labels.shape)
        if options.votes == "temperature":
            weights = np.exp((closeness - closeness[:, :1]) / options.temperature)
        votes = np.zeros((len(labels), len(train.classes)))
        np.add.at(votes, (np.arange(len(labels))[:, None], labels), weights)
        winners[rows] = votes.argmax(1)
    return winners
