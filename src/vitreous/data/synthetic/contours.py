"""Contours: nested polygons on a noisy radius, as in RCDB (Kataoka et al., 2206.09132, and its code)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitreous.data.stream.order import seed_generator
from vitreous.data.synthetic.rasterisation import draw_closed_lines, draw_shades, place_points
from vitreous.shapes import Float64, UInt8

CONTOURS = 2
"""The kind's number, in the keys of its random draws."""
LINES, VERTICES = (3, 20), (3, 120)
"""Fewest and most polygons, and vertices of each, drawn log-uniformly. RCDB's code has up to 200 of each, at 512
pixels; more than these can't be told apart at 32."""
OVAL = 2.0
"""Largest ratio of the longest to the shortest axis (RCDB: 2)."""
RIPPLE = (0.1, 0.6)
"""Least and most noise on the radius."""
WAVES = (1.0, 4.0)
"""How fine the noise is: radius of the circle in the noise's plane, in its cells."""
WIDTH = (0.004, 0.014)
"""Width of the lines, as a share of the image's side."""
TURN, SHIFT, WANDER = math.radians(15), 0.05, 0.25
"""Largest variation of an instance, each way: its angle, its position (share of half the side), its position in the
noise (cells)."""


@dataclass(frozen=True, eq=False)
class Contour:
    """The parameters of a class."""

    lines: int
    vertices: int
    inner: float
    """Ratio of the innermost polygon's radius to the outermost's."""
    oval: float
    """Ratio of the shortest axis to the longest."""
    tilt: float
    """Angle of the longest axis, in radians."""
    ripple: float
    waves: float
    drift: float
    """How far the noise moves from the innermost polygon to the outermost, in cells."""
    width: float
    slopes: Float64[np.ndarray, "16 16 2"]
    """The noise: a direction for each corner of its cells, repeated every 16."""


@lru_cache(maxsize=1 << 14)
def draw_contour(seed: int, label: int) -> Contour:
    """Draw a class's parameters."""
    rng = seed_generator(seed, CONTOURS, label, 0)
    lines, vertices = (round(math.exp(rng.uniform(math.log(low), math.log(high)))) for low, high in (LINES, VERTICES))
    angles = rng.uniform(0, 2 * math.pi, (16, 16))
    return Contour(
        lines=lines,
        vertices=vertices,
        inner=rng.uniform(0.05, 0.6),
        oval=rng.uniform(1 / OVAL, 1),
        tilt=rng.uniform(0, math.pi),
        ripple=rng.uniform(*RIPPLE),
        waves=rng.uniform(*WAVES),
        drift=rng.uniform(0, 2),
        width=rng.uniform(*WIDTH),
        slopes=np.stack([np.cos(angles), np.sin(angles)], axis=-1),
    )


def draw_contours(seed: int, label: int, instance: int, size: int, channels: int) -> UInt8[np.ndarray, "size size c"]:
    """Draw an instance of a class; a pure function of its arguments.

    Args:
        seed: of the family of classes.
        label: the class, from 0.
        instance: from 0.
        size: rows and columns, in pixels.
        channels: 3 for colours, 1 for grey.
    """
    rng = seed_generator(seed, CONTOURS, label, instance, 1)
    contour = draw_contour(seed, label)
    points = draw_polygons(contour, rng.uniform(-WANDER, WANDER, 2))
    if rng.random() < 0.5:
        points = points * np.array([-1.0, 1.0])
    shade = draw_shades(rng, contour.lines, channels)
    return draw_closed_lines(place_points(points, rng, contour.tilt, TURN, SHIFT), shade, contour.width, size)


def draw_polygons(contour: Contour, offset: Float64[np.ndarray, " 2"]) -> Float64[np.ndarray, "line point 2"]:
    """Return the corners of the polygons, the outermost first.

    The noise is sampled along a circle, so that the polygon closes; the circle drifts from polygon to polygon, so
    neighbours are alike.
    """
    angles = np.arange(contour.vertices) * (2 * math.pi / contour.vertices)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    depth = np.linspace(1, contour.inner, contour.lines)[:, None]
    where = ring * contour.waves + (8 + offset) + (depth * contour.drift)[..., None]
    radius = depth * (1 + contour.ripple * draw_noise(where, contour.slopes))
    return radius[..., None] * ring * np.array([1.0, contour.oval])


def draw_noise(
    where: Float64[np.ndarray, "line point 2"], slopes: Float64[np.ndarray, "16 16 2"]
) -> Float64[np.ndarray, "line point"]:
    """Return gradient noise (Perlin, 1985, with the smoother step of 2002), stretched to about -1 to 1."""
    cell = np.floor(where)
    inside = where - cell
    smooth = inside**3 * (inside * (inside * 6 - 15) + 10)
    total = np.zeros(where.shape[:-1])
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = (cell + corner).astype(np.int64) % 16
        slope = slopes[at[..., 0], at[..., 1]]
        share = np.where(corner, smooth, 1 - smooth).prod(axis=-1)
        total += share * (slope * (inside - corner)).sum(axis=-1)
    return total * math.sqrt(2)
