"""Visual atoms: two sine waves around nested orbits, as in VisualAtom (Takashima et al., 2303.01112, and its code)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitreous.data.stream.order import seed_generator
from vitreous.data.synthetic.rasterisation import draw_closed_lines, draw_shades, place_points
from vitreous.shapes import Float64, UInt8

ATOMS = 3
"""The kind's number, in the keys of its random draws."""
ORBITS = (2, 16)
"""Fewest and most orbits, drawn log-uniformly. VisualAtom has up to 200, at 512 pixels."""
FREQUENCY = (0, 20)
"""Lowest and highest frequency of either wave (VisualAtom: 0 to 20)."""
AMPLITUDE = (0.03, 0.22)
"""Least and largest amplitude of either wave, over the outermost orbit's radius."""
OVAL = 2.0
"""Largest ratio of the longest to the shortest axis (VisualAtom: 2)."""
POINTS = 160
"""Points of each orbit: four at each crest of the fastest wave, and more."""
WIDTH = (0.008, 0.02)
"""Width of the lines, as a share of the image's side."""
TURN, SHIFT, PHASE, JITTER = math.radians(15), 0.05, 0.4, 0.006
"""Largest variation of an instance, each way: its angle, its position, the phase of each wave (radians), every
point's radius."""


@dataclass(frozen=True)
class Atom:
    """The parameters of a class."""

    orbits: int
    inner: float
    """Ratio of the innermost orbit's radius to the outermost's."""
    oval: float
    """Ratio of the shortest axis to the longest."""
    tilt: float
    """Angle of the longest axis, in radians."""
    frequencies: tuple[int, int]
    amplitudes: tuple[float, float]
    twist: float
    """How far the waves rotate from the outermost orbit to the innermost, in radians."""
    width: float


@lru_cache(maxsize=1 << 16)
def draw_atom_parameters(seed: int, label: int) -> Atom:
    """Draw a class's parameters."""
    rng = seed_generator(seed, ATOMS, label, 0)
    low, high = (math.log(count) for count in ORBITS)
    first, second = (int(rng.integers(FREQUENCY[0], FREQUENCY[1] + 1)) for _ in range(2))
    return Atom(
        orbits=round(math.exp(rng.uniform(low, high))),
        inner=rng.uniform(0.1, 0.7),
        oval=rng.uniform(1 / OVAL, 1),
        tilt=rng.uniform(0, math.pi),
        frequencies=(first, second),
        amplitudes=(rng.uniform(*AMPLITUDE), rng.uniform(*AMPLITUDE)),
        twist=rng.uniform(0, math.pi / 4),
        width=rng.uniform(*WIDTH),
    )


def draw_atom(seed: int, label: int, instance: int, size: int, channels: int) -> UInt8[np.ndarray, "size size c"]:
    """Draw an instance of a class; a pure function of its arguments.

    Args:
        seed: of the family of classes.
        label: the class, from 0.
        instance: from 0.
        size: rows and columns, in pixels.
        channels: 3 for colours, 1 for grey.
    """
    rng = seed_generator(seed, ATOMS, label, instance, 1)
    atom = draw_atom_parameters(seed, label)
    phases = rng.uniform(-PHASE, PHASE, 2)
    points = draw_waves(atom, phases, rng.uniform(-JITTER, JITTER, (atom.orbits, POINTS)))
    if rng.random() < 0.5:
        points = points * np.array([-1.0, 1.0])
    shade = draw_shades(rng, atom.orbits, channels)
    return draw_closed_lines(place_points(points, rng, atom.tilt, TURN, SHIFT), shade, atom.width, size)


def draw_waves(
    atom: Atom, phases: Float64[np.ndarray, " 2"], jitter: Float64[np.ndarray, "orbit point"]
) -> Float64[np.ndarray, "orbit point 2"]:
    """Return the points of the orbits, the outermost first: an ellipse, displaced by both waves."""
    angles = np.arange(POINTS) * (2 * math.pi / POINTS)
    depth = np.linspace(1, 0, atom.orbits)[:, None]
    radius = atom.inner + (1 - atom.inner) * depth + jitter
    for frequency, amplitude, phase in zip(atom.frequencies, atom.amplitudes, phases, strict=True):
        radius = radius + amplitude * np.sin(frequency * (angles + atom.twist * (1 - depth)) + phase)
    return radius[..., None] * np.stack([np.cos(angles), atom.oval * np.sin(angles)], axis=-1)
