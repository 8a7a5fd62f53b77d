"""The ONE evaluation transform: training's validation, evaluation and prediction all go through it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig, Interpolation, PreprocessConfig
from vitreous.images.decode import check_channels, decode
from vitreous.images.scaling import centre_box, compute_scaled_size
from vitreous.shapes import Box, Pixels, Size

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MOST_CROPPED = 64
"""A scaled image with more than MOST_CROPPED times the target's pixels is computed only where it is visible."""


def preprocess_image(
    data: bytes | Pixels[np.ndarray, "row col channel"],
    decoding: DecodeConfig,
    config: PreprocessConfig,
    name: str = "image",
) -> Pixels[np.ndarray, "row2 col2 channel2"]:
    """Decode if necessary, and convert to the model's input size. Raises ImageError."""
    return convert_to_pixels(decode_whole(data, decoding, config, name), config)


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
    image: Pixels[np.ndarray, "row col channel"], config: PreprocessConfig
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Resize and crop the centre to exactly `config.size`. `scaling.py` rounds to whole pixels."""
    target = Size(*config.size)
    if image.shape[:2] == tuple(target) and config.crop == 1:
        return image
    if not 0 < config.crop <= 1:
        raise ConfigError(f"preprocess.crop is {config.crop}; it must be above 0 and at most 1")
    scaled = compute_scaled_size(Size(*image.shape[:2]), config)
    top, left = centre_box(scaled, target, config.rounding)
    if scaled.rows * scaled.cols > MOST_CROPPED * target.rows * target.cols:
        return resize_part(image, scaled, Box(top, left, *target), config)
    precise = config.rounding != "nearest"
    whole = resize(image, scaled, config.interpolation, antialias=config.antialias, precise=precise)
    if top < 0 or left < 0:
        return crop_with_border(whole, Box(top, left, *target), config)
    return whole[top : top + target.rows, left : left + target.cols]


def resize_part(
    image: Pixels[np.ndarray, "row col channel"], scaled: Size, box: Box, config: PreprocessConfig
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Compute only the pixels within `box` of an image resized to `scaled`, so that extreme shapes stay small."""
    down, across = image.shape[0] / scaled.rows, image.shape[1] / scaled.cols
    top, left = box.top * down, box.left * across
    bottom = min(float(image.shape[0]), top + box.rows * down)
    right = min(float(image.shape[1]), left + box.cols * across)
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
    mean = _expand_per_channel(config.mean, channels) if config.fill == "mean" else [0.0] * channels
    result = np.empty((box.rows, box.cols, channels), image.dtype)
    result[:] = [round(255 * value) if image.dtype == np.uint8 else 255 * value for value in mean]
    part = image[max(0, box.top) : box.top + box.rows, max(0, box.left) : box.left + box.cols]
    top, left = max(0, -box.top), max(0, -box.left)
    result[top : top + part.shape[0], left : left + part.shape[1]] = part
    return result


def resize(
    image: Pixels[np.ndarray, "row col channel"],
    size: Size,
    interpolation: Interpolation = "bicubic",
    *,
    antialias: bool = True,
    precise: bool = False,
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Resize: with antialias, Pillow's pixels up to rounding (one grey level, rarely two), several times faster.

    `precise` computes bicubic, and anything without antialias, in float32, as slowly as Pillow: at most one level from
    Pillow's pixels and from torch's own. Channels kept as they are, in float32, are neither rounded nor clipped. The
    result is stored channel by channel in memory, as torch makes it and batches need it.
    """
    if image.shape[:2] == tuple(size):
        return image
    if interpolation == "lanczos" and not antialias:
        raise ConfigError(
            "preprocess.interpolation lanczos needs preprocess.antialias; set it, or choose another interpolation"
        )
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
    if image.dtype == np.float32:
        mode, how = ("nearest-exact", {}) if interpolation == "nearest" else (interpolation, {"antialias": antialias})
        resized = F.interpolate(tensor, size=tuple(size), mode=mode, **how)
    elif precise and interpolation != "nearest" and (interpolation in ("bicubic", "lanczos") or not antialias):
        for part in ((image.shape[0], size.cols), tuple(size)):  # Pillow cuts off what overshoots after either
            tensor = F.interpolate(tensor.float(), part, mode=interpolation, antialias=antialias).clamp_(0, 255)
        resized = tensor.round_().to(torch.uint8)
    elif interpolation == "nearest":
        resized = F.interpolate(tensor, size=tuple(size), mode="nearest-exact")
    else:
        resized = F.interpolate(tensor, size=tuple(size), mode=interpolation, antialias=antialias)
    return resized[0].permute(1, 2, 0).numpy()


def normalize(
    pixels: Pixels[Tensor, "batch channel row col"], config: PreprocessConfig
) -> Float[Tensor, "batch channel row col"]:
    """Return (pixels / 255 - mean) / std in float32, on the pixels' device."""
    channels = pixels.shape[1]
    mean, std = _expand_per_channel(config.mean, channels), _expand_per_channel(config.std, channels)
    scale = torch.tensor([1 / (255 * value) for value in std], device=pixels.device).view(1, -1, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=pixels.device).view(1, -1, 1, 1)
    return pixels.float().mul_(scale).sub_(shift)


def _expand_per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    """Repeat one value for every channel; for grey, reduce per-colour values to their mean."""
    if len(values) == channels:
        return values
    if channels == 1:
        return [sum(values) / len(values)]
    if len(values) == 1:
        return [values[0]] * channels
    raise ConfigError(f"mean and std have {len(values)} values, but the images have {channels} channels")
