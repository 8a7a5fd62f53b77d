"""What an interactive session shows of a value: its text, escaped for a notebook, and a line of what it is made of."""

import re
import reprlib
import sys
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Characters of Unicode's categories Cc and Cs except tab and line feed, and those that change the direction of
text."""
PLAIN = (str, int, float, bool, tuple, list, dict, Path, type(None))
"""Whose values stand in a line; of others, their kind."""


def strip_hidden(value: object) -> str:
    """Return text that is safe to show: control and direction characters, and bytes that are not text, become
    U+FFFD."""
    return HIDDEN.sub("\ufffd", str(value))


def escape_text(value: object) -> str:
    """Escape anything for HTML and SVG, and replace what `strip_hidden` replaces."""
    return escape(strip_hidden(value))


def find_kernel() -> Any:
    """Return the kernel of the notebook that this process computes for; None in a script, a shell or a terminal's IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


def format_text(figures: object) -> str:
    """Return figures that are aligned for a terminal, as HTML."""
    return f"<pre>{escape_text(figures)}</pre>"


class Abbreviation(reprlib.Repr):
    """Writes a dataclass in a line: short values as they are, of arrays the shape, of what else there is the kind."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxdict = self.maxtuple = self.maxlist = 8
        self.maxlevel = 3

    def write(self, value: Any) -> str:
        """Write a dataclass with the fields that its repr has."""
        shown = (f"{one.name}={self.repr1(getattr(value, one.name), 3)}" for one in fields(value) if one.repr)
        return f"{type(value).__name__}({', '.join(shown)})"

    def repr1(self, x: Any, level: int) -> str:
        """Write one of its values, so many levels deep."""
        if isinstance(x, Path):
            return repr(x)  # cut in the middle, it leads nowhere
        if isinstance(x, PLAIN):
            return super().repr1(x, level)
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"<{tuple(x.shape)} {x.dtype}>"
        return f"{type(x).__name__}(...)" if is_dataclass(x) else f"<{type(x).__name__}>"


class Shown:
    """A dataclass that people look at. A notebook shows its text; its repr (where the dataclass makes none) is a line."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return format_text(self)

    def __repr__(self) -> str:
        return Abbreviation().write(self)
