"""Images that are in two sources: the same file, or the same bytes, wherever they lie."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitreous.data.sources.base import ArraySource, FileSource, Over, PackedSource, Source
from vitreous.data.sources.subset import Subset
from vitreous.errors import VitreousError
from vitreous.storage.hashing import hash_bytes


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image in packed files."""

    location: str
    name: str
    source: PackedSource = field(compare=False, repr=False)
    index: int = field(compare=False)

    def read(self) -> bytes:
        """Return its bytes, or those of its pixels; nothing if it can't be read."""
        try:
            found = self.source.read(self.index)
        except VitreousError:
            return b""
        return found if isinstance(found, bytes) else found.tobytes()

    @property
    def length(self) -> int:
        """Its bytes; 0 if that isn't known before it is read."""
        return int(self.source.lengths[self.index])

    @property
    def digest(self) -> str:
        """The hash that the scan found; empty if it found none."""
        known = self.source.digests
        return "" if known is None else known[self.index].tobytes().hex()


Item = Path | PackedImage | bytes
"""An image in comparable form: its file, its place in packed files, or its pixels."""


def items(source: Source) -> list[Item]:
    """Return the comparable form of a source's images, in order; empty for images that are drawn on demand."""
    if isinstance(source, Over):
        return items(source.source)
    if isinstance(source, Subset):
        inner = items(source.source)
        return [inner[index] for index in source.indices] if inner else []
    if isinstance(source, PackedSource):
        where = source.reader.location
        return [PackedImage(where, name, source, index) for index, name in enumerate(source.names)]
    if isinstance(source, FileSource):
        root = source.root.resolve()
        return [root / name for name in source.names]
    if isinstance(source, ArraySource):
        return [pixels.tobytes() for pixels in source.pixels]
    return []


def find_shared(mine: Sequence[Item], theirs: Sequence[Item]) -> list[bool]:
    """Return for each image whether it is among others: the same file, or one of the same length and bytes.

    Of the others only those are read that are as long as one of the images, and whose hash the scan doesn't know.
    """
    known = set(theirs)
    lengths = [-1 if item in known else length(item) for item in mine]
    wanted, unsized, hashes = {*lengths} - {-1}, set[str](), defaultdict[int, set[str]](set)
    for item in theirs if wanted else ():
        if isinstance(item, PackedImage) and item.digest and item.length <= 0:
            unsized.add(item.digest)
        elif (size := length(item)) in wanted:
            hashes[size].add(digest(item))

    def has_same_bytes(item: Item, size: int) -> bool:
        others = [found for found in (hashes.get(size), unsized) if found] if size >= 0 else []
        own = digest(item) if others else ""
        return bool(own) and any(own in found for found in others)

    return [item in known or has_same_bytes(item, size) for item, size in zip(mine, lengths, strict=True)]


def length(item: Item) -> int:
    """Return an image's size in bytes; -1 for one that is gone."""
    if isinstance(item, bytes):
        return len(item)
    if isinstance(item, PackedImage):
        return item.length if item.length > 0 else len(item.read()) or -1
    try:
        return item.stat().st_size
    except OSError:
        return -1


def digest(item: Item) -> str:
    """Return the hash of an image's bytes; nothing for one that can't be read."""
    if isinstance(item, PackedImage) and item.digest:
        return item.digest
    try:
        found = item if isinstance(item, bytes) else item.read() if isinstance(item, PackedImage) else item.read_bytes()
    except OSError:
        return ""
    return hash_bytes(found) if found else ""
