"""What an evaluation found, as a list of parts: one description, written as a page, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vitreous.drawing.html import Section, figure, missing, page, paragraph, plain, table, text
from vitreous.storage.atomic import atomic_folder

FORMAT = 1
"""Version of report.json's layout."""
PAGE, DOCUMENT, MARKDOWN = "report.html", "report.json", "report.md"


@runtime_checkable
class Block(Protocol):
    """A piece of a part, which can be shown on a page and in plain Markdown."""

    def html(self) -> str:
        """Return it for the page, escaped."""
        ...

    def markdown(self) -> str:
        """Return it as Markdown, or "" for what only a page can show."""
        ...


@dataclass(frozen=True)
class Numbers:
    """The figures that matter most, in large type, the first one largest."""

    figures: Sequence[tuple[str, str, str]]
    """(name, value, small print) of each."""

    def html(self) -> str:
        """Return a list of terms and values."""
        items = ""
        for place, (name, value, small) in enumerate(self.figures):
            first = ' class="first"' if place == 0 else ""
            more = f"<small>{text(small)}</small>" if small else ""
            items += f"<div><dt>{text(name)}</dt><dd{first}>{text(value)}{more}</dd></div>"
        return f'<dl class="figures">{items}</dl>'

    def markdown(self) -> str:
        """Return one line for each figure."""
        lines = [
            f"- {safe(name)}: **{safe(value)}**" + (f" ({safe(small)})" if small else "")
            for name, value, small in self.figures
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first `words` columns hold words, the others numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: int = 1
    fold_after: int | None = None
    """Rows that stand in the open; the others fold away on the page. None: all."""

    def html(self) -> str:
        """Return the table, the rest of a long one folded."""
        shown = self.rows[: self.fold_after]
        body = table(self.caption, self.heads, shown, self.words)
        if len(shown) < len(self.rows):
            rest = table(f"{self.caption}, the others", self.heads, self.rows[len(shown) :], self.words)
            count = len(self.rows) - len(shown)
            body += f"<details><summary>{count:,} more</summary>{rest}</details>"
        return body

    def markdown(self) -> str:
        """Return a table of pipes, with its caption above."""
        rules = ["---" if place < self.words else "---:" for place in range(len(self.heads))]
        lines = [[safe(cell) for cell in row] for row in (self.heads, *self.rows)]
        lines.insert(1, rules)
        return f"{safe(self.caption)}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __str__(self) -> str:
        """Return aligned columns, for a terminal."""
        lines = [[" ".join(plain(cell).split()) for cell in row] for row in (self.heads, *self.rows)]
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            "  ".join(
                cell.ljust(width) if place < self.words else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, wide, strict=True))
            )
            for line in lines
        ]
        return "\n".join(line.rstrip() for line in aligned)


@dataclass(frozen=True)
class Drawing:
    """A picture (an SVG of `drawing/charts.py`) with its caption; only the page shows it."""

    drawing: str
    """HTML."""
    caption: str
    title: str = ""
    least: float = 0
    """Width in pixels below which it scrolls rather than shrinks."""

    def html(self) -> str:
        """Return the figure."""
        shown = self.drawing
        if self.least:
            shown = f'<div class="scroll"><div style="min-width:{self.least:.0f}px">{shown}</div></div>'
        return figure(shown, self.caption, self.title)

    def markdown(self) -> str:
        """Return nothing."""
        return ""


@dataclass(frozen=True)
class Words:
    """An explaining paragraph."""

    words: str

    def html(self) -> str:
        """Return it in a soft colour."""
        return paragraph(self.words)

    def markdown(self) -> str:
        """Return it as it is."""
        return safe(self.words)


@dataclass(frozen=True)
class Note:
    """What the reader must know: a bold beginning and the rest."""

    what: str
    why: str

    def html(self) -> str:
        """Return it marked at its side."""
        return missing(self.what, self.why)

    def markdown(self) -> str:
        """Return it as a quotation."""
        return f"> **{safe(self.what)}** {safe(self.why)}"


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where there is room."""

    blocks: Sequence[Block]
    wide: bool = False
    """Each needs more room than a small chart does."""

    def html(self) -> str:
        """Return a grid of the blocks."""
        cells = "".join(f"<div>{one.html()}</div>" for one in self.blocks)
        return f'<div class="{"split" if self.wide else "row"}">{cells}</div>'

    def markdown(self) -> str:
        """Return the blocks one after the other."""
        return "\n\n".join(filter(None, (one.markdown() for one in self.blocks)))


@dataclass(frozen=True)
class Part:
    """One part of the report. The first part's anchor is "results"."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Outcome:
    """Everything that one evaluation found."""

    title: str
    """What was measured, in a few words."""
    lead: str
    """One sentence: which model, on which images, by which protocol."""
    parts: Sequence[Part]
    data: dict[str, Any] = field(default_factory=dict)
    """What report.json holds: JSON values, everything that the parts show and more."""


def write_outcome(folder: Path, outcome: Outcome) -> Path:
    """Write report.html, report.json and report.md into a new folder; return the page's path.

    Raises:
        StorageError: the folder can't be written; then none of the three is there.
    """
    with atomic_folder(folder) as partial:
        (partial / PAGE).write_bytes(html(outcome))
        document = {"vitreous_evaluation": FORMAT, **outcome.data}
        (partial / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (partial / MARKDOWN).write_text(markdown(outcome), encoding="utf-8")
    return folder / PAGE


def html(outcome: Outcome) -> bytes:
    """Return the whole page."""
    sections = [Section(one.anchor, one.title, "".join(block.html() for block in one.blocks)) for one in outcome.parts]
    foot = f"Written by vitreous on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    return page(plain(outcome.title), f'<p class="soft">{text(outcome.lead)}</p>', sections, foot)


def markdown(outcome: Outcome) -> str:
    """Return everything but the pictures, as Markdown."""
    lines = [f"# {safe(outcome.title)}", safe(outcome.lead)]
    for one in outcome.parts:
        shown = [block.markdown() for block in one.blocks]
        if any(shown):
            lines += [f"## {safe(one.title)}", *filter(None, shown)]
    return "\n\n".join(lines) + "\n"


def safe(value: object) -> str:
    """Return text that stays text in Markdown, on one line: no tags, no links, no cells of its own."""
    words = " ".join(plain(value).split())
    for sign in ("\\", "|", "<", "[", "]", "`", "*", "_"):
        words = words.replace(sign, "\\" + sign)
    return words
