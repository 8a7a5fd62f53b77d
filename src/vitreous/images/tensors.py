"""torch's side of the evaluation transform: resizing, several times as fast as Pillow, and normalising on any device."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.images.config import NO_KERNEL, Interpolation, PreprocessConfig
from vitreous.shapes import Float, Pixels, Size


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
        raise ConfigError(NO_KERNEL)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
    if image.dtype == np.float32:
        resized = interpolate(tensor, size, interpolation, antialias=antialias)
    elif precise and interpolation != "nearest" and (interpolation in ("bicubic", "lanczos") or not antialias):
        resized = resize_levels(tensor, size, interpolation, antialias=antialias).to(torch.uint8)
    else:
        resized = interpolate(tensor, size, interpolation, antialias=antialias)
    return resized[0].permute(1, 2, 0).numpy()


def resize_levels(
    pixels: Pixels[Tensor, "batch channel row col"],
    size: Size,
    interpolation: Interpolation = "bicubic",
    *,
    antialias: bool = True,
) -> Float[Tensor, "batch channel row2 col2"]:
    """Resize a batch of 8-bit pixels on its device, in float32 as `resize` does if it is to be precise: rounded to whole
    grey levels, 0 to 255."""
    if interpolation == "nearest":
        return interpolate(pixels.float(), size, interpolation)
    for part in (Size(pixels.shape[2], size.cols), size):  # Pillow cuts off what overshoots after either
        pixels = interpolate(pixels.float(), part, interpolation, antialias=antialias).clamp_(0, 255)
    return pixels.round_()


def interpolate(
    pixels: Pixels[Tensor, "batch channel row col"],
    size: Size,
    interpolation: Interpolation,
    *,
    antialias: bool = True,
) -> Pixels[Tensor, "batch channel row2 col2"]:
    """Resize by torch's own kernels, neither clipped nor rounded but where the pixels are uint8."""
    if interpolation == "nearest":
        return F.interpolate(pixels, tuple(size), mode="nearest-exact")
    if size.cols == 1 and antialias:  # torch 2.13 fills such a column with its first value; a row is right
        return F.interpolate(pixels.mT, (1, size.rows), mode=interpolation, antialias=True).mT
    return F.interpolate(pixels, tuple(size), mode=interpolation, antialias=antialias)


class Normalization:
    """(pixels / 255 - mean) / std in float32, for pixels with so many channels on a device."""

    def __init__(self, config: PreprocessConfig, channels: int, device: torch.device) -> None:
        self.scale, self.shift = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in config.compute_scale(channels)
        )

    def __call__(self, pixels: Pixels[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Return the normalised pixels; raises ConfigError if they have another number of channels."""
        if pixels.shape[1] != self.scale.shape[1]:
            raise ConfigError(f"the images have {pixels.shape[1]} channels; expected {self.scale.shape[1]}")
        floats = pixels.float()
        scaled = floats.mul(self.scale) if floats is pixels else floats.mul_(self.scale)  # the argument stays unchanged
        return scaled.sub_(self.shift)


def normalize(
    pixels: Pixels[Tensor, "batch channel row col"], config: PreprocessConfig
) -> Float[Tensor, "batch channel row col"]:
    """Return (pixels / 255 - mean) / std in float32, on the pixels' device."""
    return Normalization(config, pixels.shape[1], pixels.device)(pixels)
