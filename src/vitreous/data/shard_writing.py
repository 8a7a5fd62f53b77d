"""Write images as tar shards that any reader of WebDataset's layout takes, with an index and a checksum of each.

    DST/shards.json                  the class names by number; of each shard its name, images, bytes, SHA-256 and split
    DST/train-000000.tar             NAME.jpg and NAME.cls of each image, in an order drawn once
    DST/train-000000.tar.index.json  where each image is
    DST/.lock                        held while a process writes

A shard takes its name once it is whole, on the disk, and read back; what a killed process was writing is written again. The same
images give the same bytes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vitreous.data.listing.class_folders import UNLABELLED, is_image
from vitreous.data.listing.listing import Listing, Row, Splits
from vitreous.data.listing.scan import read_row
from vitreous.data.sources.shard_plan import PLAN, list_shards, read_plan
from vitreous.data.sources.shards import INDEX, LABEL, Index, walk_shard
from vitreous.data.stream.order import find_example
from vitreous.errors import ConfigError, DataError, ImageError, StorageError
from vitreous.images.config import DecodeConfig
from vitreous.images.formats import SAVE, suggest_remedy
from vitreous.storage.atomic import atomic_file, clear_partials, translate_write_errors, write_atomically
from vitreous.storage.hashing import file_hash
from vitreous.storage.lock import FolderLock, has_never_begun
from vitreous.storage.presence import is_file, path_exists

FORMAT_KEY, FORMAT = "vitreous_shards", 1
CHANGED = "source_changed"
"""When the images, or the files that they lie in, were last changed; folders of former versions don't say it."""
SHORT = {"train": "train", "validation": "val", "test": "test"}
"""The first word of a shard's name, by its split."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardPlan:
    """What is to be written, and in which order."""

    splits: dict[str, Listing]
    classes: tuple[str, ...] | None
    """None for images without labels."""
    size: int
    """Bytes of images after which a shard is closed."""
    seed: int
    """Of the order."""

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(map(len, self.splits.values()))

    def describe(self) -> dict[str, Any]:
        """Return what the shards depend on, as shards.json notes it."""
        state, times = hashlib.sha256(), hashlib.sha256()
        for split, listing in self.splits.items():
            for row in listing.rows:
                state.update(f"{split}\0{row.name}\0{row.label}\0{row.bytes}\n".encode(errors="surrogateescape"))
                times.update(f"{row.changed}\n".encode())
        return {
            "__kind__": "wids-shard-index-v1",
            "wids_version": 1,
            FORMAT_KEY: FORMAT,
            "source": state.hexdigest(),
            CHANGED: times.hexdigest(),
            "images": self.images,
            "bytes_per_shard": self.size,
            "seed": self.seed,
            "classes": None if self.classes is None else list(self.classes),
        }


@dataclass
class Written:
    """What a folder of shards holds so far."""

    shards: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    """Shards that were there, and whole."""


def plan_shards(splits: Splits, size: int, seed: int = 0) -> ShardPlan:
    """Return how a data set is written as shards.

    Raises:
        ConfigError: a size below one byte. DataError: several labels an image.
    """
    if size < 1:
        raise ConfigError(f"a shard of {size} bytes; it must have at least 1")
    there = {name: listing for name, listing in vars(splits).items() if listing is not None}
    if any(listing.multilabel for listing in there.values()):
        raise DataError(
            "the data has several labels an image, but a shard's images have one; write shards of data with one"
        )
    labels = {label for listing in there.values() for label in listing.labels}
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    named = sorted(labels, key=int) if numbers else sorted(labels)
    return ShardPlan(there, None if labels == {UNLABELLED} else tuple(named), size, seed)


def write_shards(plan: ShardPlan, folder: Path, tell: Tell | None = None) -> Written:
    """Write the shards that aren't there yet; check those that are by their SHA-256.

    Args:
        plan: what to write.
        folder: new, empty, or begun by the same plan.
        tell: called with (images done, images in all).

    Raises:
        ConfigError: the folder holds anything else. ImageError: an image can't be read; what is whole stays.
        StorageError: the disk is full or gone. RunLocked: another process writes there.
    """
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_free(folder)
    with FolderLock(folder):
        clear_partials(folder)
        written = _read_begun(plan, folder)
        if not written.shards:
            _check_kinds(plan)
        done = sum(one["nsamples"] for one in written.shards)
        while done < plan.images:
            one = _write_next(plan, folder, done, len(written.shards))
            written.shards.append(one)
            done += one["nsamples"]
            _note(plan, folder, written, done == plan.images)
            if tell is not None:
                tell(done, plan.images)
    return written


def _check_free(folder: Path) -> None:
    """Refuse a folder of other things; raises ConfigError."""
    if not path_exists(folder / PLAN) and not has_never_begun(folder):
        raise ConfigError(f"{folder} is not empty; choose a new folder for the shards")


def _read_begun(plan: ShardPlan, folder: Path) -> Written:
    """Return the shards that a former process wrote, up to the first that is missing or damaged; raises ConfigError."""
    if not path_exists(folder / PLAN):
        return Written()
    found, wanted = read_plan(folder / PLAN), plan.describe()
    known = found if CHANGED in found else found | {CHANGED: wanted[CHANGED]}
    if other := next((name for name in wanted if known.get(name) != wanted[name]), None):
        what = {
            "source": "other images",
            "images": "other images",
            CHANGED: "images that were changed since",
            "bytes_per_shard": "shards of another size",
        }.get(other, f"another {other}")
        raise ConfigError(f"{folder} was begun with {what}; go on as it was begun, or choose a new folder")
    whole: list[dict[str, Any]] = []
    for one in list_shards(found, folder / PLAN):
        path = folder / one["url"]
        if not path_exists(path) or path.stat().st_size != one["filesize"] or file_hash(path) != one["sha256"]:
            break
        whole.append(one)
    return Written(whole, len(whole))


def _note(plan: ShardPlan, folder: Path, written: Written, complete: bool) -> None:
    document = {**plan.describe(), "complete": complete, "shardlist": written.shards}
    write_atomically(folder / PLAN, json.dumps(document, indent=1).encode())


def _order(plan: ShardPlan, behind: int) -> Iterator[tuple[str, Listing, Row]]:
    """Yield the images of the split in which the next image is, from that one on: in an order that any reader may take as it is."""
    for split, listing in plan.splits.items():
        if behind >= len(listing):
            behind -= len(listing)
            continue
        for index in range(behind, len(listing)):
            yield split, listing, listing.rows[find_example(plan.seed, 0, index, len(listing))]
        return


def _write_next(plan: ShardPlan, folder: Path, behind: int, number: int) -> dict[str, Any]:
    """Write the shard that begins behind so many images, and read it back; return its line in shards.json."""
    images = _order(plan, behind)
    split, listing, row = next(images)
    name = f"{SHORT[split]}-{number:06}.tar"
    places = {title: place for place, title in enumerate(plan.classes or ())}
    names, labels = list[str](), list[str]()
    with atomic_file(folder / name) as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=2**20) as shard:
            taken, size = set[str](), 0
            while size < plan.size:
                key, extension, data = _sample(listing, row, taken)
                if plan.classes is not None:
                    _add(shard, f"{key}{LABEL}", str(places[row.label]).encode())
                    labels.append(str(places[row.label]))
                _add(shard, f"{key}{extension}", data)
                names.append(f"{key}{extension}")
                size += len(data)
                following = next(images, None)
                if following is None:
                    break
                _, listing, row = following
        file.flush()
        index = _read_back(Path(file.name), hashed, names, labels if plan.classes is not None else None)
    digest, total = hashed.state.hexdigest(), hashed.size
    write_atomically(folder / f"{name}{INDEX}", index.to_json(total, digest))
    return {"url": name, "nsamples": len(names), "filesize": total, "sha256": digest, "split": split}


class _Hashed(io.RawIOBase):
    """Passes bytes on to a file, and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.state, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write all of some bytes."""
        self.state.update(data)
        self.size += len(data)
        self.file.write(data)
        return len(data)


def _read_back(path: Path, hashed: _Hashed, names: list[str], labels: list[str] | None) -> Index:
    """Read a shard as it is on the disk; return where its images are; raises StorageError if it isn't what was written."""
    if file_hash(path) != hashed.state.hexdigest():
        raise StorageError(f"{path} reads otherwise than it was written; check the disk, then run the command again")
    with path.open("rb") as file:
        index = walk_shard(file, hashed.size, str(path))
    if list(index.names) != names or index.labels != labels:
        raise StorageError(f"{path} does not hold the images that were written; this is a bug, please report it")
    return index


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    shard.addfile(member, io.BytesIO(data))


