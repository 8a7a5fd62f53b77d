"""The whole-pixel size to which an image is scaled, and where its centre then lies: each code base rounds differently.

The differences amount to a pixel in a few hundred, and shift the model's input by up to half a pixel or stretch it:
grey levels of photographs change by 4 to 12 on average.
"""

import math
from collections.abc import Sequence

import numpy as np

from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig, Rounding
from vitreous.shapes import Size


def compute_scaled_size(image: Size, config: PreprocessConfig) -> Size:
    """Return the rows and columns to which an image of this size is scaled before the crop."""
    target, whole = Size(*config.size), compute_uncropped(config)
    if config.resize == "squash":
        return whole
    if config.resize == "border":
        return fit_size(image, whole, longest=True)
    if config.rounding == "nearest":
        scale = max(target.rows / image.rows, target.cols / image.cols) / config.crop
        return Size(max(target.rows, round(image.rows * scale)), max(target.cols, round(image.cols * scale)))
    if config.rounding == "timm" and whole.rows != whole.cols:
        return fit_size(image, whole, longest=False)
    if whole.rows < max(target):  # such a shorter side wouldn't fill the model's input
        return fit_size(image, whole, longest=False)
    if config.rounding == "tensorflow":
        return scale_in_float32(image, whole.rows)
    short, long = sorted(image)
    longer = int(whole.rows * long / short)
    return Size(longer, whole.rows) if image.cols <= image.rows else Size(whole.rows, longer)


def fit_patches(image: Size, patch: Size, side: float) -> Size:
    """Return the rows and columns, in whole patches, to which an image is scaled with its aspect kept: the area is nearly that of a
    square of `side` pixels, and never more patches than fit into that area (Pix2Struct's rule, 2210.03347).

    >>> fit_patches(Size(480, 640), Size(16, 16), 224)
    Size(rows=192, cols=256)
    """
    most = max(1, int(side * side) // (patch.rows * patch.cols))
    scale = math.sqrt(most * patch.rows / image.rows * patch.cols / image.cols)
    rows = min(most, max(1, int(scale * image.rows / patch.rows + 1e-9)))
    cols = min(most // rows, max(1, int(scale * image.cols / patch.cols + 1e-9)))
    return Size(rows * patch.rows, cols * patch.cols)


def compute_uncropped(config: PreprocessConfig) -> Size:
    """Return the target's rows and columns divided by the crop: timm rounds them down, others to the nearest whole
    number."""
    divided = (side / config.crop for side in config.size)
    return Size(*(math.floor(side) if config.rounding == "timm" else round(side) for side in divided))


def fit_size(image: Size, whole: Size, longest: bool) -> Size:
    """Scale to just cover the given rows and columns, or (`longest`) to just fit into them (timm's ResizeKeepRatio)."""
    ratios = image.rows / whole.rows, image.cols / whole.cols
    ratio = max(ratios) if longest else min(ratios)
    return Size(max(1, round(image.rows / ratio)), max(1, round(image.cols / ratio)))


def scale_in_float32(image: Size, shorter: int) -> Size:
    """Scale the shorter side to `shorter` pixels (big_vision's resize_small): float32, halves rounded to even."""
    factor = np.float32(shorter) / np.float32(min(image))
    return Size(*(int(np.round(np.float32(side) * factor)) for side in image))


def centre_box(scaled: Size, target: Size, rounding: Rounding) -> tuple[int, int]:
    """Return the top and left of the target within a scaled image; below 0 if the image is smaller.

    torchvision and timm round an excess of half a pixel to even, the others down; a lack goes below and to the right.
    """
    top, left = (side - wanted for side, wanted in zip(scaled, target, strict=True))
    return halve(top, rounding), halve(left, rounding)


def halve(excess: int, rounding: Rounding) -> int:
    """Return how much of a side's excess, or lack, comes first."""
    if excess < 0:
        return -(-excess // 2)
    return round(excess / 2) if rounding in ("timm", "torchvision") else excess // 2


def compute_scale(config: PreprocessConfig, channels: int) -> tuple[list[float], list[float]]:
    """Return what each channel's pixels are multiplied by, and what is then subtracted."""
    mean, std = expand_per_channel(config.mean, channels), expand_per_channel(config.std, channels)
    return [1 / (255 * value) for value in std], [m / s for m, s in zip(mean, std, strict=True)]


def expand_per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    """Repeat one value for every channel; for grey, reduce per-colour values to their mean."""
    if len(values) == channels:
        return values
    if channels == 1:
        return [sum(values) / len(values)]
    if len(values) == 1:
        return [values[0]] * channels
    raise ConfigError(f"mean and std have {len(values)} values, but the images have {channels} channels")
