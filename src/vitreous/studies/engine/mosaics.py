"""Small pictures side by side, as self-contained SVG files: similarity of places, filters."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vitreous.drawing.images import draw_mosaic, encode_data_uri, encode_png, map_colours
from vitreous.drawing.svg import LARGE, draw_text, render_svg
from vitreous.shapes import Float, UInt8

WIDTH = LARGE.width


def draw_places(tiles: Float[np.ndarray, "row col row2 col2"], label: str, words: str) -> Markup:
    """Draw a heat map of values -1 to 1 for each place, at its place.

    Args:
        tiles: [r, c] is the small picture of row r, column c.
        label: describes the drawing in words.
        words: written below it.
    """
    pixels = draw_mosaic(tiles, max(tiles.shape[:2]))
    shrink = min(440 / pixels.shape[0], (WIDTH - 120) / pixels.shape[1])
    high, wide = (shrink * count for count in pixels.shape[:2])
    floor = 18 + high
    scale = map_colours(np.linspace(0, 1, 200)[None])
    body = draw_picture(pixels, ((WIDTH - wide) / 2, 18), (wide, high))
    body += draw_picture(scale, (WIDTH / 2 - 100, floor + 18), (200, 9))
    body += draw_text(WIDTH / 2 - 108, floor + 27, "−1", anchor="end") + draw_text(WIDTH / 2 + 108, floor + 27, "1")
    body += draw_text(WIDTH / 2, floor + 50, words, anchor="middle")
    return render_svg(WIDTH, floor + 62, label, body, alone=True)


def draw_filters(
    components: Float[np.ndarray, "component channel row col"], explained: Sequence[float], label: str, words: str
) -> Markup:
    """Draw filters as pictures, each scaled to its own range, seven per line, with their share of the variance.

    Args:
        components: the filters; three channels are shown as colours, one as grey.
        explained: share of each, 0 to 1.
        label: describes the drawing in words.
        words: written below it.
    """
    side, gap, line = 76.0, 20.0, 7
    left = (WIDTH - line * side - (line - 1) * gap) / 2
    body = ""
    for index, component in enumerate(components):
        x, y = left + index % line * (side + gap), 18 + index // line * (side + 34)
        low, high = component.min(), component.max()
        pixels = (255 * (component - low) / max(high - low, 1e-12)).round().astype(np.uint8)
        body += draw_picture(pixels.transpose(1, 2, 0), (x, y), (side, side))
        body += draw_text(x + side / 2, y + side + 16, f"{100 * explained[index]:.1f}%", anchor="middle")
    floor = 18 + -(-len(components) // line) * (side + 34)
    body += draw_text(WIDTH / 2, floor + 16, words, anchor="middle")
    return render_svg(WIDTH, floor + 34, label, body, alone=True)


def draw_picture(
    pixels: UInt8[np.ndarray, "row col channel"], place: tuple[float, float], size: tuple[float, float]
) -> str:
    """Draw pixels as a picture without blur, given its upper left corner, width and height."""
    (x, y), (width, height) = place, size
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{encode_data_uri("png", encode_png(pixels))}"/>'
    )
