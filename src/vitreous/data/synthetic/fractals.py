"""Fractals: attractors of random iterated function systems, as in FractalDB (Kataoka et al., 2101.08515, and its code)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitreous.data.stream.order import seed_generator
from vitreous.data.synthetic.rasterisation import SQUARE, choose_canvas, draw_colours, shrink_canvas, spread_ink
from vitreous.shapes import Float32, Float64, Int64, UInt8

FRACTALS = 1
"""The kind's number, in the keys of its random draws."""
MAPS = (2, 8)
"""Fewest and most maps of a system (FractalDB's code: 2 to 7)."""
SHRINK = 0.95
"""Largest factor by which a map may stretch in any direction. FractalDB accepts any system that doesn't diverge."""
FILLING, FULL = 0.2, 0.75
"""Least and largest share of cells that an attractor covers (FractalDB's search: at least 0.2, of 512 x 512)."""
CELLS = 64
"""Rows and columns of the grid on which that share is counted."""
TRIES = 200
WEIGHT, TURN = 0.2, math.radians(10)
"""How far an instance departs from its class, each way: one coefficient of every map by up to a fifth (FractalDB: a
tenth or a fifth), and a rotation (FractalDB: none)."""
STEPS, SETTLE = 24, 8
"""Steps of the chaos game that are drawn, and steps before them that let the chains diverge."""


@dataclass(frozen=True, eq=False)
class System:
    """An iterated function system: x' = a x + b y + e, y' = c x + d y + f."""

    maps: Float64[np.ndarray, "coefficient map"]
    """Rows a, b, c, d, e, f."""

    @property
    def choice(self) -> Int64[np.ndarray, " byte"]:
        """Which map each of 256 random bytes selects, in proportion to the maps' areas, |ad - bc|, as in FractalDB."""
        a, b, c, d = self.maps[:4]
        area = np.abs(a * d - b * c) + 0.01
        ends = np.cumsum(area) / area.sum() * 256
        return np.searchsorted(ends, np.arange(256) + 0.5).astype(np.int64)


@dataclass(frozen=True)
class Variation:
    """What distinguishes an instance from its class. The default: nothing."""

    coefficient: int = 0
    """Index of the weighted coefficient, a to f."""
    weight: float = 1.0
    turn: float = 0.0
    """Rotation, in radians."""
    mirror: tuple[float, float] = (1.0, 1.0)
    """-1 flips an axis."""
    patch: tuple[bool, ...] = SQUARE
    """The shape drawn at each point: 3 x 3 pixels, row by row."""


