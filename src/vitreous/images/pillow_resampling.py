"""Resizing without torch: by Pillow, and by matrices where Pillow has no kernel. Pixels differ from torch's
(`tensors.py`) by at most one grey level, rarely more at hard edges of stretched images; float32 channels differ by
rounding alone.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from vitreous.errors import ConfigError
from vitreous.images.config import NO_KERNEL, Interpolation
from vitreous.shapes import Float32, Int64, Pixels, Size

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
PLAIN_BICUBIC, WIDENED_BICUBIC = -0.75, -0.5
"""torch's free parameter of the cubic kernel, without antialias and with it."""
Kernel = Callable[[np.ndarray], np.ndarray]


def resize_without_torch(
    image: Pixels[np.ndarray, "row col channel"], size: Size, interpolation: Interpolation, *, antialias: bool = True
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Resize. Channels that are kept as they are, in float32, are neither rounded nor clipped."""
    if image.shape[:2] == tuple(size):
        return image
    if interpolation == "lanczos" and not antialias:
        raise ConfigError(NO_KERNEL)
    if interpolation == "nearest":
        rows, cols = (find_nearest(old, new) for old, new in zip(image.shape[:2], size, strict=True))
        return image[rows][:, cols]
    if image.dtype == np.uint8 and antialias:
        return _resize_by_pillow(image, size, interpolation)
    down, across = (
        resample_matrix(old, new, interpolation, antialias) for old, new in zip(image.shape[:2], size, strict=True)
    )
    whole = image.dtype == np.uint8
    resized = across @ image.astype(np.float32)
    resized = np.tensordot(down, resized.clip(0, 255) if whole else resized, axes=1)
    return resized.clip(0, 255).round().astype(np.uint8) if whole else resized


def _resize_by_pillow(
    image: Pixels[np.ndarray, "row col channel"], size: Size, interpolation: Interpolation
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    shape, kernel = (size.cols, size.rows), KERNELS[interpolation]
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(shape, kernel))
    planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in image.transpose(2, 0, 1))
    return np.stack([np.asarray(plane.resize(shape, kernel)) for plane in planes], axis=2)


def resample_matrix(
    old: int, new: int, interpolation: Interpolation, antialias: bool
) -> Float32[np.ndarray, "new old"]:
    """Return the matrix that resamples a line of `old` pixels to `new`, half-pixel centres, as torch does.

    With antialias the kernel widens where the line gets shorter and its weights are normalised; without, it is read at each new
    pixel's place, and places beyond the ends read the last pixel.
    """
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    parameter = WIDENED_BICUBIC if antialias else PLAIN_BICUBIC
    reach, kernel = {
        "bilinear": (1, _weigh_linear),
        "bicubic": (2, lambda away: _weigh_cubic(away, parameter)),
        "lanczos": (3, _weigh_lanczos),
    }[interpolation]
    return (
        _build_widened(centres, old, scale, (reach, kernel))
        if antialias
        else _build_plain(centres, old, (reach, kernel))
    )


def find_nearest(old: int, new: int) -> Int64[np.ndarray, " new"]:
    """Return the index of the nearest old pixel for each new one: torch's nearest-exact, in float32 like torch's."""
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * (np.float32(old) / np.float32(new))
    return np.minimum(places.astype(np.int64), old - 1)


def _build_widened(
    centres: np.ndarray, old: int, scale: float, kernel: tuple[int, Kernel]
) -> Float32[np.ndarray, "new old"]:
    widened, (reach, weigh) = max(scale, 1.0), kernel
    place = np.arange(old)
    first = np.maximum((centres - reach * widened + 0.5).astype(int), 0)[:, None]
    last = np.minimum((centres + reach * widened + 0.5).astype(int), old)[:, None]
    weights = weigh((place - centres[:, None] + 0.5) / widened) * ((place >= first) & (place < last))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _build_plain(centres: np.ndarray, old: int, kernel: tuple[int, Kernel]) -> Float32[np.ndarray, "new old"]:
    reach, weigh = kernel
    places = centres - 0.5
    if reach == 1:
        places = np.maximum(places, 0)
    low = np.floor(places).astype(int)
    matrix = np.zeros((len(centres), old), np.float32)
    for step in range(1 - reach, reach + 1):
        at = np.clip(low + step, 0, old - 1)
        np.add.at(matrix, (np.arange(len(centres)), at), weigh(places - low - step).astype(np.float32))
    return matrix


def _weigh_linear(away: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(away))


def _weigh_cubic(away: np.ndarray, a: float) -> np.ndarray:
    away = np.abs(away)
    near = ((a + 2) * away - (a + 3)) * away * away + 1
    far = a * (((away - 5) * away + 8) * away - 4)
    return np.where(away < 1, near, np.where(away < 2, far, 0))


def _weigh_lanczos(away: np.ndarray) -> np.ndarray:
    return np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
