"""Labelled images in tar shards or parquet files, read in place: nothing is unpacked.

Shards are WebDataset's: pairs of NAME.jpg (or .png, .webp, ...) and NAME.cls, the class as a number. Parquet is a Hub data set's:
a column `image` with the file's bytes and a column `label` with numbers.
"""

import functools
import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from vitreous.data.listing.class_folders import is_image
from vitreous.data.listing.listing import TRAIN, sort_key
from vitreous.errors import DataError, ImageError
from vitreous.storage.parquet import check_parquet

LABEL = ".cls"
KINDS = (".tar", ".parquet")
SPLITS = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(("val", "valid", "validation"), "train"), "test": "test"}
"""The part of a file, by the first word of its name, or of its folder's; validation counts as training."""
MOST_LABEL_BYTES = 32


class Entry(NamedTuple):
    """One image: the location of its bytes, and its class."""

    name: str
    label: int
    file: Path
    place: int
    """tar: offset of the bytes; parquet: the row group."""
    extent: int
    """tar: number of bytes; parquet: the row in its group."""


@dataclass(frozen=True, eq=False)
class PackedSource:
    """Images in shards or parquet files, as a source like any other."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> Sequence[str]:
        """Each image's file, and its name or row in that file."""
        return tuple(entry.name for entry in self.entries)

    def read(self, index: int) -> bytes:
        """Return an image's bytes; raises ImageError if they can't be read."""
        entry = self.entries[index]
        try:
            if entry.file.suffix == ".parquet":
                return _group(entry.file, entry.place)[entry.extent]
            with entry.file.open("rb") as file:
                file.seek(entry.place)
                return file.read(entry.extent)
        except (OSError, IndexError) as error:
            raise ImageError(f"{entry.name} can't be read: {error}") from error


def open_shards(entries: Sequence[Entry], classes: tuple[str, ...]) -> PackedSource:
    """Combine images into a source; its fingerprint covers names, labels, sizes and the files' times."""
    state = hashlib.blake2b(digest_size=16)
    times = {file: file.stat().st_mtime_ns for file in {entry.file for entry in entries}}
    for entry in entries:
        state.update(f"{entry.name}\0{entry.label}\0{entry.place}\0{entry.extent}\0{times[entry.file]}\n".encode())
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[str(entry.label)] for entry in entries], np.int64)
    return PackedSource(tuple(entries), classes, labels, state.hexdigest())


def list_shards(folder: Path) -> dict[str, list[Entry]]:
    """Return the images of each part, "train" and "test", of a folder's shards or parquet files; empty without any.

    A file's part is the first word of its name (train-00000-of-00001.parquet) or of its folder's (train/0.tar).

    Raises:
        DataError: a file that can't be read, or an image without a class. ConfigError: parquet without pyarrow.
    """
    parts: dict[str, list[Entry]] = {}
    files = sorted((file for kind in KINDS for file in folder.rglob(f"*{kind}")), key=lambda file: sort_key(str(file)))
    for file in files:
        words = (file.name, file.parent.name)
        part = next((SPLITS[word] for word in map(_read_first_word, words) if word in SPLITS), None)
        if part is not None:
            read = _list_tar if file.suffix == ".tar" else _list_parquet
            parts.setdefault(part, []).extend(read(file, file.relative_to(folder).as_posix()))
    return parts


def _read_first_word(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ").replace(".", " ").split()[0]


def _list_tar(file: Path, name: str) -> Iterator[Entry]:
    """Pair the images of one shard with their classes."""
    size = file.stat().st_size
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                key, _, extension = member.name.rpartition(".")
                if not member.isreg() or member.offset_data + member.size > size:
                    continue
                if f".{extension}" == LABEL:
                    content = shard.extractfile(member)
                    labels[key] = _read_number(
                        content.read(MOST_LABEL_BYTES) if content else b"", f"{name}, {member.name}"
                    )
                elif is_image(member.name):
                    images[key] = member
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{file} can't be read as a tar: {error}") from error
    for key, member in images.items():
        if key not in labels:
            raise DataError(f"{name} has {member.name} without {key}{LABEL}; each image needs its class")
        yield Entry(f"{name}/{member.name}", labels[key], file, member.offset_data, member.size)


def _read_number(content: bytes, where: str) -> int:
    text = content.strip()
    if not text.isdigit():
        raise DataError(f"{where} holds {text[:20]!r}; it must hold the number of a class")
    return int(text)


def _import_pyarrow() -> Any:
    check_parquet("unpack the images into class folders")
    import pyarrow.parquet

    return pyarrow.parquet


def _list_parquet(file: Path, name: str) -> Iterator[Entry]:
    """List the rows of one parquet file."""
    parquet = _import_pyarrow()
    try:
        table = parquet.ParquetFile(file)
        columns = set(table.schema_arrow.names)
        if not {"image", "label"} <= columns:
            raise DataError(f"{name} has the columns {', '.join(sorted(columns))}; expected image and label")
        for group in range(table.num_row_groups):
            for row, label in enumerate(table.read_row_group(group, columns=["label"])["label"].to_pylist()):
                if type(label) is not int or label < 0:
                    raise DataError(
                        f"{name}, row {row} of group {group}: label is {label!r}; it must be a class's number"
                    )
                yield Entry(f"{name}/{group}-{row}", label, file, group, row)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{file} can't be read as parquet: {error}") from error


@functools.lru_cache(maxsize=2)
def _group(file: Path, group: int) -> list[bytes]:
    """Return the images of one row group; the last two groups stay in memory."""
    found = _import_pyarrow().ParquetFile(file).read_row_group(group, columns=["image"])["image"].to_pylist()
    return [one["bytes"] if isinstance(one, dict) else one for one in found]
