"""The channels of a data set's images: their number, and the mean and deviation of each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.pillow import count_mode_channels
from vitreous.images.preprocess import decode_whole

GREY = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N", "2;16"})
"""Modes without colours."""
SAMPLE = 256
"""Images on which mean and deviation are measured."""


def count_channels(modes: Mapping[str, int]) -> Counter[int]:
    """Return the number of images for each number of channels, from the number for each mode."""
    found: Counter[int] = Counter()
    for mode, count in modes.items():
        found[count_mode_channels(mode)] += count
    return found


def format_channel_counts(found: Mapping[int, int]) -> str:
    """Format the number of images for each number of channels."""
    return ", ".join(f"{count:,} of {channels}" for channels, count in sorted(found.items()))


def find_common_channels(path: str, modes: Mapping[str, int]) -> int:
    """Return 1 if all images are grey, 3 if they can be shown in colours, or else the number of channels that all have.

    Raises:
        DataError: the images have different numbers of channels, some more than 3.
    """
    found = count_channels(modes)
    if max(found) <= 4:
        return 1 if all(mode in GREY for mode in modes) else 3
    if len(found) > 1:
        raise DataError(
            f"{path} mixes images of different channels ({format_channel_counts(found)}); all need the same number"
        )
    return max(found)


def check_same(path: str, modes: Mapping[str, int], channels: int) -> None:
    """Raise DataError unless all images have this number of channels."""
    found = count_channels(modes)
    if set(found) != {channels}:
        raise DataError(
            f"{path} has images with other than the model's {channels} channels: {format_channel_counts(found)}"
        )


def measure_channels(
    source: Source, decoding: DecodeConfig, preprocess: PreprocessConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over the pixels of SAMPLE images, evenly spread, on a scale of 0 to 1.

    A channel that is the same everywhere gets a deviation of 1. Raises ImageError.
    """
    total = square = np.zeros(preprocess.channels)
    count = 0
    for index in np.unique(np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).round().astype(int)).tolist():
        image = decode_whole(source.read(index), decoding, preprocess, source.names[index])
        pixels = image.reshape(-1, image.shape[2]).astype(np.float64) / 255
        total, square, count = total + pixels.sum(0), square + (pixels**2).sum(0), count + len(pixels)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    return tuple(map(round_digits, mean)), tuple(round_digits(value) or 1.0 for value in deviation)


def format_values(values: Sequence[float]) -> str:
    """Format numbers the way an option accepts them."""
    return " ".join(f"{value:g}" for value in values)


def round_digits(value: float) -> float:
    """Round to four digits.

    >>> round_digits(0.0123456), round_digits(0.0)
    (0.01235, 0.0)
    """
    return round(value, 3 - math.floor(math.log10(abs(value)))) if value else 0.0
