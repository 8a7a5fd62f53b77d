"""The ONE evaluation transform: training's validation, evaluation and prediction all go through it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig, Interpolation, PreprocessConfig
from vitreous.images.decode import decode
from vitreous.shapes import Size


def example(
    data: bytes | UInt8[np.ndarray, "row col channel"],
    decoding: DecodeConfig,
    config: PreprocessConfig,
    name: str = "image",
) -> UInt8[np.ndarray, "row2 col2 channel2"]:
    """Decode if need be, and bring to the model's size. Raises ImageError."""
    image = decode(data, decoding, config.mode, name=name) if isinstance(data, bytes) else to_mode(data, config)
    return to_pixels(image, config)


def to_mode(
    image: UInt8[np.ndarray, "row col channel"], config: PreprocessConfig
) -> UInt8[np.ndarray, "row col channel2"]:
    """Bring decoded pixels to the configured mode: grey repeats into RGB; RGB becomes ITU-R 601 luma, as in Pillow."""
    channels = image.shape[2]
    if (channels == 1) == (config.mode == "L"):
        return image
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    luma = (image[..., :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    return luma.astype(np.uint8)[..., None]


def to_pixels(
    image: UInt8[np.ndarray, "row col channel"], config: PreprocessConfig
) -> UInt8[np.ndarray, "row2 col2 channel"]:
    """Resize and crop the centre: exactly `config.size`.

    The resize goes to size / crop, rounded to whole pixels ("short": the shorter side relative to the target, the other
    in proportion); the crop's offset is rounded down.
    """
    target = Size(*config.size)
    if image.shape[:2] == tuple(target) and config.crop == 1:
        return image
    if not 0 < config.crop <= 1:
        raise ConfigError(f"preprocess.crop is {config.crop}; it must be above 0 and at most 1")
    rows, cols = image.shape[:2]
    if config.resize == "squash":
        scaled = Size(round(target.rows / config.crop), round(target.cols / config.crop))
        return center_crop(resize(image, scaled, config.interpolation), target)
    scale = max(target.rows / rows, target.cols / cols) / config.crop
    # Cut away what the centre crop would drop, but for the kernel's reach, so that extreme shapes stay small.
    reach = 4 * max(1.0, 1 / scale)
    keep = Size(
        min(rows, 2 * int(np.ceil((target.rows / scale / 2) + reach)) + rows % 2),
        min(cols, 2 * int(np.ceil((target.cols / scale / 2) + reach)) + cols % 2),
    )
    if keep.rows * 4 < rows or keep.cols * 4 < cols:
        image = center_crop(image, keep)
        rows, cols = image.shape[:2]
    scaled = Size(max(target.rows, round(rows * scale)), max(target.cols, round(cols * scale)))
    return center_crop(resize(image, scaled, config.interpolation), target)


def center_crop(image: UInt8[np.ndarray, "row col channel"], size: Size) -> UInt8[np.ndarray, "row2 col2 channel"]:
    """Cut `size` out of the middle."""
    top, left = (image.shape[0] - size.rows) // 2, (image.shape[1] - size.cols) // 2
    return image[top : top + size.rows, left : left + size.cols]


def resize(
    image: UInt8[np.ndarray, "row col channel"], size: Size, interpolation: Interpolation = "bicubic"
) -> UInt8[np.ndarray, "row2 col2 channel"]:
    """Resize with antialias: Pillow's pixels but for rounding (one grey level, rarely two), several times faster.

    The result lies in memory channel by channel, as torch makes it and as batches want it.
    """
    if image.shape[:2] == tuple(size):
        return image
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
    if interpolation == "nearest":
        resized = F.interpolate(tensor, size=tuple(size), mode="nearest-exact")
    else:
        resized = F.interpolate(tensor, size=tuple(size), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def normalize(
    pixels: UInt8[Tensor, "batch channel row col"], config: PreprocessConfig
) -> Float[Tensor, "batch channel row col"]:
    """Return (pixels / 255 - mean) / std in float32, on the pixels' device."""
    channels = pixels.shape[1]
    mean, std = _per_channel(config.mean, channels), _per_channel(config.std, channels)
    scale = torch.tensor([1 / (255 * value) for value in std], device=pixels.device).view(1, -1, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=pixels.device).view(1, -1, 1, 1)
    return pixels.float().mul_(scale).sub_(shift)


def _per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    """Repeat one value for every channel; for grey, reduce per-colour values to their mean."""
    if len(values) == channels:
        return values
    if channels == 1:
        return [sum(values) / len(values)]
    if len(values) == 1:
        return [values[0]] * channels
    raise ConfigError(f"mean and std have {len(values)} values, the images {channels} channels")
