"""The ONE evaluation transform: training's validation, evaluation and prediction all go through it.

Each code base rounds the size to which an image is scaled, and where its centre then lies, differently. The differences
amount to a pixel in a few hundred, and shift the model's input by up to half a pixel or stretch it: grey levels of
photographs change by 4 to 12 on average.
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL import Image

from vitreous.errors import ConfigError
from vitreous.images.config import NO_KERNEL, DecodeConfig, PreprocessConfig, Rounding, expand_per_channel
from vitreous.images.decode import ImageInfo, check_channels, decode, probe
from vitreous.images.pillow_resampling import KERNELS, resize_without_torch
from vitreous.shapes import Box, Float32, Pixels, Size

Resizer = Literal["torch", "pillow"]
"""The library that resizes: torch, or Pillow where a model runs without torch. Their pixels differ by about a grey
level."""
MOST_CROPPED = 64
"""A scaled image with more than MOST_CROPPED times the target's pixels is computed only where it is visible."""


def preprocess_image(
    data: bytes | Pixels[np.ndarray, "row col channel"],
    decoding: DecodeConfig,
    config: PreprocessConfig,
    name: str = "image",
    resizer: Resizer = "torch",
) -> Pixels[np.ndarray, "row2 col2 channel2"]:
    """Decode if necessary, and convert to the model's input size. Raises ImageError."""
    image = decode_whole(data, decoding, config, name)
    reduced = isinstance(data, bytes) and decoding.at_least is not None
    return convert_to_pixels(image, config, resizer, probe(data, decoding, name) if reduced else None)


def preprocess_whole(
    image: Pixels[np.ndarray, "row col channel"], config: PreprocessConfig, patch: Size, side: int
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Resize a decoded image to whole patches with its aspect kept and nothing cut off: see `fit_patches`."""
    size = fit_patches(Size(*image.shape[:2]), patch, side)
    return convert_to_pixels(image, replace(config, size=tuple(size), resize="squash", crop=1.0))


def decode_whole(
    data: bytes | Pixels[np.ndarray, "row col channel"],
    decoding: DecodeConfig,
    config: PreprocessConfig,
    name: str = "image",
) -> Pixels[np.ndarray, "row2 col2 channel2"]:
    """Decode if necessary, in the configured mode, at the image's own size. Raises ImageError."""
    return decode(data, decoding, config.mode, name=name) if isinstance(data, bytes) else convert_mode(data, config)


def convert_mode(
    image: Pixels[np.ndarray, "row col channel"], config: PreprocessConfig
) -> Pixels[np.ndarray, "row col channel2"]:
    """Convert decoded pixels to the configured mode: grey repeats into RGB; RGB becomes ITU-R 601 luma, as in Pillow.

    Raises:
        ImageError: channels are to be kept as they are, but their number differs.
    """
    channels = image.shape[2]
    if config.keeps_channels:
        check_channels(channels, config.mode)
        return image.astype(np.float32, copy=False)
    if (channels == 1) == (config.mode == "L"):
        return image
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    luma = (image[..., :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    return luma.astype(np.uint8)[..., None]


def convert_to_pixels(
    image: Pixels[np.ndarray, "row col channel"],
    config: PreprocessConfig,
    resizer: Resizer = "torch",
    info: ImageInfo | None = None,
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Resize and crop the centre to exactly `config.size`. `compute_scaled_size` rounds to whole pixels.

    `info` describes an image that was decoded at a fraction of its size. The crop is that of the whole image and ends
    where the image ends, although the last decoded pixels, each 2, 4 or 8 wide, may reach beyond.
    """
    target = Size(*config.size)
    if image.shape[:2] == tuple(target) and config.crop == 1:
        return image
    if not 0 < config.crop <= 1:
        raise ConfigError(f"preprocess.crop is {config.crop}; it must be above 0 and at most 1")
    size = Size(*image.shape[:2]) if info is None else info.size
    scaled, extent = compute_scaled_size(size, config), image.shape[:2] if info is None else info.extent
    top, left = centre_box(scaled, target, config.rounding)
    lacks = scaled.rows < target.rows or scaled.cols < target.cols
    between = extent != image.shape[:2] and not lacks
    if between or scaled.rows * scaled.cols > MOST_CROPPED * target.rows * target.cols:
        return resize_part(image, scaled, Box(top, left, *target), config, extent)
    if resizer == "pillow":
        whole = resize_without_torch(image, scaled, config.interpolation, antialias=config.antialias)
    else:
        from vitreous.images.tensors import resize

        precise = config.rounding != "nearest"
        whole = resize(image, scaled, config.interpolation, antialias=config.antialias, precise=precise)
    if lacks:
        return crop_with_border(whole, Box(top, left, *target), config)
    return whole[top : top + target.rows, left : left + target.cols]


def resize_part(
    image: Pixels[np.ndarray, "row col channel"],
    scaled: Size,
    box: Box,
    config: PreprocessConfig,
    extent: tuple[float, float],
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Compute only the pixels within `box` of an image whose first rows and columns (`extent`) are resized to `scaled`.

    Extreme shapes thus stay small, and an image may end within a pixel.
    """
    if config.interpolation == "lanczos" and not config.antialias:
        raise ConfigError(NO_KERNEL)
    down, across = extent[0] / scaled.rows, extent[1] / scaled.cols
    top, left = box.top * down, box.left * across
    bottom = min(float(extent[0]), top + box.rows * down)
    right = min(float(extent[1]), left + box.cols * across)
    kernel, shape = KERNELS[config.interpolation], (box.cols, box.rows)
    parts = []
    for plane in image.transpose(2, 0, 1):
        picture = Image.fromarray(np.ascontiguousarray(plane))
        if config.antialias:
            parts.append(picture.resize(shape, kernel, (left, top, right, bottom)))
        else:
            parts.append(picture.transform(shape, Image.Transform.AFFINE, (across, 0, left, 0, down, top), kernel))
    return np.stack([np.asarray(part) for part in parts], axis=2)


def crop_with_border(
    image: Pixels[np.ndarray, "row col channel"], box: Box, config: PreprocessConfig
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Cut out a box that reaches beyond the image, and fill the rest (timm's CenterCropOrPad)."""
    channels = image.shape[2]
    mean = expand_per_channel(config.mean, channels) if config.fill == "mean" else [0.0] * channels
    result = np.empty((box.rows, box.cols, channels), image.dtype)
    result[:] = [round(255 * value) if image.dtype == np.uint8 else 255 * value for value in mean]
    part = image[max(0, box.top) : box.top + box.rows, max(0, box.left) : box.left + box.cols]
    top, left = max(0, -box.top), max(0, -box.left)
    result[top : top + part.shape[0], left : left + part.shape[1]] = part
    return result


def normalize_array(
    pixels: Pixels[np.ndarray, "batch row col channel"], config: PreprocessConfig
) -> Float32[np.ndarray, "batch channel row col"]:
    """Return (pixels / 255 - mean) / std in float32, channels first: the numbers of `tensors.py`, without torch."""
    scale, shift = (np.array(values, np.float32) for values in config.compute_scale(pixels.shape[3]))
    return np.ascontiguousarray((pixels.astype(np.float32) * scale - shift).transpose(0, 3, 1, 2))


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