def draw_fractal(seed: int, label: int, instance: int, size: int, channels: int) -> UInt8[np.ndarray, "size size c"]:
    """Draw an instance of a class; a pure function of its arguments.

    Args:
        seed: of the family of classes.
        label: the class, from 0.
        instance: from 0; -1 is the class itself, unvaried.
        size: rows and columns, in pixels.
        channels: 3 for colours, 1 for grey.
    """
    rng = seed_generator(seed, FRACTALS, label, instance, 1)
    variation = draw_variation(rng) if instance >= 0 else Variation()
    system = weight_maps(find_system(seed, label), variation)
    canvas, factor = choose_canvas(size)
    points, last = play_chaos_game(system, rng, chains=canvas * canvas // 16)
    ink = spread_ink(mark_cells(turn_points(points, variation), last, canvas), variation.patch)
    palette = np.concatenate([np.zeros((1, channels), dtype=np.uint8), draw_colours(rng, MAPS[1], channels)])
    return shrink_canvas(palette[ink], factor)


@lru_cache(maxsize=1 << 16)
def find_system(seed: int, label: int) -> System:
    """Find a class's system: the first of its random ones that fills enough of the image, but not all of it."""
    best, nearest = None, math.inf
    for turn in range(TRIES):
        rng = seed_generator(seed, FRACTALS, label, turn, 0)
        system = System(draw_contractions(rng))
        points, last = play_chaos_game(system, rng, chains=CELLS * CELLS // 16)
        share = np.count_nonzero(mark_cells(points, last, CELLS)) / CELLS**2
        miss = max(FILLING - share, share - FULL, 0.0)
        if miss < nearest:
            best, nearest = system, miss
        if not miss:
            break
    assert best is not None
    return best


def draw_contractions(rng: np.random.Generator) -> Float64[np.ndarray, "6 map"]:
    """Draw 2 to 8 maps, coefficients uniform in -1 to 1, that shrink every direction."""
    count = int(rng.integers(MAPS[0], MAPS[1] + 1))
    found = np.empty((6, 0))
    while found.shape[1] < count:
        drawn = rng.uniform(-1, 1, (6, 64))
        found = np.concatenate([found, drawn[:, measure_stretch(drawn) < SHRINK]], axis=1)
    return found[:, :count]


def measure_stretch(maps: Float64[np.ndarray, "6 map"]) -> Float64[np.ndarray, " map"]:
    """Return each map's largest singular value."""
    a, b, c, d = maps[:4]
    square, area = a * a + b * b + c * c + d * d, a * d - b * c
    return np.sqrt((square + np.sqrt(np.maximum(square * square - 4 * area * area, 0))) / 2)


def draw_variation(rng: np.random.Generator) -> Variation:
    """Draw an instance's variation."""
    patch = rng.random(9) < 0.5
    patch[4] = True
    return Variation(
        coefficient=int(rng.integers(6)),
        weight=float(rng.uniform(1 - WEIGHT, 1 + WEIGHT)),
        turn=float(rng.uniform(-TURN, TURN)),
        mirror=(float(rng.choice((-1, 1))), float(rng.choice((-1, 1)))),
        patch=tuple(patch.tolist()),
    )


def weight_maps(system: System, variation: Variation) -> System:
    """Weight one coefficient of every map; maps that no longer contract are scaled back."""
    maps = system.maps.copy()
    maps[variation.coefficient] *= variation.weight
    maps[:4] *= np.minimum(1, SHRINK / np.maximum(measure_stretch(maps), 1e-9))
    return System(maps)


def play_chaos_game(
    system: System, rng: np.random.Generator, chains: int
) -> tuple[Float32[np.ndarray, "2 point"], Int64[np.ndarray, " point"]]:
    """Play the chaos game (Barnsley, 1988) in many chains at once; return the points, and the map that led to each.

    The chains start from the first map's fixed point, which belongs to the attractor, so no step leaves it. As complex
    numbers a map is z' = turn z + fold conj(z) + shift.
    """
    a, b, c, d, e, f = system.maps
    turn, fold = (a + d + 1j * (c - b)) / 2, (a - d + 1j * (c + b)) / 2
    turn, fold, shift = (part.astype(np.complex64) for part in (turn, fold, e + 1j * f))
    area = (1 - a[0]) * (1 - d[0]) - b[0] * c[0]
    start = ((1 - d[0]) * e[0] + b[0] * f[0] + 1j * (c[0] * e[0] + (1 - a[0]) * f[0])) / area
    z = np.full(chains, start, dtype=np.complex64)
    taken = system.choice[np.frombuffer(rng.bytes(chains * (SETTLE + STEPS)), dtype=np.uint8)].reshape(-1, chains)
    points = np.empty((STEPS, 2, chains), dtype=np.float32)
    for step, last in enumerate(taken, start=-SETTLE):
        z = turn.take(last) * z + fold.take(last) * z.conj() + shift.take(last)
        if step >= 0:
            points[step] = z.real, z.imag
    return points.transpose(1, 0, 2).reshape(2, -1), taken[SETTLE:].reshape(-1)


def turn_points(points: Float32[np.ndarray, "2 point"], variation: Variation) -> Float32[np.ndarray, "2 point"]:
    """Rotate and mirror the points after scaling them to a square, so that a rotation means the same for every
    class."""
    x, y = fit_points(points)
    sine, cosine = math.sin(variation.turn), math.cos(variation.turn)
    return np.stack([(cosine * x - sine * y) * variation.mirror[0], (sine * x + cosine * y) * variation.mirror[1]])


def fit_points(points: Float32[np.ndarray, "2 point"]) -> Float32[np.ndarray, "2 point"]:
    """Scale each coordinate to -1 to 1 by itself (as FractalDB does)."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    scale = 2 / np.maximum(high - low, np.float32(1e-6))
    return points * scale - (low + high) / 2 * scale


def mark_cells(
    points: Float32[np.ndarray, "2 point"], last: Int64[np.ndarray, " point"], canvas: int
) -> UInt8[np.ndarray, "canvas canvas"]:
    """Mark the cells that points lie in with 1 + the map that led there; 0 is empty. A margin of one cell stays
    free."""
    half = np.float32((canvas - 3) / 2)
    col, row = (fit_points(points) * half + (half + np.float32(1.5))).astype(np.int32)
    ink = np.zeros(canvas * canvas, dtype=np.uint8)
    ink[row * canvas + col] = last + 1
    return ink.reshape(canvas, canvas)
