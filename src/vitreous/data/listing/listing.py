"""A listing: file names with labels."""

import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from vitreous.shapes import Pixels

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test",)
"""Names of splits, the preferred one first."""
SPLITS = TRAIN + VALIDATION + TEST
SYNONYMS = {"trn": "train", "dev": "val", "eval": "val", "testing": "test", "tst": "test"}
"""Other names for a split's folder."""
UNASKED = -2
"""Length and time of change of a file that was not asked for them."""
BETWEEN = "\x1f"
"""Separates the labels of one image in a row's label, where an image may have several."""


def get_split(folder: str) -> str | None:
    """Return the split that a folder's name means, one of SPLITS, in any case; None if it means none.

    >>> get_split("Training_Set"), get_split("val-images"), get_split("trains")
    ('training', 'val', None)
    """
    name = re.sub(r"[ _-]?(set|data|images|imgs|split)$|^(images|data)[ _-]", "", folder.lower())
    name = SYNONYMS.get(name, name)
    return name if name in SPLITS else None


class Row(NamedTuple):
    """One file of a listing."""

    name: str
    """Path relative to the listing's root, with forward slashes."""
    label: str
    bytes: int = -1
    """Length of the file; -1 if it isn't there, UNASKED if nobody asked."""
    changed: int = -1
    """When it was last written, in nanoseconds since 1970; or as above."""
    number: int = 0
    """Line of the manifest that lists it, or its number in packed files; 0 for a file of its own."""

    @property
    def is_missing(self) -> bool:
        """Whether the file isn't there."""
        return self.changed == -1


@runtime_checkable
class Reader(Protocol):
    """Reads the images of packed files by their numbers."""

    location: str
    """Where the files are."""

    def read(self, number: int, most: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes, or its pixels; raises ImageError for more than `most` bytes."""
        ...


@dataclass(frozen=True)
class Listing:
    """Files and their class names, before any image is opened."""

    root: Path
    """The folder that the names are relative to."""
    rows: tuple[Row, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    """Files that are not images, by extension; hidden and system files under ignored.SYSTEM."""
    notes: tuple[str, ...] = ()
    """Notes for the user about how the files were found."""
    manifest: Path | None = None
    multilabel: bool = False
    """A file may have several labels, or none: a row's label is all of them, separated by BETWEEN."""
    reader: Reader | None = None
    """Reads the images where they aren't files of their own."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The files' names."""
        return tuple(row.name for row in self.rows)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The class name of each."""
        return tuple(row.label for row in self.rows)

    @property
    def label_lists(self) -> tuple[tuple[str, ...], ...]:
        """The class names of each file, any number of them."""
        if not self.multilabel:
            return tuple((row.label,) for row in self.rows)
        return tuple(tuple(filter(None, row.label.split(BETWEEN))) for row in self.rows)

    @property
    def all_labels(self) -> list[str]:
        """The labels of all files, one after another."""
        return [label for labels in self.label_lists for label in labels] if self.multilabel else list(self.labels)

    def place(self, index: int) -> str:
        """Return which line of the manifest a row comes from, as the start of a message; empty without a manifest."""
        return f"{self.manifest}, line {self.rows[index].number}: " if self.manifest else ""


def note_unlabelled(count: int) -> str:
    """Say that a test split can't be measured."""
    return f"{count:,} test images have no labels, and were left out"


@dataclass(frozen=True)
class Splits:
    """A data set's own splits; None for missing ones. Without any, `train` is everything."""

    train: Listing | None = None
    validation: Listing | None = None
    test: Listing | None = None

    def pick(self, split: str | None) -> Listing | None:
        """Return one split by name, or the best one to measure on: validation or, failing that, test, or everything."""
        return getattr(self, split) if split else self.validation or self.test or self.train

    def let_test_stand_in(self) -> tuple[Listing, Listing | None]:
        """Return the training and validation files, with the test split as validation if there is no other; notes
        say what was left out."""
        assert self.train is not None
        train, test = self.train, self.test
        if test is None:
            return train, self.validation
        listed, packed = test.manifest is not None, test.reader is not None
        name = "the test rows are" if listed else "the test images are" if packed else f"{test.root.name}/ is"
        why = "none are marked val" if listed else "there are no others" if packed else "there is no val/"
        note = f"{name} the validation: {why}"
        if self.validation is not None:
            note = f"{len(test):,} {'rows marked test' if listed else 'test images'} were left out"
        return replace(train, notes=(note, *train.notes)), self.validation or test


def read_stamp(file: str | Path) -> tuple[int, int]:
    """Return a file's length and time of change, in nanoseconds; (-1, -1) if it can't be read.

    The time of change is the inode's where there is one, because that of the contents can be set, and `cp -p` and
    `rsync` keep it.
    """
    try:
        found = os.stat(file)  # noqa: PTH116 (called for every file)
    except (OSError, ValueError):
        return (-1, -1)
    return found.st_size, found.st_mtime_ns if os.name == "nt" else max(found.st_ctime_ns, 0)


def sort_key(name: str) -> bytes:
    """Return the sort key: the name's bytes, so that the order is the same in every locale."""
    return os.fsencode(name)


def format_names(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """List the first names, and the number of the rest."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
