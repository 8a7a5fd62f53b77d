"""Tar shards in WebDataset's layout, read in place: nothing is unpacked.

A sample is the files whose names have the same part before the first dot: NAME.jpg (or .png, .webp, ...) with NAME.cls, the
class as a number or a name; without it NAME.json may have a "label". A tar of class folders is read too. Where each image is, is kept beside the shard by
`vitreous shard`, or in the cache after the first walk through it.
"""

import json
import sys
import tarfile
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitreous.data.listing.class_folders import is_image
from vitreous.data.listing.listing import get_split
from vitreous.data.sources.packs import Contents, LocalFile, PackFile, check_class, check_length, normalise_class
from vitreous.errors import DataError
from vitreous.shapes import Int64
from vitreous.storage.cache import name_cached, read_cached, write_cached

LABEL, FACTS = ".cls", ".json"
INDEX = ".index.json"
"""Appended to a shard's name: the file that says where its images are."""
INDEX_FORMAT = 1
WALK = 3
"""Raised where a walk finds other images than before: part of the name of what is cached of it."""
MOST_LABEL_BYTES, MOST_FACTS_BYTES, MOST_HEADER_BYTES = 1_000, 65_536, 1_048_576
HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
"""Kinds of members that describe the next one."""


@dataclass(frozen=True)
class Index:
    """Where a shard's images are, in the order of the file."""

    names: Sequence[str]
    labels: Sequence[str] | None
    offsets: Sequence[int]
    lengths: Sequence[int]
    links: int = 0
    """Links to images or classes that were left out."""

    def to_json(self, size: int, sha256: str | None = None) -> bytes:
        """Return the index of a shard of so many bytes as a file holds it."""
        found = {"vitreous_index": INDEX_FORMAT, "bytes": size, "sha256": sha256, "names": self.names}
        found |= {"labels": self.labels, "offsets": self.offsets, "lengths": self.lengths}
        found |= {"links": self.links} if self.links else {}
        return json.dumps(found).encode()

    @classmethod
    def from_json(cls, data: bytes, size: int, where: str) -> "Index":
        """Read the index of a shard of so many bytes; raises DataError for one that isn't its own."""
        try:
            found = json.loads(data)
            names, labels, held, links = found["names"], found["labels"], found["bytes"], int(found.get("links", 0))
            offsets, lengths = (np.array(found[name], np.int64) for name in ("offsets", "lengths"))
            texts = all(isinstance(one, str) for one in (*names, *(labels or ())))
            texts = texts and all(normalise_class(one) == one for one in labels or ())
            whole = len(names) == len(offsets) == len(lengths) == (len(names) if labels is None else len(labels))
            if found["vitreous_index"] != INDEX_FORMAT or not (texts and whole and offsets.ndim == lengths.ndim == 1):
                raise ValueError("it is of another form")
        except KeyError as error:
            raise DataError(
                f"{where} is no index of a shard (it lacks {error}); remove it, or write the shards anew"
            ) from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(f"{where} is no index of a shard ({error}); remove it, or write the shards anew") from error
        if held != size:
            raise DataError(
                f"{where} is of a shard of {held} bytes, but this one has {size:,}; fetch both anew, or remove it"
            )
        if ((offsets < 0) | (lengths < 0) | (lengths > size) | (offsets > size - lengths)).any():
            raise DataError(f"{where} leads outside its shard of {size:,} bytes; remove it, or write the shards anew")
        return cls(names, labels, offsets.tolist(), lengths.tolist(), links)


@dataclass(frozen=True)
class TarPack:
    """The images of one shard."""

    file: PackFile
    offsets: Int64[np.ndarray, " image"]
    lengths: Int64[np.ndarray, " image"]

    def read(self, place: int, most: int) -> bytes:
        """Return an image's bytes; raises ImageError."""
        length = int(self.lengths[place])
        check_length(length, most)
        return self.file.read(int(self.offsets[place]), length)


def open_shard(path: Path, name: str, classes: Sequence[str] | None = None) -> Contents:
    """Return what a shard holds.

    Args:
        path: of the shard; its index lies beside it, if it isn't older, or is cached.
        name: by which its images are called.
        classes: names of the classes by their numbers.

    Raises:
        DataError: it is no tar, cut off, or an image has no class though others have.
    """
    file = LocalFile.find(path)
    beside = path.with_name(path.name + INDEX)
    if beside.is_file() and beside.stat().st_mtime_ns >= path.stat().st_mtime_ns:  # else it may be of another shard
        index = Index.from_json(beside.read_bytes(), file.size, str(beside))
    else:
        index = find_index(file)
    return describe_shard(file, index, name, classes)


