"""Contrast, elastic deformation, coarse pixels and JPEG. Signatures as in `noise.py`."""

import io

import numpy as np
from PIL import Image

from vitreous.images.corruptions.noise import Pixels
from vitreous.shapes import Float64, UInt8


def contrast(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Move every channel towards its mean. Setting: the share of the contrast that is left."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * setting[0] + mean


def elastic_transform(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Move three corners at random, and every pixel along a smooth random field; one linear interpolation.

    Setting, in pixels: height of the field, its smoothness (the standard deviation of a Gaussian), reach of the corners.
    """
    from scipy.ndimage import map_coordinates

    height, smooth, reach = (
        setting[0] * scale**2,
        setting[1] * scale,
        setting[2] * scale,
    )  # smoothing divides noise by `smooth`
    rows, cols, channels = image.shape
    middle, arm = np.array([rows, cols]) // 2, max(1, min(rows, cols) // 3)
    corners = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-reach, reach, size=(3, 2))
    back = np.linalg.lstsq(np.c_[moved, np.ones(3)], corners.astype(np.float64), rcond=None)[0]
    places = np.stack(np.mgrid[:rows, :cols], axis=-1).astype(np.float64)
    places += height * np.stack([draw_smooth_field(rows, cols, smooth, rng) for _ in range(2)], axis=-1)
    where = (places.reshape(-1, 2) @ back[:2] + back[2]).T
    layers = [map_coordinates(image[:, :, layer], where, order=1, mode="mirror") for layer in range(channels)]
    return np.stack(layers, axis=-1).reshape(image.shape)


def draw_smooth_field(rows: int, cols: int, sigma: float, rng: np.random.Generator) -> Float64[np.ndarray, "row col"]:
    """Return uniform noise of -1 to 1 under a Gaussian of `sigma` pixels, mirrored at the edges (by cosine transform)."""
    from scipy.fft import dctn, idctn

    down, across = (np.pi * np.arange(count) / count for count in (rows, cols))
    fall = np.exp(-(sigma**2) * (down[:, None] ** 2 + across[None, :] ** 2) / 2)
    return idctn(dctn(rng.uniform(-1, 1, size=(rows, cols))) * fall)


def pixelate(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Shrink and enlarge again, by areas. Setting: the share of the side in between."""
    picture = convert_to_picture(image)
    small = (max(1, int(picture.width * setting[0])), max(1, int(picture.height * setting[0])))
    coarse = picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)
    return convert_to_pixels(coarse)


def jpeg_compression(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Write and read a JPEG. Setting: its quality, 1 to 95."""
    file = io.BytesIO()
    convert_to_picture(image).save(file, "JPEG", quality=int(setting[0]))
    with Image.open(file) as read:
        return convert_to_pixels(read)


def convert_to_picture(image: Pixels) -> Image.Image:
    """Return pixels of 0..1 as a Pillow image."""
    levels: UInt8[np.ndarray, "row col channel"] = np.clip(image * 255, 0, 255).round().astype(np.uint8)
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def convert_to_pixels(picture: Image.Image) -> Pixels:
    """Return a Pillow image as pixels of 0..1."""
    levels = np.asarray(picture, dtype=np.float64) / 255
    return levels[:, :, None] if levels.ndim == 2 else levels
