"""Images in parquet files, as data sets on the Hub have them: a column of files' bytes and a column of classes.

Parquet has no random access: a row can only be read with the whole row group that it is in. So a file is unpacked, once, into a
file of the cache where each image has its place; where the cache may not hold it, whole row groups are read.
"""

import functools
import json
import os
import struct
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vitreous.data.sources.packs import MOST_NAME, Contents, LocalFile, PackFile, check_class, check_count, check_length
from vitreous.errors import ConfigError, DataError, ImageError, may_pass
from vitreous.storage.atomic import FULL
from vitreous.storage.cache import cache_limit, keep_file
from vitreous.storage.hashing import hash_bytes
from vitreous.storage.parquet import check_parquet

IMAGES = ("image", "img", "images", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "target", "category")
MOST_GROUP_BYTES = 2**30
"""Bytes of a row group that is read at once."""
TOGETHER, TOGETHER_BYTES = 64, 2**28
"""Most rows that are read together, and most bytes that they have."""
UTF8 = 4
"""Most bytes of a character."""
OPEN = 64
"""Most unpacked files that a process keeps open."""
PLACE = struct.Struct("<qq")
"""Offset and length of an image in an unpacked file; they follow the images, and the number of images ends it."""


@dataclass(frozen=True)
class ParquetPack:
    """The images of one parquet file."""

    file: PackFile
    column: str
    ends: tuple[int, ...]
    """The row behind each row group's last."""
    expected: int
    """Bytes of the column once it is unpacked, as the file says; more where it keeps repeated images once."""

    def read(self, place: int, most: int) -> bytes:
        """Return an image's bytes; raises ImageError."""
        unpacked = open_unpacked(self) if self.expected <= cache_limit() else None
        data = self._read_group(place) if unpacked is None else unpacked.read(place, most)
        if data is None:
            raise ImageError("its row has no bytes")
        check_length(len(data), most)
        return data

    def _read_group(self, place: int) -> bytes | None:
        group = int(np.searchsorted(self.ends, place, "right"))
        return read_group(self.file, self.column, group)[place - (self.ends[group - 1] if group else 0)]

    def unpack(self) -> Path | None:
        """Return the file of the cache that holds the images, written first if it isn't there; None if it may not hold them."""
        path = self.file.path
        where = getattr(self.file, "url", None) or path.resolve()
        key = f"{where} {self.file.size} {self.file.changed} {self.column}"
        name = f"{path.stem[:80]}-{hash_bytes(key.encode(errors='surrogateescape'))}.images"
        while (most := _COUNTED.get(self, self.expected)) + self._places <= cache_limit():
            with suppress(_LargerError), remember_failure(self):
                return keep_file(name, most + self._places, functools.partial(self._write, most=most))
        return None

    @property
    def _rows(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def _places(self) -> int:
        """Bytes behind the images in an unpacked file."""
        return PLACE.size * (self._rows + 1)

    def _write(self, target: BinaryIO, most: int) -> None:
        """Write the images; where they have more than `most` bytes count these, and raise _LargerError."""
        with remember_failure(self):  # of a thread that this one has waited for
            if _COUNTED.get(self, most) > most:
                raise _LargerError
        places, offset, limit = list[bytes](), 0, cache_limit()
        with translate_errors(self.file.path, ImageError), open_parquet(self.file) as table:
            for data in iterate_images(table, self.column):
                places.append(PLACE.pack(offset, -1 if data is None else len(data)))
                offset += len(data or b"")
                if offset > limit:
                    break
                if data and offset <= most:
                    target.write(data)
        if offset > most:
            _COUNTED[self] = offset
            raise _LargerError
        if len(places) != self._rows:
            raise ImageError(f"{self.file.path} holds {len(places):,} images, not the {self._rows:,} that it says")
        target.write(b"".join(places) + PLACE.pack(offset, len(places)))


class _LargerError(Exception):
    """A pack's images have more bytes than its file says."""


_COUNTED: dict[ParquetPack, int] = {}
"""Bytes of the images of packs that have more than their files say."""


@functools.lru_cache(maxsize=OPEN)
def open_unpacked(pack: ParquetPack) -> "Unpacked | None":
    """Return a pack's unpacked file, open: removed from the cache in between, it stays readable; None if the cache may not hold it."""
    path = pack.unpack()
    return None if path is None else Unpacked(path)


class Unpacked:
    """An unpacked file, open for reading by any number of threads and forked processes."""

    def __init__(self, path: Path) -> None:
        """Open it; raises ImageError."""
        self.path = path
        try:
            self.file = path.open("rb", buffering=0)
            size = os.fstat(self.file.fileno()).st_size
            self.places, self.count = PLACE.unpack(os.pread(self.file.fileno(), PLACE.size, max(0, size - PLACE.size)))
        except (OSError, struct.error) as error:
            raise ImageError(f"{path} can't be read: {error}; remove it") from error

    def read(self, place: int, most: int) -> bytes | None:
        """Return an image; None if its row had none; raises ImageError."""
        if not 0 <= place < self.count:
            raise ImageError(f"{self.path} has {self.count:,} images")
        handle = self.file.fileno()
        try:
            offset, length = PLACE.unpack(os.pread(handle, PLACE.size, self.places + place * PLACE.size))
            if length < 0:
                return None
            check_length(length, most)
            data = os.pread(handle, length, offset)
        except (OSError, struct.error) as error:
            raise ImageError(f"{self.path} can't be read: {error}; remove it") from error
        if len(data) < length:
            raise ImageError(f"{self.path} is cut off; remove it")
        return data


@functools.lru_cache(maxsize=2)
def read_group(file: PackFile, column: str, group: int) -> list[bytes | None]:
    """Return the images of one row group; the last two groups stay in memory; raises ImageError."""
    found = list[bytes | None]()
    with remember_failure((file, column, group)), translate_errors(file.path, ImageError), open_parquet(file) as table:
        size, counted = table.metadata.row_group(group).total_byte_size, 0
        for data in () if size > MOST_GROUP_BYTES else iterate_images(table, column, [group]):
            found.append(data)
            counted += len(data or b"")
            if counted > MOST_GROUP_BYTES:
                break
    if max(size, counted) > MOST_GROUP_BYTES:
        raise ImageError(
            f"row group {group} of {file.path} has {max(size, counted):,} bytes or more, too many to read at once; let the cache "
            "hold the file (VITREOUS_CACHE_GIB), or write it in smaller row groups"
        )
    return found


def iterate_images(table: Any, column: str, groups: list[int] | None = None) -> Iterator[bytes | None]:
    """Yield the images of an open parquet file, or of some of its row groups.

    Rows are read together as long as they have at most `TOGETHER_BYTES`, if each of them had all the bytes of its row group: it may
    hold a large image once that many rows share.
    """
    for group in range(table.metadata.num_row_groups) if groups is None else groups:
        parts = table.metadata.row_group(group)
        parts = [parts.column(number) for number in range(parts.num_columns)]
        size = sum(one.total_uncompressed_size for one in parts if one.path_in_schema.split(".")[0] == column)
        rows = max(1, min(TOGETHER, TOGETHER_BYTES // max(1, size)))
        for batch in table.iter_batches(batch_size=rows, row_groups=[group], columns=[column]):
            yield from (take_bytes(value.as_py()) for value in batch.column(0))


def take_bytes(value: Any) -> bytes | None:
    """Return the bytes in a row's image: {bytes, path}, or the bytes themselves."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


@contextmanager
def open_parquet(file: PackFile, shared: Sequence[str] = ()) -> Iterator[Any]:
    """Open a parquet file; raises ConfigError without pyarrow, ImageError if the file has changed, also while it is read.

    `shared`: columns of text whose equal values are read once.
    """
    check_parquet("unpack the images into class folders")
    import pyarrow.parquet as parquet

    with file.path.open("rb") as stream:
        file.check(stream.fileno())
        with parquet.ParquetFile(stream, read_dictionary=[*shared], buffer_size=2**20, pre_buffer=False) as table:
            yield table
        file.check(stream.fileno())


@contextmanager
def translate_errors(path: Path, kind: type[DataError]) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into one line; a full disk, of what is written meanwhile, stays what it is."""
    try:
        yield
    except (DataError, ConfigError):
        raise
    except Exception as error:  # pyarrow raises ValueError, KeyError, OSError, NotImplementedError, its own, ...
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"{path} can't be read as parquet: {line}") from error


_FAILED: dict[Hashable, str] = {}
"""What was wrong with packs and row groups that couldn't be read."""


@contextmanager
def remember_failure(work: Hashable) -> Iterator[None]:
    """Raise an ImageError of some work again at once when it is begun anew, unless it was the disk's, which may pass."""
    if work in _FAILED:
        raise ImageError(_FAILED[work])
    try:
        yield
    except ImageError as error:
        if not may_pass(error):
            _FAILED[work] = str(error)
        raise


def open_table(path: Path, name: str) -> Contents:
    """Return what a parquet file holds; raises DataError."""
    return open_table_file(LocalFile.find(path), name)


def open_table_file(file: PackFile, name: str) -> Contents:
    """Return what a parquet file holds, on a disk or at a URL; raises DataError."""
    path = file.path
    with translate_errors(path, DataError), open_parquet(file) as table:
        features = read_features(table.schema_arrow.metadata or {})
        columns = list(table.schema_arrow.names)
        image = choose_column(columns, features, "Image", IMAGES)
        if image is None:
            raise DataError(f"{name} has the columns {', '.join(columns)}; expected image and label")
        label = choose_column([one for one in columns if one != image], features, "ClassLabel", LABELS)
        expected, rows, ends, names = 0, 0, [], []
        classes = (features.get(label) or {}).get("names") if label else None
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            expected += about.total_byte_size
            rows += about.num_rows
            check_count(rows, file.size, name)
            ends.append(rows)
            names += [f"{name}/{group}-{row}" for row in range(about.num_rows)]
        values = [] if label is None else read_labels(file, table, label, name)
        unlabelled = label is None or (len(values) > 0 and lacks_labels(values))
        labels = None if unlabelled else list(map(name_class, values, repeat(classes), names))
    pack = ParquetPack(file, image, tuple(ends), expected)
    return Contents(pack, names, labels, (0,) * rows, file.changed)


def read_labels(file: PackFile, table: Any, column: str, name: str) -> list[Any]:
    """Return each row's label in an open file, which is opened once more for those that are text; raises DataError for names that are
    longer than a class's, before each row gets one."""
    import pyarrow
    import pyarrow.compute as functions

    kind = table.schema_arrow.field(column).type
    text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    values: list[Any] = []
    with open_parquet(file, (column,)) if text else nullcontext(table) as labels:
        for group in range(labels.num_row_groups):
            for part in labels.read_row_group(group, columns=[column]).column(0).chunks:
                if not pyarrow.types.is_dictionary(part.type):
                    values += part.to_pylist()
                    continue
                longest = functions.max(functions.binary_length(part.dictionary)).as_py() or 0
                if longest > UTF8 * MOST_NAME:
                    raise DataError(
                        f"{name} has a class's name of {longest:,} bytes; at most {MOST_NAME:,} characters are allowed"
                    )
                words = [*part.dictionary.to_pylist(), None]
                values += [words[-1 if place is None else place] for place in part.indices.to_pylist()]
    return values


def read_features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return what the `datasets` library wrote of a file's columns; empty without it."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {name: one for name, one in features.items() if isinstance(one, dict)} if isinstance(features, dict) else {}


def choose_column(columns: list[str], features: Mapping[str, Any], kind: str, usual: tuple[str, ...]) -> str | None:
    """Return the only column of a kind or, of several or none, the first with a usual name."""
    of_kind = [one for one in columns if (features.get(one) or {}).get("_type") == kind]
    if len(of_kind) == 1:
        return of_kind[0]
    return next((one for one in usual if one in (of_kind or columns)), None)


def lacks_labels(values: Sequence[Any]) -> bool:
    """Return whether no row has a label: none is there, or -1, as the Hub's test splits have it."""
    return all(value is None or (isinstance(value, int | float) and value == -1) for value in values)


def name_class(value: Any, classes: Any, where: str) -> str:
    """Return the name of a row's class; raises DataError."""
    if type(value) is int and value >= 0:
        if not isinstance(classes, list):
            return str(value)
        if value < len(classes) and isinstance(classes[value], str):
            return check_class(classes[value], where)
        raise DataError(f"{where}: label is {value}; the file names {len(classes)} classes, from 0")
    if isinstance(value, str):
        return check_class(value, where)
    raise DataError(f"{where}: label is {value!r}; it must be a class's number or name")
