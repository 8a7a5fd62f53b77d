"""Labelled examples by index: image files, or arrays in memory."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vitreous.data.listing.listing import Reader
from vitreous.errors import DataError, ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import read
from vitreous.shapes import Bool, Int32, Int64, Pixels, UInt8

MULTILABEL = -1
"""The label of an example that may have several, or none; `get_label_matrix` returns them."""


@runtime_checkable
class Source(Protocol):
    """Labelled examples by index."""

    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    names: Sequence[str]
    """A name for each example: a path relative to the data, or an id."""
    fingerprint: str
    """Hash of the names, the labels and the contents."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        ...


class Drawn:
    """A source that draws its examples when they are read, all with one shape."""

    shape: tuple[int, int, int]
    """Rows, columns and channels."""


@dataclass(frozen=True, eq=False)
class ScannedSource:
    """Images that were listed, and looked at once, with labels."""

    names: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    classes: tuple[str, ...]
    fingerprint: str
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    sizes: Int32[np.ndarray, "example 2"] | None = None
    """Rows and cols of each image, if known."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Images left out because they can't be read: (name, reason)."""
    stores: dict = field(default_factory=dict, repr=False)
    """Decoded pixels kept in memory (see `in_memory`), by how they were decoded."""
    label_matrix: Bool[np.ndarray, "example label"] | None = None
    """Which classes each has, where an image may have several; every label is then MULTILABEL."""
    filled: int = 0
    """Number of images that lack their last bytes, which are grey."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's file, or its pixels."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class FileSource(ScannedSource):
    """Image files with labels."""

    root: Path = field(kw_only=True)
    """The folder that the names are relative to."""

    def read(self, index: int) -> bytes:
        """Return a file's bytes.

        Raises:
            ImageError: it has become unreadable. It is never replaced by another example, nor skipped, whatever
                `data.broken` says: that is settled by the scan, before training. A stream without the file would give
                other batches from there on, and the run could not be repeated or resumed.
        """
        return read(self.root / self.names[index], self.decode)


@dataclass(frozen=True, eq=False)
class PackedSource(ScannedSource):
    """Images in shards, parquet files or other packed files, with labels."""

    reader: Reader = field(kw_only=True)
    numbers: Int64[np.ndarray, " example"] = field(kw_only=True)
    """The number by which the reader knows each."""
    lengths: Int64[np.ndarray, " example"] = field(kw_only=True)
    """Bytes of each; 0 where that isn't known before it is read."""
    digests: UInt8[np.ndarray, "example 16"] | None = None
    """Hash of each, if the scan knows all of them."""

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes or pixels; raises ImageError as `FileSource.read` does."""
        try:
            return self.reader.read(int(self.numbers[index]), self.decode.max_bytes)
        except ImageError as error:
            raise ImageError(f"{self.names[index]}: {error}") from error


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: uint8 (row, col, channel) each."""

    pixels: Pixels[np.ndarray, "example row col channel"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Pixels[np.ndarray, "row col channel"]:
        """Return an example's pixels."""
        return self.pixels[index]


@dataclass(frozen=True, eq=False)
class Over:
    """Wraps a source, with the same examples in the same order."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def names(self) -> Sequence[str]:
        """The examples' names."""
        return self.source.names

    @property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        return self.source.fingerprint

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        return self.source.read(index)


@dataclass(frozen=True, eq=False)
class Reread(Over):
    """A source whose examples are read in another way; everything else is the source's."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.source.classes

    @property
    def labels(self) -> Int64[np.ndarray, " example"]:
        """The class of each example."""
        return self.source.labels

    @property
    def label_matrix(self) -> Bool[np.ndarray, "example label"] | None:
        """Which classes each has, where an example may have several."""
        return get_label_matrix(self.source)


@dataclass(frozen=True, eq=False)
class Relabelled(Over):
    """A source whose labels are numbered by other classes: a model's."""

    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]


def get_label_matrix(source: Source) -> Bool[np.ndarray, "example label"] | None:
    """Return which of a source's classes each example has, where it may have several; None where each has one."""
    return getattr(source, "label_matrix", None)


def refuse_multilabel(source: Source, what: str) -> None:
    """Refuse a source whose examples may have several labels; raises DataError."""
    if get_label_matrix(source) is not None:
        raise DataError(f"the data has several labels an image, but {what} needs one label an image")


def hash_source(names: Iterable[str], labels: Int64[np.ndarray, " example"], digests: Iterable[str]) -> str:
    """Hash a source's contents."""
    state = hashlib.blake2b(digest_size=16)
    for name, label, digest in zip(names, labels.tolist(), digests, strict=True):
        state.update(f"{name}\0{label}\0{digest}\n".encode(errors="surrogateescape"))
    return state.hexdigest()
