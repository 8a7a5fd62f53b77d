"""Results without a network: the most common class, and a colour histogram with logistic regression.

A model that doesn't beat these has learned nothing useful. They are fitted and measured on the same images as the
model, or on a fixed sample if there are many.
"""

from dataclasses import dataclass

import numpy as np

from vitreous.data.dataset import Source
from vitreous.data.sources.subset import Subset
from vitreous.evaluation.probes.features import Features, match
from vitreous.evaluation.probes.logistic import fit_logistic_head
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import preprocess_image
from vitreous.metrics.classification import find_indices
from vitreous.runtime.display import Shown
from vitreous.shapes import Float32

MOST = 500
"""Most images of each split that are used; of more, an even sample. Validation images of classes that the sample of
training images lacks are left out."""
SEEN = PreprocessConfig(size=(64, 64), resize="squash", crop=1.0)
"""The preprocessing of images whose colours are counted."""
LEVELS = 6
"""Bins along each of red, green and blue."""


@dataclass(frozen=True)
class Baselines(Shown):
    """Accuracies on the validation images, 0 to 1."""

    majority: float
    """Accuracy of always predicting the training images' most common class."""
    histogram: float
    """Of logistic regression on square roots of a 6 x 6 x 6 colour histogram, its l2 chosen by cross-validation."""
    train: int
    """Training images used."""
    validation: int
    """Validation images used."""

    def __str__(self) -> str:
        return f"colour histogram {self.histogram:.1%}, commonest class {self.majority:.1%}"


def measure_baselines(train: Source, validation: Source, decode: DecodeConfig) -> Baselines:
    """Fit both to training images and measure them on validation images.

    Raises:
        DataError: no images, or training images of a single class. ImageError: a file that can't be read.
    """
    part = sample(train)
    numbers = find_indices(validation.classes, train.classes)[validation.labels]
    missed = np.isin(numbers, np.setdiff1d(train.labels, part.labels))
    parts = [part, sample(Subset(validation, np.flatnonzero(~missed)))]
    learned, held = (
        Features(count_colours(part, decode), np.asarray(part.labels), tuple(part.names), tuple(part.classes))
        for part in parts
    )
    held = match(learned, held)
    head = fit_logistic_head([learned])
    right = (held.vectors @ head.weight.T + head.bias).argmax(1) == held.labels
    commonest = np.bincount(learned.labels).argmax()
    return Baselines(float((held.labels == commonest).mean()), float(right.mean()), len(learned), len(held))


def sample(source: Source) -> Source:
    """Return at most `MOST` examples, evenly spread over the source's order."""
    if len(source) <= MOST:
        return source
    return Subset(source, np.linspace(0, len(source) - 1, MOST).astype(np.int64))


def count_colours(source: Source, decode: DecodeConfig) -> Float32[np.ndarray, "image bin"]:
    """Return the square root of each bin's share of the pixels (the Hellinger kernel), for each image."""
    vectors = np.zeros((len(source), LEVELS**3), np.float32)
    for index, name in enumerate(source.names):
        pixels = preprocess_image(source.read(index), decode, SEEN, name)
        bins = (pixels.reshape(-1, 3).astype(np.int64) * LEVELS) // 256
        counts = np.bincount(bins @ (LEVELS**2, LEVELS, 1), minlength=LEVELS**3)
        vectors[index] = np.sqrt(counts / counts.sum())
    return vectors
