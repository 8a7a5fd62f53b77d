"""Blur of a lens, of frosted glass, of motion and of zooming. Signatures as in `noise.py`."""

import math

import numpy as np

from vitreous.images.corruptions.noise import Pixels
from vitreous.shapes import Float64

FAINT = 1e-12
"""Weight, relative to the first, below which the tail of a smear is cut off."""
WIDE_DISK = 8
"""Radius in pixels up to which the edge of the disk is softened over 3 pixels, and beyond it over 5."""


def defocus_blur(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Convolve with a disk, like a lens out of focus. Setting: radius and softening of the disk's edge, in pixels."""
    from scipy.ndimage import gaussian_filter

    radius, soft = setting[0] * scale, setting[1] * scale
    edge = max(1, round(scale * (1 if setting[0] <= WIDE_DISK else 2)))
    reach = math.ceil(radius) + edge
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (down**2 + across**2 <= radius**2).astype(np.float64)
    disk = gaussian_filter(disk, soft, radius=edge)
    return filter_channels(image, disk / disk.sum(), "reflect")


def glass_blur(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Blur, swap pixels with near ones, blur. Setting: standard deviation and distance in pixels, and repetitions."""
    from scipy.ndimage import gaussian_filter

    sigma, reach = setting[0] * scale, max(1, round(setting[1] * scale))
    rows, cols, channels = image.shape
    soft = gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
    order = list(range(rows * cols))
    inner = [row * cols + col for row in range(reach, rows - reach) for col in range(reach, cols - reach)][::-1]
    for _ in range(int(setting[2])):
        moves = rng.integers(-reach, reach, size=(len(inner), 2)) @ np.array([cols, 1])
        for here, move in zip(inner, moves.tolist(), strict=True):
            order[here], order[here + move] = order[here + move], order[here]
    shuffled = soft.reshape(rows * cols, channels)[order].reshape(image.shape)
    return gaussian_filter(shuffled, (sigma, sigma, 0), mode="nearest")


def motion_blur(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Smear along a line within 45 degrees of the horizontal. Setting: reach and standard deviation in pixels."""
    return smear(image, setting[0] * scale, setting[1] * scale, rng.uniform(-45, 45))


def zoom_blur(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Average the image with itself at increasing zoom. Setting: how far the largest zoom is beyond 1, and the step.

    The largest zooms follow numpy's arange with the authors' bounds: arange(1, 1.11, 0.01) includes 1.11, by rounding.
    """
    zooms = 1 + np.arange(0, setting[0] + setting[1] / 2, setting[1])
    return (image + sum(zoom_in(image, zoom) for zoom in zooms)) / (len(zooms) + 1)


def smear(image: Pixels, reach: float, sigma: float, degrees: float) -> Pixels:
    """Convolve with one half of a Gaussian along a line, as ImageMagick's motion blur does.

    Args:
        image: any values.
        reach: half the length of the line, in pixels.
        sigma: standard deviation along the line, in pixels.
        degrees: the line's direction, 0 along a row, 90 down a column.
    """
    steps = np.arange(2 * math.ceil(reach) + 1)
    weights = np.exp(-(steps**2) / (2 * max(sigma, 1e-6) ** 2))
    steps, weights = steps[weights > FAINT], weights[weights > FAINT]
    down, across = steps * math.sin(math.radians(degrees)), steps * math.cos(math.radians(degrees))
    far = len(steps)
    kernel = np.zeros((2 * far + 1, 2 * far + 1))
    low_row, low_col = np.floor(down).astype(int), np.floor(across).astype(int)
    for row, share_row in ((low_row, 1 - (down - low_row)), (low_row + 1, down - low_row)):
        for col, share_col in ((low_col, 1 - (across - low_col)), (low_col + 1, across - low_col)):
            np.add.at(kernel, (far + row, far + col), weights * share_row * share_col)
    return filter_channels(image, kernel / kernel.sum(), "edge")


def filter_channels(image: Pixels, kernel: Float64[np.ndarray, "rows cols"], border: str) -> Pixels:
    """Convolve every channel with a kernel of odd sides; `border` is the mode of numpy's pad beyond the edge."""
    from scipy.signal import fftconvolve

    (rows, cols), kept = (side // 2 for side in kernel.shape), kernel[:, :, None]
    padded = np.pad(image, ((rows, rows), (cols, cols), (0, 0)), mode=border)  # type: ignore[call-overload]
    return fftconvolve(padded, kept, mode="valid", axes=(0, 1))


def zoom_in(image: Pixels, zoom: float) -> Pixels:
    """Enlarge the middle to the whole frame, with linear interpolation."""
    for axis in (0, 1):
        count = image.shape[axis]
        middle = (count - 1) / 2
        places = middle + (np.arange(count) - middle) / zoom
        low = np.clip(np.floor(places).astype(int), 0, max(0, count - 2))
        part = (places - low).reshape(-1, *[1] * (image.ndim - 1 - axis))
        first, second = image.take(low, axis), image.take(np.minimum(low + 1, count - 1), axis)
        image = first + part * (second - first)
    return image
