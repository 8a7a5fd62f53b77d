"""Centred kernel alignment: how similarly two layers represent the same images, at any width (Kornblith et al.,
1905.00414).

For features X and Y of the same images, centred over the images, linear CKA (equation 6 there, from equation 4) is

    |Y^T X|^2 / (|X^T X| |Y^T Y|)        (Frobenius norms),

It ranges from 0 to 1; rotations and scaling change nothing. With few images it is too high, the more so the wider the
features. The unbiased variant (Song et al., 2007; by minibatches, Nguyen et al., 2010.15327, section 3) uses the
unbiased estimate of the Hilbert-Schmidt independence criterion instead, summed over minibatches, so that neither all
features nor an images x images matrix is ever in memory; it may be slightly below 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.accuracy import Progress
from vitreous.evaluation.probes.features import FeatureOptions, check_batch, layer_chunks
from vitreous.evaluation.probes.layers import find_layer, stream_names
from vitreous.shapes import Float, Float64
from vitreous.weights.model_folder import ModelFolder

LEAST = 4
"""Fewest images for which the unbiased estimate is defined."""
Vectors = Float[np.ndarray, "example _"]


@dataclass(frozen=True, eq=False)
class CKA:
    """Similarity of every layer of one model to every layer of another."""

    rows: tuple[str, ...]
    """Layers of the first model."""
    cols: tuple[str, ...]
    """Layers of the second."""
    matrix: Float64[np.ndarray, "row col"]
    examples: int
    unbiased: bool


def linear_cka(x: Vectors, y: Vectors) -> float:
    """Return the linear CKA of two sets of features of the same images, in float64; 0 if one of them is constant."""
    (matrix,) = layers_cka([x], [y])
    return float(matrix[0])


def layers_cka(rows: Sequence[Vectors], cols: Sequence[Vectors]) -> Float64[np.ndarray, "row col"]:
    """Return the linear CKA of each pair, from the smaller products: of features, or of images."""
    matrix = np.zeros((len(rows), len(cols)))
    lengths = [np.sqrt(_overlap(_centre(x), _centre(x))) for x in chain(rows, cols)]
    for row, x in enumerate(rows):
        for col, y in enumerate(cols):
            length = lengths[row] * lengths[len(rows) + col]
            matrix[row, col] = _overlap(_centre(x), _centre(y)) / length if length > 0 else 0.0
    return matrix


def _centre(x: Vectors) -> Float64[np.ndarray, "example _"]:
    wide = x.astype(np.float64)
    return wide - wide.mean(0)


def _overlap(x: Float64[np.ndarray, "example _"], y: Float64[np.ndarray, "example _"]) -> float:
    """Return |Y^T X|^2 = <X X^T, Y Y^T>."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return float(((y.T @ x) ** 2).sum())
    return float(((x @ x.T) * (y @ y.T)).sum())


def check_images(count: int) -> None:
    """Raise ConfigError for fewer images than the unbiased estimate needs."""
    if count < LEAST:
        raise ConfigError(f"images is {count}; it must be at least {LEAST}")


class Minibatches:
    """Sums of the unbiased HSIC of every pair of layers, over minibatches."""

    def __init__(self, rows: int, cols: int) -> None:
        self.cross = np.zeros((rows, cols))
        self.own = [np.zeros(rows), np.zeros(cols)]

    def add(self, rows: Sequence[Vectors], cols: Sequence[Vectors]) -> None:
        """Add a minibatch of at least LEAST images: the features of each layer."""
        kernels = [[_kernel(x) for x in side] for side in (rows, cols)]
        for row, k in enumerate(kernels[0]):
            self.cross[row] += [hsic(k, other) for other in kernels[1]]
        for side, own in zip(kernels, self.own, strict=True):
            own += [hsic(k, k) for k in side]

    def matrix(self) -> Float64[np.ndarray, "row col"]:
        """Return the CKA of every pair; 0 where a layer is constant."""
        lengths = np.sqrt(np.outer(np.maximum(self.own[0], 0), np.maximum(self.own[1], 0)))
        return np.divide(self.cross, lengths, out=np.zeros_like(self.cross), where=lengths > 0)


def _kernel(x: Vectors) -> Float64[np.ndarray, "example example"]:
    """Return X X^T with a zero diagonal. Centring doesn't change the estimate, but preserves digits."""
    centred = _centre(x)
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0)
    return kernel


def hsic(k: Float64[np.ndarray, "example example"], other: Float64[np.ndarray, "example example"]) -> float:
    """Return the unbiased estimate of HSIC from two kernel matrices without diagonals (Song et al., 2007, equation 5)."""
    n = len(k)
    total = (k * other).sum() + k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ other.sum(0)
    return float(total / (n * (n - 3)))


def cka(
    models: tuple[ModelFolder, ModelFolder],
    source: Source,
    options: FeatureOptions = FeatureOptions(),
    unbiased: bool = False,
    progress: Progress | None = None,
) -> CKA:
    """Compare all layers of two models, each through its own preprocessing, on the same images.

    Layers are those of the residual stream, each patch's vector averaged. The exact form holds every layer's features of
    every image in memory; the unbiased one a batch.

    Args:
        models: the two models, of any kind and size.
        source: the images; labels aren't used.
        options: batch (the minibatch of the unbiased form), precision and device; layer and cache aren't used.
        unbiased: estimate by minibatches.
        progress: called with (images done by both, all images).

    Raises:
        DataError: too few images. ImageError: a file that can't be read.
    """
    if len(source) < LEAST:
        raise DataError(f"CKA needs at least {LEAST} images, not {len(source)}")
    check_batch(options)
    names = tuple(tuple(stream_names(folder.model)) for folder in models)
    rests = len(source) % options.batch
    if unbiased and (options.batch < LEAST or 0 < rests < LEAST):
        options = replace(options, batch=_batch(len(source), max(options.batch, LEAST)))
    layers = [[find_layer(folder.model, name) for name in own] for folder, own in zip(models, names, strict=True)]
    streams = [layer_chunks(folder, source, own, options) for folder, own in zip(models, layers, strict=True)]
    both = zip(*streams, strict=True)
    matrix = (_estimate if unbiased else _compute)(both, len(source), progress)
    return CKA(*names, matrix, len(source), unbiased)


def _batch(count: int, wanted: int) -> int:
    """Return a batch size near `wanted` whose last batch is large enough for the estimate."""
    sizes = chain(range(wanted, count + 1), range(wanted, LEAST - 1, -1))
    return next((size for size in sizes if count % size == 0 or count % size >= LEAST), count)


def _estimate(both: Iterable, count: int, progress: Progress | None) -> Float64[np.ndarray, "row col"]:
    sums, done = None, 0
    for rows, cols in both:
        sums = sums or Minibatches(len(rows), len(cols))
        sums.add(rows, cols)
        done += len(rows[0])
        if progress is not None:
            progress(done, count)
    assert sums is not None
    return sums.matrix()


def _compute(both: Iterable, count: int, progress: Progress | None) -> Float64[np.ndarray, "row col"]:
    kept: tuple[list, list] = ([], [])
    done = 0
    for chunk in both:
        for side, found in zip(kept, chunk, strict=True):
            side.append(found)
        done += len(chunk[0][0])
        if progress is not None:
            progress(done, count)
    rows, cols = ([np.concatenate(layer) for layer in zip(*side, strict=True)] for side in kept)
    return layers_cka(rows, cols)
