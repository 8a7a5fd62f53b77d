"""How an interactive session shows a value: its text, escaped for a notebook, or its fields on one line."""

import re
import reprlib
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Characters of Unicode's categories Cc and Cs except tab and line feed, and those that change the direction of
text."""
PLAIN = (str, int, float, bool, tuple, list, dict, Path, type(None))
"""Types whose values are written on the line; others are represented by their type's name."""


def strip_hidden(value: object) -> str:
    """Return text that is safe to show: control and direction characters, and bytes that are not text, become
    U+FFFD."""
    return HIDDEN.sub("\ufffd", str(value))


def escape_text(value: object) -> str:
    """Escape anything for HTML and SVG, and replace what `strip_hidden` replaces."""
    return escape(strip_hidden(value))


def align_columns(rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """Return rows with the same number of cells as lines for a terminal: the first `words` columns aligned left, the
    others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return ["  ".join(cells).rstrip() for cells in aligned]


def find_kernel() -> Any:
    """Return the notebook kernel that this process is; None in a script, a shell or IPython in a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


def format_text(figures: object) -> str:
    """Return text that is aligned for a terminal, as HTML."""
    return f"<pre>{escape_text(figures)}</pre>"


class Abbreviation(reprlib.Repr):
    """Writes a dataclass on one line: short values as they are, arrays by their shape, anything else by its type."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxdict = self.maxtuple = self.maxlist = 8
        self.maxlevel = 3

    def write(self, value: Any) -> str:
        """Write a dataclass with the fields that its repr shows."""
        shown = (f"{one.name}={self.repr1(getattr(value, one.name), 3)}" for one in fields(value) if one.repr)
        return f"{type(value).__name__}({', '.join(shown)})"

    def repr1(self, x: Any, level: int) -> str:
        """Write one of its values, to this many levels."""
        if isinstance(x, Path):
            return repr(x)  # a path cut in the middle is useless
        if isinstance(x, PLAIN):
            return super().repr1(x, level)
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"<{tuple(x.shape)} {x.dtype}>"
        return f"{type(x).__name__}(...)" if is_dataclass(x) else f"<{type(x).__name__}>"


class Shown:
    """A dataclass that is shown to people: in a notebook as its text, elsewhere as one line (unless the dataclass has
    its own repr)."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return format_text(self)

    def __repr__(self) -> str:
        return Abbreviation().write(self)
