"""What a listing is: file names with labels."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "test")
"""Names of the parts of a split, the preferred first."""
BETWEEN = "\x1f"
"""Stands between the labels of one image in a row's label, where an image may have several."""


class Row(NamedTuple):
    """One file of a listing."""

    name: str
    """Path relative to the listing's root, with forward slashes."""
    label: str
    bytes: int = -1
    """Length of the file; -1 if it isn't there."""
    changed: int = -1
    """When it was last written, in nanoseconds since 1970."""
    line: int = 0
    """Where the manifest lists it; 0 without a manifest."""


@dataclass(frozen=True)
class Listing:
    """Files and their class names, before any image is opened."""

    root: Path
    """What the names are relative to."""
    rows: tuple[Row, ...] = ()
    ignored: int = 0
    """Files that are hidden, or no images by their ending."""
    notes: tuple[str, ...] = ()
    """What a person should know about how the files were found."""
    manifest: Path | None = None
    several: bool = False
    """A file may have several labels, or none: a row's label is all of them with BETWEEN between."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The files' names."""
        return tuple(row.name for row in self.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class name of each."""
        return tuple(row.label for row in self.rows)

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """The class names of each, however many."""
        if not self.several:
            return tuple((row.label,) for row in self.rows)
        return tuple(tuple(filter(None, row.label.split(BETWEEN))) for row in self.rows)

    @property
    def found(self) -> list[str]:
        """The labels of all files, one after another."""
        return [label for labels in self.sets for label in labels] if self.several else list(self.labels)

    def place(self, index: int) -> str:
        """Say which line of the manifest a row comes from, as the start of a message; nothing without a manifest."""
        return f"{self.manifest}, line {self.rows[index].line}: " if self.manifest else ""


def stamp(entry: Path | os.DirEntry[str]) -> tuple[int, int]:
    """Return a file's length and time of change, in nanoseconds; (-1, -1) if it can't be looked at."""
    try:
        found = entry.stat()
    except (OSError, ValueError):
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def by_bytes(name: str) -> bytes:
    """Sort key: the name's bytes, so that the order is the same under every language setting."""
    return os.fsencode(name)


def few(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """List the first names, and say how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
