"""A matrix of shares as a heat map: SVG, coloured by the page's own CSS variables, light and dark."""

from collections.abc import Sequence
from html import escape

from vitreous.drawing.charts import svg

NUMBERED = 16
"""Most columns with which cells show their values."""
BENEATH_TEXT = 0.55
"""Strongest colour behind a value: text on it can be read in light and in dark."""


def heat_map(
    matrix: Sequence[Sequence[float]], names: tuple[Sequence[str], Sequence[str]], titles: tuple[str, str], label: str
) -> tuple[str, float]:
    """Draw a matrix of values from 0 to 1, the first row at the top; the stronger the colour, the higher.

    Args:
        matrix: a row for each name of the first sequence.
        names: of the rows and of the columns.
        titles: what the rows are and what the columns are.
        label: says in words what the map shows.

    Returns:
        The SVG, and the width in pixels below which it should scroll rather than shrink.
    """
    rows, cols = names
    cell = max(14.0, min(38.0, 520 / max(len(rows), len(cols), 1)))
    left, top = (30 + 6.4 * max(map(len, side), default=0) for side in (rows, cols))
    width, height = left + cell * len(cols) + 2, top + cell * len(rows) + 2
    body = (
        f'<text class="axis" x="{left + cell * len(cols) / 2:g}" y="10" text-anchor="middle">{escape(titles[1])}</text>'
    )
    middle = top + cell * len(rows) / 2
    body += f'<text class="axis" transform="translate(9 {middle:g}) rotate(-90)" text-anchor="middle">{escape(titles[0])}</text>'
    for index, name in enumerate(rows):
        down = top + (index + 0.5) * cell + 3.5
        body += f'<text class="axis" x="{left - 6:g}" y="{down:g}" text-anchor="end">{escape(name)}</text>'
    for index, name in enumerate(cols):
        place = f"translate({left + (index + 0.5) * cell + 3.5:g} {top - 6:g}) rotate(-90)"
        body += f'<text class="axis" transform="{place}">{escape(name)}</text>'
    for row, values in enumerate(matrix):
        for col, value in enumerate(values):
            title = f"{rows[row]}, {cols[col]}: {value:.3f}"
            body += _cell((left + col * cell, top + row * cell), cell, value, title, len(cols) <= NUMBERED)
    body += f'<rect class="frame" x="{left:g}" y="{top:g}" width="{width - left - 2:g}" height="{height - top - 2:g}"/>'
    return svg(width, height, label, body).replace(f"{2 * width:g}px", f"{1.25 * width:g}px"), 0.72 * width


def _cell(place: tuple[float, float], side: float, value: float, title: str, numbered: bool) -> str:
    (x, y), strength = place, min(1.0, max(0.0, value)) * (BENEATH_TEXT if numbered else 1)
    body = f'<rect class="hit" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill-opacity="{strength:.2f}"/>'
    if numbered:
        text = f"{value:.2f}".replace("0.", ".", 1)
        body += f'<text class="count" x="{x + side / 2:.1f}" y="{y + side / 2 + 3.5:.1f}" text-anchor="middle">{text}</text>'
    return f"<g><title>{escape(title)}</title>{body}</g>"