def describe_shard(file: PackFile, index: Index, name: str, classes: Sequence[str] | None) -> Contents:
    """Return what a shard holds by its index, class folders aside; raises DataError for a class without a name."""
    pack = TarPack(file, np.array(index.offsets, np.int64), np.array(index.lengths, np.int64))
    labels, folders = index.labels, None
    if labels is None:
        folders = [sys.intern(name.rpartition("/")[0]) for name in index.names]
    elif classes is not None:
        known = {title: title for title in classes if not is_number(title)}
        known |= {str(number): title for number, title in enumerate(classes)}
        if unknown := next((label for label in labels if label not in known), None):
            raise DataError(
                f"{name} has class {unknown!r}, but the {len(classes):,} classes of its shards.json lack it"
            )
        labels = [known[label] for label in labels]
    names = [f"{name}/{one}" for one in index.names]
    return Contents(pack, names, labels, index.lengths, file.changed, index.links, folders)


def label_by_folders(contents: Sequence[Contents]) -> list[Contents]:
    """Return the packs of a split with the class folders in those shards that state no class, where these are class folders."""
    each = [set(one.folders) for one in contents if one.folders]
    known = read_class_folders(set().union(*each))
    if known is None or (len(each) > 1 and are_apart(each, known)):
        return list(contents)
    return [replace(one, labels=[known[folder] for folder in one.folders]) if one.folders else one for one in contents]


def are_apart(shards: Sequence[set[str]], known: Mapping[str, str]) -> bool:
    """Return whether each shard has one of these classes, and folders in it that may be the classes as well."""
    return all(len({known[one] for one in shard}) == 1 and read_class_folders(shard) for shard in shards)


def read_class_folders(folders: Collection[str]) -> dict[str, str] | None:
    """Return the class of each folder in a tar that has images: the first folder of its path in which the paths differ.

    None if there is one folder, if some are above others, or if the folders are of splits.

    >>> read_class_folders(["./photos/cat", "./photos/dog/a"]), read_class_folders(["photos", ""])
    ({'./photos/cat': 'cat', './photos/dog/a': 'dog'}, None)
    """
    paths = {folder: [part for part in folder.split("/") if part not in ("", ".")] for folder in folders}
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*paths.values(), strict=False)))
    if any(len(path) == shared for path in paths.values()):
        return None
    found = {folder: unicodedata.normalize("NFC", path[shared]) for folder, path in paths.items()}
    return None if all(map(get_split, found.values())) else found


def find_index(file: PackFile) -> Index:
    """Return where a shard's images are: from the cache, or by a walk through its headers; raises DataError."""
    where = getattr(file, "url", None) or str(file.path.resolve())
    cache = name_cached("indexes", f"{where}\0{file.size}\0{file.changed}\0{WALK}")
    if (known := read_cached(cache)) is not None:
        return Index.from_json(known, file.size, str(cache))
    try:
        with file.path.open("rb") as stream:
            index = walk_shard(stream, file.size, where)
    except OSError as error:
        raise DataError(f"can't read {where}: {error.strerror or error}") from error
    write_cached(cache, index.to_json(file.size))
    return index


class Member(tarfile.TarInfo):
    """A member of a tar whose own headers have a bound, so that a hostile one can't fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "Member":
        """Read a header."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in HEADERS and found.size > MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {found.size:,} bytes")
        return found


def walk_shard(stream: IO[bytes], size: int, where: str) -> Index:
    """Find a shard's images by its members' headers; raises DataError."""
    samples = Samples(where)
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=Member) as shard:
            while (member := shard.next()) is not None:
                shard.members = []  # else it remembers all of them
                if member.islnk() or member.issym():
                    samples.add_link(member)
                    continue
                if not member.isreg():
                    continue
                if member.offset_data + member.size > size and not member.issparse():
                    raise DataError(
                        f"{where} is cut off: {member.name} ends {member.offset_data + member.size - size:,} bytes behind it"
                    )
                samples.add(shard, member)
            check_end(stream, shard.offset, size, where)
    except RecursionError as error:
        raise DataError(f"{where} can't be read as a tar: a member has hundreds of headers; pack it anew") from error
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where} can't be read as a tar: {error}") from error
    return samples.pair()


def check_end(stream: IO[bytes], end: int, size: int, where: str) -> None:
    """Raise DataError unless a tar goes on where its members end as every whole one does: with a block of zeros."""
    stream.seek(end)
    block = stream.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        what = "cut off" if end + tarfile.BLOCKSIZE > size else "damaged"
        raise DataError(
            f"{where} is {what} behind byte {end:,}: expected a member's header, or the zeros at the end of a tar; fetch it or pack it anew"
        )


