"""The corruptions by name, with their published settings, and `corrupt`, which maps pixels, name, severity and seed
to pixels."""

import math
import operator
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np

from vitreous.errors import ConfigError, UnknownName
from vitreous.images.corruptions import blur, digital, noise, weather
from vitreous.images.corruptions.noise import Pixels
from vitreous.shapes import UInt8

SEVERITIES = (1, 2, 3, 4, 5)
LARGE, SMALL = 224, 32
"""Shorter sides in pixels for which the authors chose their settings, in ImageNet-C and CIFAR-10-C."""
Setting = tuple[float, ...]
Function = Callable[[Pixels, Setting, float, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption."""

    group: str
    """noise, blur, weather or digital."""
    function: Function
    large: tuple[Setting, ...]
    """A setting for each severity, for images of 224 pixels (ImageNet-C)."""
    small: tuple[Setting, ...]
    """The same for 32 pixels (CIFAR-10-C)."""


def _map_each(*values: float) -> tuple[Setting, ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        "noise", noise.gaussian_noise, _map_each(0.08, 0.12, 0.18, 0.26, 0.38), _map_each(0.04, 0.06, 0.08, 0.09, 0.10)
    ),
    "shot_noise": Corruption("noise", noise.shot_noise, _map_each(60, 25, 12, 5, 3), _map_each(500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(
        "noise", noise.impulse_noise, _map_each(0.03, 0.06, 0.09, 0.17, 0.27), _map_each(0.01, 0.02, 0.03, 0.05, 0.07)
    ),
    "defocus_blur": Corruption(
        "blur",
        blur.defocus_blur,
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ),
    "glass_blur": Corruption(
        "blur",
        blur.glass_blur,
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ),
    "motion_blur": Corruption(
        "blur",
        blur.motion_blur,
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    ),
    "zoom_blur": Corruption(
        "blur",
        blur.zoom_blur,
        ((0.11, 0.01), (0.15, 0.01), (0.20, 0.02), (0.24, 0.02), (0.30, 0.03)),
        ((0.06, 0.01), (0.11, 0.01), (0.15, 0.01), (0.20, 0.01), (0.25, 0.01)),
    ),
    "snow": Corruption(
        "weather",
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": Corruption(
        "weather",
        weather.frost,
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ),
    "fog": Corruption(
        "weather",
        weather.fog,
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ),
    "brightness": Corruption(
        "weather", weather.brightness, _map_each(0.1, 0.2, 0.3, 0.4, 0.5), _map_each(0.05, 0.1, 0.15, 0.2, 0.3)
    ),
    "contrast": Corruption(
        "digital", digital.contrast, _map_each(0.4, 0.3, 0.2, 0.1, 0.05), _map_each(0.75, 0.5, 0.4, 0.3, 0.15)
    ),
    "elastic_transform": Corruption(
        "digital",
        digital.elastic_transform,
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
        ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
    ),
    "pixelate": Corruption(
        "digital", digital.pixelate, _map_each(0.6, 0.5, 0.4, 0.3, 0.25), _map_each(0.95, 0.9, 0.85, 0.75, 0.65)
    ),
    "jpeg_compression": Corruption(
        "digital", digital.jpeg_compression, _map_each(25, 18, 15, 10, 7), _map_each(80, 65, 58, 50, 40)
    ),
}
"""The fifteen of ImageNet-C (1903.12261, figure 1), in its order."""


def corrupt(
    pixels: UInt8[np.ndarray, "row col channel"],
    name: str,
    severity: int,
    seed: SupportsIndex | Sequence[SupportsIndex] = 0,
) -> UInt8[np.ndarray, "row col channel"]:
    """Corrupt an image, RGB or grey: a pure function of all its arguments.

    Images whose shorter side is closer to 224 than to 32 (by ratio; the border is at 84.7) use the settings of
    ImageNet-C, others those of CIFAR-10-C; lengths in pixels scale with the shorter side. The same seed draws the same
    numbers at every severity.

    Args:
        pixels: the image as the model would see it: ImageNet-C corrupts after resizing and cropping.
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        seed: for a data set (seed, number of the image), so that no two images share their noise.

    Raises:
        UnknownName: an unknown corruption. ConfigError: an unknown severity, or a seed below 0.
    """
    if name not in CORRUPTIONS:
        raise UnknownName("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise ConfigError(f"severity is {severity}; it must be 1 to 5")
    seeds = [*map(operator.index, np.ravel(seed))]
    if min(seeds, default=0) < 0:
        raise ConfigError(f"seed is {seed}; it must be at least 0")
    kind, side = CORRUPTIONS[name], min(pixels.shape[:2])
    large = side > math.sqrt(LARGE * SMALL)
    setting = (kind.large if large else kind.small)[severity - 1]
    drawn = np.random.default_rng([zlib.crc32(name.encode()), *seeds])
    damaged = kind.function(pixels / 255, setting, side / (LARGE if large else SMALL), drawn)
    return (np.clip(damaged, 0, 1) * 255 + 0.5).astype(np.uint8)
