"""What the results of commands have in common: a report, which can be written to a folder or shown in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitreous.data.sources.base import Source
from vitreous.evaluation.overlap import Overlap
from vitreous.reports.blocks import Report, Section, Words, render_html, save_report
from vitreous.reports.notebook import embed_page
from vitreous.runtime.display import Shown


class Result(Shown, ABC):
    """A result that people read: its figures as text, printed or in a notebook."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the figures for a terminal."""


class Reported(Result):
    """A result with a report of blocks."""

    @property
    @abstractmethod
    def report(self) -> Report:
        """The report, drawn when it is first requested."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""

    def _repr_html_(self) -> str:
        """Return the report in its own frame, so that its style and a notebook's don't interfere."""
        return embed_page(render_html(self.report).decode())

    def save(self, folder: str | Path) -> Path:
        """Write report.html, report.json and report.md into a folder, new or empty; return the page's path.

        Raises:
            StorageError: the folder can't be written; then none of the three files exists. ImageError: an image for the
                report has become unreadable.
        """
        return save_report(Path(folder), self.report)


def list_left_out(source: Source) -> list[str]:
    """Describe which files of a source were incomplete or left out, one paragraph each."""
    filled, skipped = getattr(source, "filled", 0), getattr(source, "skipped", ())
    said = [f"\n{filled:,} JPEGs of the data lack their last bytes; the missing part is grey"] if filled else []
    return [*said, *(f"\n{one}" for one in describe_skipped("files of the data", skipped))]


def describe_skipped(what: str, skipped: Sequence[tuple[str, str]]) -> list[str]:
    """Return how many files were left out, with the reason for the first one; empty if none were."""
    if not skipped:
        return []
    return [f"{len(skipped):,} {what} can't be read and were left out; the first: {skipped[0][1]}"]


def add_overlap(sections: Sequence[Section], overlap: Overlap | None) -> list[Section]:
    """Return a report's sections, with one on the overlap after the results if there is an overlap."""
    if overlap is None:
        return list(sections)
    seen = Section("trained-on", "Images that were trained on", [Words(f"{overlap}.")])
    return [sections[0], seen, *sections[1:]]


def encode_overlap(overlap: Overlap | None) -> dict[str, Any]:
    """Return how many of the images the model was trained on, as JSON values; an empty dict for none."""
    if overlap is None:
        return {}
    return {"trained_on": {name: value for name, value in asdict(overlap).items() if name != "refitted" or value}}
