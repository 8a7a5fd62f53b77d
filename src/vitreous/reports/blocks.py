"""The blocks of pages, each shown on a page and in Markdown; and an evaluation's page, Markdown and JSON."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vitreous.drawing.html import render_macro, render_page
from vitreous.runtime.display import align_columns, strip_hidden
from vitreous.storage.atomic import atomic_folder

FORMAT = 1
"""Version of report.json's layout."""
PAGE, DOCUMENT, MARKDOWN = "report.html", "report.json", "report.md"
LINKS = re.compile(r"&(?=#?\w+;)|:(?=//)|(?<=www)\.|@(?=[\w-]+\.)")
"""The sign that makes an entity of text in Markdown, or a link of an address."""


class Block:
    """A piece of a section, for a page and for plain Markdown."""

    def html(self) -> Markup:
        """Return it for the page, escaped: the output of the macro that is named like the class."""
        return render_macro(type(self).__name__.lower(), self)

    def markdown(self) -> str:
        """Return it as Markdown, or "" for what only a page can show."""
        return ""


@dataclass(frozen=True)
class Numbers(Block):
    """The most important figures, in large type, the first one largest."""

    figures: Sequence[tuple[str, str, str]]
    """(name, value, small print) of each."""

    def markdown(self) -> str:
        """Return one line for each figure."""
        return "\n".join(
            f"- {escape_markdown(name)}: **{escape_markdown(value)}**"
            + (f" ({escape_markdown(small)})" if small else "")
            for name, value, small in self.figures
        )


@dataclass(frozen=True)
class Table(Block):
    """Rows under heads; the first `words` columns hold words, the others numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: int = 1
    fold_after: int | None = None
    """Rows that are always visible; the others fold away on the page. None: all."""

    def markdown(self) -> str:
        """Return a table of pipes, with its caption above."""
        return f"{escape_markdown(self.caption)}:\n\n{self.pipes()}"

    def pipes(self) -> str:
        """Return the table in Markdown without its caption."""
        rules = ["---" if place < self.words else "---:" for place in range(len(self.heads))]
        lines = [[escape_markdown(cell) for cell in row] for row in (self.heads, *self.rows)]
        lines.insert(1, rules)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __str__(self) -> str:
        """Return aligned columns, for a terminal."""
        lines = [[" ".join(strip_hidden(cell).split()) for cell in row] for row in (self.heads, *self.rows)]
        return "\n".join(align_columns(lines, self.words))


@dataclass(frozen=True)
class Drawing(Block):
    """A drawing (a chart of `drawing`) with its caption; only the page shows it."""

    drawing: Markup
    caption: str
    title: str = ""
    least: float = 0
    """Width in pixels below which it scrolls rather than shrinks."""


@dataclass(frozen=True)
class Words(Block):
    """A paragraph, with an optional bold beginning."""

    words: str
    """Markup stays as it is; only a page shows it."""
    strong: str = ""
    soft: bool = True
    """Whether it has a soft colour."""

    def markdown(self) -> str:
        """Return it as text."""
        return (f"**{escape_markdown(self.strong)}**: " if self.strong else "") + escape_markdown(self.words)


@dataclass(frozen=True)
class Note(Block):
    """A warning: a bold beginning and the rest."""

    what: str
    why: str

    def markdown(self) -> str:
        """Return it as a quotation."""
        return f"> **{escape_markdown(self.what)}** {escape_markdown(self.why)}"


@dataclass(frozen=True)
class Code(Block):
    """Verbatim lines, visible or below a summary that unfolds them; only the page shows them."""

    lines: str
    summary: str = ""


@dataclass(frozen=True)
class Beside(Block):
    """Blocks side by side if there is room."""

    blocks: Sequence[Block]
    wide: bool = False
    """Whether each needs more room than a small chart."""

    def markdown(self) -> str:
        """Return the blocks one after the other."""
        return "\n\n".join(filter(None, (one.markdown() for one in self.blocks)))


@dataclass(frozen=True)
class Section:
    """One section of the page. The first section's anchor is "results"."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """The results of one evaluation."""

    title: str
    """A short title."""
    lead: str
    """One sentence: which model, on which images, by which protocol."""
    sections: Sequence[Section]
    data: dict[str, Any] = field(default_factory=dict)
    """The contents of report.json: JSON values, everything that the sections show and more."""
    tables: Mapping[str, Mapping[str, Sequence[Any] | np.ndarray]] = field(default_factory=dict)
    """Additional CSV files: the columns of each by its name, all of one length."""


def save_report(folder: Path, report: Report) -> Path:
    """Write report.html, report.json, report.md and the report's tables into a new folder; return the page's path.

    Raises:
        StorageError: the folder can't be written; then none of them exist.
    """
    with atomic_folder(folder) as partial:
        (partial / PAGE).write_bytes(render_html(report))
        document = {"vitreous_evaluation": FORMAT, **report.data}
        (partial / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (partial / MARKDOWN).write_text(render_markdown(report), encoding="utf-8")
        for name, columns in report.tables.items():
            write_table(partial / name, columns)
    return folder / PAGE


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns as a CSV with a header; fractions with six digits."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            table.writerow([f"{cell:.6g}" if isinstance(cell, float | np.floating) else cell for cell in row])


def render_html(report: Report) -> bytes:
    """Return the whole page."""
    return render_page(report.title, [Words(report.lead)], report.sections, f"{write_byline()}.")


def write_byline() -> str:
    """Return the version and the time of a page."""
    return f"Written by vitreous on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def render_markdown(report: Report) -> str:
    """Return everything except the pictures, as Markdown."""
    lines = [f"# {escape_markdown(report.title)}", escape_markdown(report.lead)]
    for one in report.sections:
        shown = [block.markdown() for block in one.blocks]
        if any(shown):
            lines += [f"## {escape_markdown(one.title)}", *filter(None, shown)]
    return "\n\n".join(lines) + "\n"


def escape_markdown(value: object) -> str:
    """Return text that is plain text in Markdown, on one line: no tags, links or cells of its own."""
    words = " ".join(strip_hidden(value).split())
    for sign in ("\\", "|", "<", "[", "]", "`", "*", "_"):
        words = words.replace(sign, "\\" + sign)
    return LINKS.sub(r"\\\g<0>", words)
