"""Snow, frost, fog and overexposure. Signatures as in `noise.py`."""

import math

import numpy as np

from vitreous.images.corruptions.blur import smear, zoom_in
from vitreous.images.corruptions.noise import Pixels
from vitreous.shapes import Float64

LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R 601."""
TINT = np.array([0.89, 1.02, 1.09])
"""Colour of ice: mean red, green and blue of the authors' photographs, relative to their mean brightness."""
DARK, BRIGHT, RELIEF = 0.5, 0.8, 0.11
"""Mean brightness of the darkest and the brightest of those photographs, and their standard deviation, on a scale of
0 to 1."""
CRYSTALS = ((5.0, 1.0), (13.0, 0.7), (34.0, 0.4))
"""Frost: crystals along the shorter side, and the weight of crystals of that size."""
LEAST = 4
"""Smallest size of a crystal, in pixels."""


def snow(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Whiten the scene and add smeared, falling flakes.

    Setting: mean and standard deviation of the noise that flakes are cut from, its zoom, the threshold; reach and
    standard deviation of their smear in pixels; how much of the scene keeps its colours.
    """
    mean, deviation, zoom, threshold, reach, sigma, keep = setting
    noise = rng.normal(mean, deviation, size=(*image.shape[:2], 1))
    flakes = zoom_in(noise, max(1.0, zoom * scale))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = smear(flakes, reach * scale, sigma * scale, rng.uniform(-135, -45))
    whitened = np.maximum(image, 1.5 * convert_to_grey(image) + 0.5)
    return keep * image + (1 - keep) * whitened + flakes + flakes[::-1, ::-1]


def frost(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Lay ice crystals over the scene. Setting: the share of the scene and that of the ice.

    The authors overlay crops of photographs of frosted windows. Here the ice is drawn (`draw_crystals`), with the
    average brightness, variation and tint of theirs, so numbers for frost are similar to ImageNet-C's but not exactly
    comparable.
    """
    bright = rng.uniform(DARK, BRIGHT)
    ice = np.clip(bright + RELIEF * draw_crystals(image.shape[0], image.shape[1], rng), 0, 1)[:, :, None]
    return setting[0] * image + setting[1] * ice * (TINT if image.shape[2] == 3 else 1)


def fog(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Add a plasma of fog and scale to the old maximum. Setting: thickness, and decay of the plasma's detail."""
    thick, decay = setting
    highest = image.max()
    mist = draw_plasma(max(image.shape[:2]), decay, rng)[: image.shape[0], : image.shape[1], None]
    return (image + thick * mist) * highest / (highest + thick)


def brightness(image: Pixels, setting: tuple[float, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Raise the value in HSV, keeping hue and saturation. Setting: the amount added."""
    value = image.max(axis=2, keepdims=True)
    raised = np.minimum(value + setting[0], 1)
    return np.where(value > 0, image * raised / np.where(value > 0, value, 1), raised)


def convert_to_grey(image: Pixels) -> Float64[np.ndarray, "row col 1"]:
    """Return the luma of an image."""
    return image if image.shape[2] == 1 else (image @ LUMA)[:, :, None]


def draw_plasma(side: int, decay: float, rng: np.random.Generator) -> Float64[np.ndarray, "row col"]:
    """Return a cloud of values 0 to 1 on a square of at least `side`, by midpoint displacement (diamond, then square).

    The grid is doubled until it is large enough; new points are the mean of their four neighbours, displaced by uniform
    noise whose width falls by decay squared with each doubling. Opposite edges meet.
    """
    heights, width = np.zeros((1, 1)), 1.0
    while len(heights) < max(2, side):
        count = len(heights)
        shape = (count, count)
        finer = np.empty((2 * count, 2 * count))
        right, below = np.roll(heights, -1, 1), np.roll(heights, -1, 0)
        middle = (heights + right + below + np.roll(right, -1, 0)) / 4 + rng.uniform(-width, width, shape)
        finer[::2, ::2], finer[1::2, 1::2] = heights, middle
        finer[::2, 1::2] = (heights + right + middle + np.roll(middle, 1, 0)) / 4 + rng.uniform(-width, width, shape)
        finer[1::2, ::2] = (heights + below + middle + np.roll(middle, 1, 1)) / 4 + rng.uniform(-width, width, shape)
        heights, width = finer, width / decay**2
    heights = heights - heights.min()
    return heights / heights.max()


def draw_crystals(rows: int, cols: int, rng: np.random.Generator) -> Float64[np.ndarray, "row col"]:
    """Draw ice: bright seams between facets of three sizes, feathered along each facet's own direction.

    Returns:
        Values of mean 0 and standard deviation 1 (all 0 for a single pixel).
    """
    from scipy.spatial import cKDTree

    side = min(rows, cols)
    places = np.stack(np.mgrid[:rows, :cols], axis=-1).reshape(-1, 2) / side
    ice = np.zeros(len(places))
    for wanted, weight in CRYSTALS:
        along = min(wanted, max(1.0, side / LEAST))
        count = max(3, math.ceil(along**2 * rows * cols / side**2))
        seeds = rng.uniform(-0.1, 1.1, size=(count, 2)) * np.array([rows, cols]) / side
        far, nearest = cKDTree(seeds).query(places, k=2)
        angles = rng.uniform(0, math.pi, size=count)
        axes = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        offset = places - seeds[nearest[:, 0]]
        feather = np.abs(np.cos(3 * math.pi * along * (offset * axes[nearest[:, 0]]).sum(1))) ** 3
        seam = np.exp(-6 * along * (far[:, 1] - far[:, 0]))
        bright = rng.uniform(0, 1, size=count)[nearest[:, 0]]
        ice += weight * (0.45 * seam + bright * (0.35 + 0.45 * feather))
    ice = ice - ice.mean()
    return (ice / max(ice.std(), 1e-12)).reshape(rows, cols)
