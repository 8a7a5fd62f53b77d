"""Files that hold many images each, read in place: what their forms have in common."""

import functools
import os
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vitreous.characters import UNREADABLE, holds
from vitreous.data.listing.class_folders import UNLABELLED
from vitreous.data.listing.listing import Listing, Row, get_split
from vitreous.errors import DataError, ImageError
from vitreous.shapes import Pixels
from vitreous.storage.remote import RemoteFile

MOST_NAME = 1_000
"""Characters of a class's name."""
FEW, FEWEST_BYTES = 100_000, 8
"""Images that any file may hold, and bytes of a file for each that it may hold beyond: smaller ones hold nothing to learn from."""


@runtime_checkable
class Pack(Protocol):
    """A file of images, read by their places in it. Any number of threads and forked processes may read."""

    def read(self, place: int, most: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes, or its pixels; raises ImageError, also for more than `most` bytes."""
        ...


@dataclass(frozen=True)
class Contents:
    """What a pack holds."""

    pack: Pack
    names: Sequence[str]
    labels: Sequence[str] | None
    """The class of each image by name; None where it has none."""
    lengths: Sequence[int]
    """Bytes of each image; 0 where that isn't known before it is read."""
    changed: int
    """When the file was last written, in nanoseconds since 1970, or another number that changes with its contents."""
    links: int = 0
    """Links in it that were left out."""
    folders: Sequence[str] | None = None
    """The folder of each image in a tar that states no classes: it may be one."""


@dataclass(frozen=True)
class PackReader:
    """Reads the images of several packs, numbered through."""

    packs: tuple[Pack, ...]
    ends: tuple[int, ...]
    """The number behind each pack's last image."""
    location: str

    def read(self, number: int, most: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes, or its pixels; raises ImageError."""
        which = bisect_right(self.ends, number)
        return self.packs[which].read(number - (self.ends[which - 1] if which else 0), most)


@dataclass(frozen=True)
class LocalFile:
    """A file on a disk as it was when it was listed."""

    path: Path
    size: int
    changed: int

    @classmethod
    def find(cls, path: Path) -> "LocalFile":
        """Return the file at a path; raises DataError."""
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror or error}") from error
        return cls(path, found.st_size, max(found.st_ctime_ns, 0))

    def check(self, handle: int) -> None:
        """Refuse an opened file that isn't the one that was listed; raises ImageError."""
        found = os.fstat(handle)
        if (found.st_size, max(found.st_ctime_ns, 0)) != (self.size, self.changed):
            raise ImageError(f"{self.path} has changed since it was listed")

    def read(self, offset: int, length: int) -> bytes:
        """Return some of its bytes; raises ImageError if they aren't there, or the file has changed."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.check(handle)
                data = os.pread(handle, length, offset)
                while 0 < len(data) < length and (more := os.pread(handle, length - len(data), offset + len(data))):
                    data += more
            finally:
                os.close(handle)
        except OSError as error:
            raise ImageError(f"can't read {self.path}: {error.strerror or error}") from error
        if len(data) < length:
            raise ImageError(f"{self.path} ends {length - len(data):,} bytes too early")
        return data


PackFile = LocalFile | RemoteFile
"""What packs lie in. Both have path (of a URL: in the cache, fetched first), size, changed, check and read."""


def check_length(length: int, most: int) -> None:
    """Refuse an image of more bytes than may be read; raises ImageError."""
    if length > most:
        raise ImageError(f"it has {length:,} bytes, more than the limit of {most:,}")


def check_class(text: str, where: str) -> str:
    """Return the name of a class in the form that it is compared in; raises DataError for none, one too long or one of control characters."""
    if (name := normalise_class(text)) is None:
        raise DataError(
            f"{where} holds {text[:20]!r}; it must hold the number or the name of a class, in at most {MOST_NAME:,} characters, none of them a control character"
        )
    return name


@functools.lru_cache(maxsize=10_000)  # as many as rows have different ones
def normalise_class(text: str) -> str | None:
    """Return the name of a class without spaces around it, composed (NFC); None for what can't be one."""
    name = unicodedata.normalize("NFC", text.strip())
    return name if 0 < len(name) <= MOST_NAME and not holds(name, UNREADABLE) else None


def check_count(count: int, size: int, where: object) -> None:
    """Refuse a file that says that it holds more images than its bytes can, before each gets a name; raises DataError."""
    if count > max(FEW, size // FEWEST_BYTES):
        raise DataError(
            f"{where} says that it holds {count:,} images, in {size:,} bytes; expected at least {FEWEST_BYTES} bytes an image; fetch it anew"
        )


def list_contents(
    contents: Sequence[Contents], root: Path, location: str, optional: bool, notes: tuple[str, ...] = ()
) -> Listing:
    """Return the images of several packs as a listing.

    Raises:
        DataError: some have labels and others not, or none has, and labels aren't optional; or there are no images.
    """
    labelled = [one.labels is not None for one in contents]
    if any(labelled) and not all(labelled):
        raise DataError(f"some files of {location} have labels, and others not; name those with labels alone")
    if not optional and not any(labelled):
        raise DataError(
            f"the images in {location} have no labels, which are needed here; each needs its class beside it, as docs/data.md says, or a class folder"
        )
    rows: list[Row] = []
    for one in contents:
        labels = one.labels or (UNLABELLED,) * len(one.names)
        for name, label, length in zip(one.names, labels, one.lengths, strict=True):
            rows.append(Row(name, label, length, one.changed, len(rows)))
    if not rows:
        raise DataError(f"{location} holds no images")
    if links := sum(one.links for one in contents):
        notes += (
            f"{links:,} links in tar files were left out; pack what they lead to, with --dereference --hard-dereference",
        )
    ends = tuple(accumulate(len(one.names) for one in contents))
    return Listing(
        root, tuple(rows), notes=notes, reader=PackReader(tuple(one.pack for one in contents), ends, location)
    )


def read_split(*names: str) -> str | None:
    """Return the split that the first word of a name means, the first name that means one: train, validation or test.

    >>> read_split("train-00000-of-00001.parquet"), read_split("0.tar", "val"), read_split("photos.tar")
    ('train', 'validation', None)
    """
    for name in names:
        word = name.lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
        found = get_split(word[0]) if word else None
        if found is not None:
            return {"training": "train", "val": "validation", "valid": "validation"}.get(found, found)
    return None
