"""Noise of a sensor and of a channel, independent for every value.

Each corruption takes (image, setting, scale, generator): the image in 0..1, a row of its table in `catalog.py`, and the
number of this image's pixels per pixel of the table's own size. Results outside 0..1 are clipped afterwards.
"""

import numpy as np

from vitreous.shapes import Float64

Pixels = Float64[np.ndarray, "row col channel"]


def gaussian_noise(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Add normal noise, as in low light. Setting: its standard deviation."""
    return image + setting[0] * rng.normal(size=image.shape)


def shot_noise(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Count photons: a Poisson variable divided by its scale. Setting: number of photons for white."""
    return rng.poisson(image * setting[0]) / setting[0]


def impulse_noise(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Replace values by 0 or 1 (salt and pepper), like bit errors. Setting: the share of values replaced."""
    hit, salt = rng.random(image.shape) < setting[0], rng.random(image.shape) < 0.5
    return np.where(hit, salt.astype(np.float64), image)
