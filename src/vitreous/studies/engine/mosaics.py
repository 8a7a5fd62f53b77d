"""Small pictures side by side, as SVG files that stand alone: similarity of places, filters."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from vitreous.drawing.images import colours
from vitreous.drawing.svg import LARGE, svg, text_at

WIDTH = LARGE.width
LEVELS = 48
"""Colours of a heat map; each is one path, so that the file stays small."""


def places_mosaic(tiles: Float[np.ndarray, "row col row2 col2"], label: str, words: str) -> str:
    """Draw a heat map of values -1 to 1 for each place, at its place.

    Args:
        tiles: [r, c] is the small picture of row r, column c.
        label: says in words what the drawing shows.
        words: written below it.
    """
    rows, cols, high, wide = tiles.shape
    cell = max(1.0, min(440 / (rows * (high + 1)), (WIDTH - 120) / (cols * (wide + 1))))
    levels = np.clip(np.round((tiles + 1) / 2 * (LEVELS - 1)), 0, LEVELS - 1).astype(int)
    left, top = (WIDTH - cols * (wide + 1) * cell) / 2, 18.0
    paths: dict[int, list[str]] = defaultdict(list)
    for row, col, r, c in np.ndindex(*tiles.shape):
        x, y = left + (col * (wide + 1) + c) * cell, top + (row * (high + 1) + r) * cell
        paths[int(levels[row, col, r, c])].append(f"M{x:.1f} {y:.1f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z")
    palette = colours(np.linspace(0, 1, LEVELS)[None])[0]
    body = "".join(
        f'<path fill="{shown(palette[level])}" d="{"".join(found)}"/>' for level, found in sorted(paths.items())
    )
    floor = top + rows * (high + 1) * cell
    body += scale(floor + 16, palette) + text_at(WIDTH / 2, floor + 48, words, anchor="middle")
    return svg(WIDTH, floor + 60, label, body, alone=True)


def scale(top: float, palette: UInt8[np.ndarray, "level 3"]) -> str:
    """Draw the colours from -1 to 1."""
    step, left = 200 / LEVELS, WIDTH / 2 - 100
    bars = "".join(
        f'<rect x="{left + level * step:.2f}" y="{top:g}" width="{step + 0.3:.2f}" height="9" fill="{shown(colour)}"/>'
        for level, colour in enumerate(palette)
    )
    return text_at(left - 8, top + 9, "−1", anchor="end") + bars + text_at(left + 208, top + 9, "1")


def filters_mosaic(
    components: Float[np.ndarray, "component channel row col"], explained: Sequence[float], label: str, words: str
) -> str:
    """Draw filters as pictures of their own range, seven a line, each with its share of the variance.

    Args:
        components: the filters; three channels are shown as colours, one as grey.
        explained: share of each, 0 to 1.
        label: says in words what the drawing shows.
        words: written below it.
    """
    side, gap, line = 76.0, 20.0, 7
    left = (WIDTH - line * side - (line - 1) * gap) / 2
    body = ""
    for index, component in enumerate(components):
        x, y = left + index % line * (side + gap), 18 + index // line * (side + 34)
        body += picture(component, x, y, side)
        body += text_at(x + side / 2, y + side + 16, f"{100 * explained[index]:.1f}%", anchor="middle")
    floor = 18 + -(-len(components) // line) * (side + 34)
    body += text_at(WIDTH / 2, floor + 16, words, anchor="middle")
    return svg(WIDTH, floor + 34, label, body, alone=True)


def picture(component: Float[np.ndarray, "channel row col"], x: float, y: float, side: float) -> str:
    """Draw one filter, its smallest value dark and its largest light."""
    low, high = component.min(), component.max()
    pixels = (255 * (component - low) / max(high - low, 1e-12)).round().astype(np.uint8).transpose(1, 2, 0)
    rows, cols, _ = pixels.shape
    tall, wide = side / rows, side / cols
    return "".join(
        f'<rect x="{x + c * wide:.1f}" y="{y + r * tall:.1f}" width="{wide + 0.2:.1f}" height="{tall + 0.2:.1f}" '
        f'fill="{shown(pixels[r, c].repeat(3 // pixels.shape[2]))}"/>'
        for r, c in np.ndindex(rows, cols)
    )


def shown(colour: UInt8[np.ndarray, " 3"]) -> str:
    """Write a colour for SVG."""
    return "#" + "".join(f"{int(value):02x}" for value in colour)
