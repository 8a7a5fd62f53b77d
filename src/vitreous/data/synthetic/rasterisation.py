"""Drawing for the formulas: a canvas, colours, closed lines."""

import math

import numpy as np
from PIL import Image, ImageDraw

from vitreous.shapes import Float64, UInt8

FINEST = 96
"""Smallest canvas, in rows and columns: smaller images are drawn larger and averaged down."""
SQUARE, CROSS = (True,) * 9, (False, True, False, True, True, True, False, True, False)
"""Patches that thicken a line by a pixel on each side; used in turn they make an octagon."""


def choose_canvas(size: int) -> tuple[int, int]:
    """Return the rows and columns of the canvas, and the factor by which it is averaged down."""
    factor = math.ceil(FINEST / size)
    return size * factor, factor


def shrink_canvas(pixels: UInt8[np.ndarray, "r c channel"], factor: int) -> UInt8[np.ndarray, "r2 c2 channel"]:
    """Average `factor` x `factor` pixels into one, rounded to the nearest."""
    if factor == 1:
        return pixels
    rows, cols, channels = pixels.shape
    parts = pixels.reshape(rows // factor, factor, cols, channels).sum(axis=1, dtype=np.uint16)
    sums = parts.reshape(rows // factor, cols // factor, factor, channels).sum(axis=2, dtype=np.uint32)
    return ((sums + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def draw_colours(rng: np.random.Generator, count: int, channels: int) -> UInt8[np.ndarray, "count channel"]:
    """Draw random colours that stand out from black: the brightest channel of each is at least 160 of 255."""
    drawn = rng.uniform(0.15, 1.0, (count, channels))
    peak = rng.uniform(160, 255, (count, 1))
    return np.rint(drawn / drawn.max(axis=1, keepdims=True) * peak).astype(np.uint8)


def draw_shades(rng: np.random.Generator, count: int, channels: int) -> UInt8[np.ndarray, "count channel"]:
    """Draw two random colours, and return `count` shades from one to the other."""
    first, last = draw_colours(rng, 2, channels).astype(np.float64)
    share = np.linspace(0, 1, count)[:, None]
    return np.rint(first * (1 - share) + last * share).astype(np.uint8)


def spread_ink(ink: UInt8[np.ndarray, "row col"], patch: tuple[bool, ...]) -> UInt8[np.ndarray, "row col"]:
    """Draw a patch of 3 x 3 pixels, given row by row, at every marked pixel; where patches overlap, higher marks stay.

    Nothing is drawn in the outermost rows and columns.
    """
    drawn, (rows, cols) = ink.copy(), ink.shape
    inner = drawn[1:-1, 1:-1]
    for place in np.flatnonzero(patch):
        down, across = divmod(int(place), 3)
        np.maximum(inner, ink[2 - down : rows - down, 2 - across : cols - across], out=inner)
    return drawn


def draw_closed_lines(
    points: Float64[np.ndarray, "line point 2"], shade: UInt8[np.ndarray, "line channel"], width: float, size: int
) -> UInt8[np.ndarray, "size size channel"]:
    """Draw closed lines on black, the first one lowest.

    Args:
        points: x and y, from -1 to 1 within the image; at most 255 lines.
        shade: one colour per line.
        width: of the lines, as a share of the image's side; never below one pixel of the image.
        size: rows and columns of the image, in pixels.
    """
    canvas, factor = choose_canvas(size)
    image = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(image)
    places = np.rint((points + 1) * (canvas / 2) - 0.5)
    closed = np.concatenate([places, places[:, :1]], axis=1).reshape(len(places), -1)
    for number, line in enumerate(closed.tolist(), start=1):
        draw.line(line, fill=number)
    ink = np.asarray(image)
    for step in range(max(factor // 2, round(width * canvas / 2))):
        ink = spread_ink(ink, SQUARE if step % 2 else CROSS)
    palette = np.concatenate([np.zeros_like(shade[:1]), shade])
    return shrink_canvas(palette[ink], factor)


def place_points(
    points: Float64[np.ndarray, "line point 2"], rng: np.random.Generator, tilt: float, turn: float, shift: float
) -> Float64[np.ndarray, "line point 2"]:
    """Rotate by `tilt` and up to `turn` radians each way, scale to 3/4 to 19/20 of the image, move by up to `shift`.

    The shape is first scaled so that its longer side reaches from -1 to 1.
    """
    angle = tilt + rng.uniform(-turn, turn)
    sine, cosine = math.sin(angle), math.cos(angle)
    x, y = points[..., 0], points[..., 1]
    found = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
    low, high = found.min(axis=(0, 1)), found.max(axis=(0, 1))
    found = (2 * found - low - high) / max(float((high - low).max()), 1e-9)
    return found * rng.uniform(0.75, 0.95) + rng.uniform(-shift, shift, 2)