class Samples:
    """What a walk through a shard has found.

    Args:
        where: the shard, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.images: dict[str, tarfile.TarInfo] = {}
        """The images by their names."""
        self.grouped = False
        """Whether files belong together by their names, since some of them hold classes."""
        self.labels: dict[str, str] = {}
        """The class of each sample."""
        self.stated: dict[str, str] = {}
        """The class in each member that holds one."""
        self.links = 0
        """Links to images or classes that were left out."""

    def add(self, shard: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Take in a member, if it is an image or may hold a class; raises DataError."""
        key, extension = split_name(member.name)
        self.grouped |= extension in (LABEL, FACTS)
        if member.issparse() and (is_shown_image(member.name) or extension in (LABEL, FACTS)):
            raise DataError(f"{self.where} holds {member.name} with holes; pack it anew without --sparse (tar -S)")
        if is_shown_image(member.name):
            self._add_image(member)
        elif extension == LABEL or (extension == FACTS and key not in self.labels):
            label = read_label(shard, member, extension, self.where)
            if label is not None:
                self.labels[key] = self.stated[member.name] = label

    def add_link(self, link: tarfile.TarInfo) -> None:
        """Take in a hard link to a member before it as that member's contents; count other links; raises DataError."""
        key, extension = split_name(link.name)
        self.grouped |= extension in (LABEL, FACTS)
        if is_shown_image(link.name):
            target = self.images.get(link.linkname) if link.islnk() else None
            if target is None:
                self.links += 1
                return
            link.offset_data, link.size = target.offset_data, target.size
            self._add_image(link)
        elif extension in (LABEL, FACTS):
            label = self.stated.get(link.linkname) if link.islnk() else None
            if label is None:
                self.links += extension == LABEL
            elif extension == LABEL or key not in self.labels:
                self.labels[key] = self.stated[link.name] = label

    def _add_image(self, member: tarfile.TarInfo) -> None:
        if member.name in self.images:
            raise DataError(f"{self.where} has {member.name} twice; pack it anew, each image once")
        self.images[member.name] = member

    def _find_samples(self) -> dict[str, str]:
        """Return the name of each sample's image by the sample; raises DataError."""
        found: dict[str, str] = {}
        for name in self.images:
            other = found.setdefault(split_name(name)[0] if self.grouped else name, name)
            if other != name:
                raise DataError(f"{self.where} has {other} and {name}; a sample has one image")
        return found

    def pair(self) -> Index:
        """Pair the images with their classes, where there are any; raises DataError."""
        samples = self._find_samples()
        lacking = [key for key in samples if key not in self.labels]
        if lacking and len(lacking) < len(samples):
            raise DataError(
                f"{self.where} has {samples[lacking[0]]} without {lacking[0]}{LABEL}; each image needs its class"
            )
        members = list(self.images.values())
        return Index(
            list(self.images),
            None if lacking else [self.labels[key] for key in samples],
            [member.offset_data for member in members],
            [member.size for member in members],
            self.links,
        )


def is_shown_image(name: str) -> bool:
    """Return whether a member is an image by its name, and not a hidden file."""
    return is_image(name) and not name.rpartition("/")[2].startswith(".")


def split_name(name: str) -> tuple[str, str]:
    """Return a member's sample and its extension, as WebDataset tells them apart.

    >>> split_name("a.b/cat.001.CLS")
    ('a.b/cat', '.001.cls')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{extension.lower()}"


def read_label(shard: tarfile.TarFile, member: tarfile.TarInfo, extension: str, where: str) -> str | None:
    """Return the class in a member, as text; None for JSON without one; raises DataError."""
    most = MOST_LABEL_BYTES if extension == LABEL else MOST_FACTS_BYTES
    if member.size > most:
        if extension == FACTS:
            return None
        raise DataError(f"{where}, {member.name} has {member.size:,} bytes; it must hold a class, in at most {most:,}")
    content = shard.extractfile(member)
    data = content.read(most) if content else b""
    try:
        if extension == FACTS:
            found = json.loads(data)
            label: Any = found.get("label") if isinstance(found, dict) else None
            if type(label) not in (int, str):
                return None
            text = str(label)
        else:
            text = data.decode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}, {member.name} can't be read: {error}") from error
    name = check_class(text, f"{where}, {member.name}")
    return str(int(name)) if extension == LABEL and is_number(name) else name


def is_number(name: str) -> bool:
    """Return whether a class is stated by its number."""
    return name.isascii() and name.isdigit()