def _sample(listing: Listing, row: Row, taken: set[str]) -> tuple[str, str, bytes]:
    """Return an image's name without its extension, unique in the shard, its extension, and its file; raises ImageError."""
    data = read_row(listing, row, DecodeConfig())
    folder, slash, base = row.name.lstrip("/").replace("../", "").rpartition("/")
    stem, dot, extension = base.rpartition(".")
    if not is_image(base):
        stem, dot, extension = base, "", ""
    if isinstance(data, np.ndarray):
        data, dot, extension = _encode(data), ".", "png"
    key = f"{folder}{slash}{(stem or base).replace('.', '%2E')}"
    while key in taken:
        key += "_"
    taken.add(key)
    return key, f".{extension.lower()}" if dot else _guess(data, row.name), data


def _guess(data: bytes, name: str) -> str:
    """Return the extension of an image that has none by its name, by its first bytes; raises ImageError."""
    from vitreous.images.containers.survey import sniff_format

    kind = sniff_format(data)
    if kind is None:
        raise ImageError(f"{name} is of no known format; leave it out, or save it as PNG, JPEG or TIFF")
    extension = {"JPEG": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
    if not is_image(f"image{extension}"):
        raise ImageError(f"{name} is {kind}: {suggest_remedy(extension) or SAVE}")
    return extension


def _check_kinds(plan: ShardPlan) -> None:
    """Refuse files that are no images, by the first bytes of those without an image's extension; raises ImageError."""
    for listing in plan.splits.values():
        for row in listing.rows if listing.reader is None else ():
            if not is_image(row.name.rpartition("/")[2]) and is_file(listing.root / row.name):
                _guess(_read_start(listing.root / row.name), row.name)


def _read_start(path: Path) -> bytes:
    """Return a file's first bytes; raises ImageError."""
    try:
        with path.open("rb") as file:
            return file.read(1024)
    except OSError as error:
        raise ImageError(f"can't read {path}: {error.strerror or error}") from error


def _encode(pixels: np.ndarray) -> bytes:
    """Return pixels as a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
