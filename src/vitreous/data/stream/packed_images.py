"""The stream of training examples that are packed: each has a size of its own, in its own aspect."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vitreous.data.stream.interleaving import choose_example
from vitreous.data.stream.loader import OWN, Example, TrainStream, read_label
from vitreous.data.stream.order import find_position, restart_generator, seed_generator
from vitreous.images.augment import augment_packed
from vitreous.images.preprocess import decode_whole
from vitreous.shapes import Float32, Pixels, Shaped, Size


@dataclass(frozen=True)
class PackedStream(TrainStream):
    """The same examples as `TrainStream`'s, each at a size that is a function of (seed, epoch, index).

    An example's pixels travel row by row at the beginning of an array of the model's size, which none exceeds; its `draws` are
    its rows and columns.
    """

    patch: Size = field(kw_only=True)
    smallest: int = field(kw_only=True)
    """Side of a square of the smallest area, in pixels."""

    def examples(self, samples: Iterable[int]) -> Iterator[Example]:
        """Yield the examples of these samples; raises ImageError."""
        own, extent = seed_generator(0), (self.patch, self.smallest)
        for sample in samples:
            epoch, index = find_position(sample, len(self))
            chosen = choose_example(self.source, self.seed, sample, self.augment.views)
            label, rng = read_label(self.source, chosen), restart_generator(own, self.seed, epoch, index, OWN)
            data, name = self.source.read(chosen), self.source.names[chosen]
            whole = decode_whole(data, self.decode, self.preprocess, name)
            pixels = augment_packed(whole, self.augment, self.preprocess, rng, extent)
            size = np.array(pixels.shape[:2], np.float32)
            yield Example(lay_out(pixels, Size(*self.preprocess.size)), label, label, 1.0, chosen, size)


def lay_out(pixels: Pixels[np.ndarray, "row col channel"], room: Size) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Return an array of this many rows and columns that begins with an image's pixels, row by row, and goes on with zeros."""
    found = np.zeros((*room, pixels.shape[2]), pixels.dtype)
    values = pixels.reshape(-1, pixels.shape[2])
    found.reshape(-1, pixels.shape[2])[: len(values)] = values
    return found


def cut_images(
    pixels: Shaped[Tensor, "batch channel row col"], sizes: Float32[Tensor, "batch 2"]
) -> list[Shaped[Tensor, "channel _ _"]]:
    """Return the images that `lay_out` put into a batch."""
    each = [(int(rows), int(cols)) for rows, cols in sizes.tolist()]
    flat = pixels.flatten(2)
    return [one[:, : rows * cols].unflatten(1, (rows, cols)) for one, (rows, cols) in zip(flat, each, strict=True)]


def get_view(example: Example) -> Pixels[np.ndarray, "_ _ channel"]:
    """Return an example's pixels as an image, packed or not."""
    if example.draws is None:
        return example.pixels
    rows, cols = (int(side) for side in example.draws)
    return example.pixels.reshape(-1, example.pixels.shape[2])[: rows * cols].reshape(rows, cols, -1)
