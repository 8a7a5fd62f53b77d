"""Matrices as SVG, a coloured cell for each value: confusion matrices and heat maps of shares; light and dark."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from vitreous.drawing.svg import count_letters, draw_box, draw_text, render_svg
from vitreous.runtime.display import escape_text

NUMBERED = 16
"""Most columns of a heat map whose cells show their values."""
COUNTED = 12
"""Most classes of a confusion matrix whose cells show their counts."""
LETTER = 6.4
"""Width of a letter, in the SVG's units."""
BENEATH_TEXT = 0.55
"""Strongest colour behind a value, on which text is readable in light and in dark."""


class Cell(NamedTuple):
    """One value."""

    strength: float
    """Strength of its colour, 0 to 1."""
    title: str = ""
    """Its tooltip; "": none."""
    number: str = ""
    """The text in it."""
    kind: str = "hit"
    """Class of its rectangle."""


def draw_matrix(
    cells: Sequence[Sequence[Cell | None]],
    names: tuple[Sequence[str], Sequence[str]],
    titles: tuple[str, str],
    label: str,
) -> tuple[Markup, float]:
    """Draw a matrix, the first row at the top.

    Args:
        cells: a row for each name of the first sequence; None stays empty.
        names: of the rows and of the columns.
        titles: of the rows and of the columns.
        label: describes the matrix in words.

    Returns:
        The SVG, and the width in pixels below which it should scroll rather than shrink.
    """
    rows, cols = names
    side = max(14.0, min(38.0, 500 / max(len(rows), len(cols), 1)))
    widths = [LETTER * max(map(count_letters, words), default=0) for words in names]
    turned = widths[1] > side
    left, top = 26 + widths[0], 26 + widths[1] if turned else 34.0
    wide, high = side * len(cols), side * len(rows)
    body = draw_text(left + wide / 2, 11, titles[1], anchor="middle")
    body += draw_text(11, top + high / 2, titles[0], anchor="middle", turned=True)
    for index, name in enumerate(rows):
        body += draw_text(left - 6, top + (index + 0.5) * side + 3.5, name, anchor="end")
    for index, name in enumerate(cols):
        across = left + (index + 0.5) * side + (3.5 if turned else 0)
        body += draw_text(across, top - 6, name, anchor="start" if turned else "middle", turned=turned)
    for row, values in enumerate(cells):
        for col, cell in enumerate(values):
            body += _draw_cell(cell, (left + col * side, top + row * side), side) if cell else ""
    body += draw_box("frame", (left, top), (wide, high))
    width = left + wide + 2
    return render_svg(width, top + high + 2, label, body, scale=1.25), 0.72 * width


def _draw_cell(cell: Cell, place: tuple[float, float], side: float) -> str:
    body = draw_box(cell.kind, place, (side, side), f' fill-opacity="{cell.strength:.2f}"')
    if cell.number:
        on = " on" if cell.strength > (BENEATH_TEXT if cell.kind == "hit" else 0.85) else ""
        middle = (place[0] + side / 2, place[1] + side / 2 + 3.5)
        body += draw_text(*middle, cell.number, f"count{on}", "middle")
    return f"<g><title>{escape_text(cell.title)}</title>{body}</g>" if cell.title else body


def find_strength(share: float) -> float:
    """Return the strength of colour, 0 to 1, of a share of a confusion matrix's row: faint, but there, for the smallest."""
    return 0.12 + 0.88 * share**0.6


def draw_confusions(matrix_of: Sequence[Sequence[int]], names: Sequence[str], label: str) -> tuple[Markup, float]:
    """Draw a confusion matrix, rows true, columns predicted; colour is the share of the row; see `draw_matrix`."""
    counted = len(names) <= COUNTED

    def cell(row: int, col: int, value: int, total: int) -> Cell:
        kind, share = "hit" if row == col else "miss", value / total
        strength = find_strength(share)
        if not counted:
            return Cell(strength, kind=kind)
        what = f"{names[row]}, right" if row == col else f"{names[row]} taken for {names[col]}"
        return Cell(strength, f"{what}: {value:,} of {total:,} ({share:.1%})", str(value), kind)

    cells = [
        [cell(row, col, value, sum(counts)) if value else None for col, value in enumerate(counts)]
        for row, counts in enumerate(matrix_of)
    ]
    shown = [name if len(name) <= 16 else name[:15] + "…" for name in names]
    return draw_matrix(cells, (shown, shown), ("true", "predicted"), label)


def draw_heat_map(
    values: Sequence[Sequence[float]], names: tuple[Sequence[str], Sequence[str]], titles: tuple[str, str], label: str
) -> tuple[Markup, float]:
    """Draw values from 0 to 1: the higher, the stronger the colour; see `draw_matrix`."""
    rows, cols = names
    numbered = len(cols) <= NUMBERED

    def cell(row: int, col: int, value: float) -> Cell:
        number = f"{value:.2f}".replace("0.", ".", 1) if numbered else ""
        strength = min(1.0, max(0.0, value)) * (BENEATH_TEXT if numbered else 1)
        return Cell(strength, f"{rows[row]}, {cols[col]}: {value:.3f}", number)

    cells = [[cell(row, col, value) for col, value in enumerate(line)] for row, line in enumerate(values)]
    return draw_matrix(cells, names, titles, label)
