"""Where examples come from: files with labels, or scikit-learn's digits. `open_dataset` turns settings into a Dataset."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from vitreous.data.config import DataConfig
from vitreous.data.listing import Listing, list_data
from vitreous.data.scan import Progress, Record, ScanReport, scan, summarize_sizes
from vitreous.data.split import held_out
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import read
from vitreous.shapes import Size

GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}
DIGITS = "digits"


class Source(Protocol):
    """Labelled examples by index."""

    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    names: Sequence[str]
    """What people call each example: a path relative to the data, or an id."""
    fingerprint: str
    """Hash of the names, the labels and the contents."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def read(self, index: int) -> bytes | UInt8[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        ...


@dataclass(frozen=True)
class FileSource:
    """Image files with labels. A file that has become unreadable is an ImageError, never another example."""

    root: Path
    names: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    classes: tuple[str, ...]
    fingerprint: str
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return a file's bytes; raises ImageError."""
        return read(self.root / self.names[index], self.decode)


@dataclass(frozen=True)
class ArraySource:
    """Images in memory: uint8 (row, col, channel) each."""

    pixels: UInt8[np.ndarray, "example row col channel"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray, " example"]
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> UInt8[np.ndarray, "row col channel"]:
        """Return an example's pixels."""
        return self.pixels[index]


@dataclass(frozen=True)
class Facts:
    """What a recipe needs to know of the data."""

    classes: tuple[str, ...]
    train: int
    validation: int
    channels: int
    """1 if every image is grey, else 3."""
    size: Size
    """Median rows and cols."""
    counts: tuple[int, ...]
    """Training examples of each class."""


@dataclass(frozen=True)
class Dataset:
    """Training and validation examples, and what was found on the way."""

    train: Source
    validation: Source
    facts: Facts
    report: ScanReport


def open_dataset(
    config: DataConfig, decode: DecodeConfig = DecodeConfig(), progress: Progress | None = None
) -> Dataset:
    """Find, verify and split the data.

    Raises:
        DataError: nothing there, too few classes or images, or broken files with `data.broken` at "raise".
    """
    if config.path == DIGITS:
        return open_digits(config)
    train, validation = list_data(Path(config.path))
    if config.validation is not None:
        validation, more = list_data(Path(config.validation))
        if more is not None:
            raise DataError(f"{config.validation} has a split of its own; give its part, e.g. {config.validation}/val")
    listings = [train] if validation is None else [train, validation]
    total, done = sum(map(len, listings)), 0
    records: list[list[Record]] = []
    for listing in listings:
        tell = None if progress is None else lambda count, _, before=done: progress(before + count, total)
        records.append(scan(listing, decode, config.verify, tell))
        done += len(listing)
    good = [sound(listing, found, config) for listing, found in zip(listings, records, strict=True)]
    broken = tuple(
        (name, record.error)
        for listing, found in zip(listings, records, strict=True)
        for name, record in zip(listing.names, found, strict=True)
        if record.error
    )
    if validation is None:
        listing, found = good[0]
        held = held_out(listing.names, listing.labels, config.holdout, config.split_seed)
        good = [take(listing, found, [not out for out in held]), take(listing, found, held)]
    return assemble(config, decode, good, broken)


def open_source(
    path: str, classes: Sequence[str] | None = None, decode: DecodeConfig = DecodeConfig(), broken: str = "raise"
) -> Source:
    """Open one labelled set whole, for evaluation: a tree of class folders, a manifest, or the held-out digits.

    Where the data has its own split, its validation part is taken.

    Args:
        path: as in DataConfig.
        classes: the model's class names; labels are indices into them. None: the data's own, sorted.
        decode: limits of decoding.
        broken: raise, or skip.

    Raises:
        DataError: nothing there, or a class that the model doesn't know.
    """
    if path == DIGITS:
        return open_digits(DataConfig(DIGITS)).validation
    first, second = list_data(Path(path))
    listing = second or first
    config = DataConfig(path, broken="skip" if broken == "skip" else "raise")
    listing, records = sound(listing, scan(listing, decode, config.verify), config)
    return source(listing, records, tuple(classes or sorted(set(listing.labels))), decode)


def sound(listing: Listing, records: list[Record], config: DataConfig) -> tuple[Listing, list[Record]]:
    """Keep the files that can be read; raises DataError for broken ones unless they are to be skipped."""
    bad = [record.error for record in records if record.error]
    if bad and config.broken == "raise":
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{more}; remove the broken files, or leave them out with --data.broken skip")
    if len(bad) == len(listing):
        raise DataError(f"none of the {len(bad):,} images in {listing.root} can be read: {bad[0]}")
    return take(listing, records, [not record.error for record in records])


def take(listing: Listing, records: list[Record], keep: Sequence[bool]) -> tuple[Listing, list[Record]]:
    """Return the part of a listing that is to be kept, with its records."""
    chosen = [index for index, kept in enumerate(keep) if kept]
    names, labels = (tuple(values[index] for index in chosen) for values in (listing.names, listing.labels))
    return replace(listing, names=names, labels=labels), [records[index] for index in chosen]


def assemble(
    config: DataConfig,
    decode: DecodeConfig,
    parts: list[tuple[Listing, list[Record]]],
    broken: tuple[tuple[str, str], ...],
) -> Dataset:
    """Put two checked parts together."""
    (train, train_records), (validation, validation_records) = parts
    counts, held = Counter(train.labels), Counter(validation.labels)
    classes = tuple(sorted(counts))
    if len(classes) < 2:
        raise DataError(
            f"{config.path} has a single class, {classes[0]!r}; a classifier needs at least two class folders"
        )
    absent = [label for label in classes if label not in held]
    notes = (*train.notes, *validation.notes)
    if absent:
        notes += (f"{len(absent)} classes have no validation images: {', '.join(absent[:5])}",)
    common, smallest, median, largest = summarize_sizes(train_records + validation_records)
    everything = train_records + validation_records
    report = ScanReport(
        path=config.path,
        train=len(train),
        validation=len(validation),
        counts={label: counts[label] for label in classes},
        validation_counts={label: held[label] for label in classes},
        sizes=common,
        smallest=smallest,
        median=str(median),
        largest=largest,
        modes=dict(Counter(record.mode for record in everything).most_common()),
        formats=dict(Counter(record.format for record in everything).most_common()),
        broken=broken,
        duplicates=same_bytes(train, train_records, validation, validation_records),
        conflicts=conflicting(train, train_records),
        ignored=train.ignored + (validation.ignored if validation.root != train.root else 0),
        notes=notes,
    )
    channels = 1 if all(record.mode in GREY_MODES for record in everything) else 3
    facts = Facts(classes, len(train), len(validation), channels, median, tuple(counts[label] for label in classes))
    return Dataset(
        source(train, train_records, classes, decode),
        source(validation, validation_records, classes, decode),
        facts,
        report,
    )


def source(listing: Listing, records: list[Record], classes: tuple[str, ...], decode: DecodeConfig) -> FileSource:
    """Turn a checked listing into a source; raises DataError for a class that is not in `classes`."""
    index = {label: number for number, label in enumerate(classes)}
    unknown = sorted(set(listing.labels) - set(classes))
    if unknown:
        raise DataError(
            f"{listing.root} has classes that the training data lacks: {', '.join(map(repr, unknown[:5]))}; "
            f"known: {', '.join(classes[:12])}"
        )
    labels = np.array([index[label] for label in listing.labels], dtype=np.int64)
    digests = [record.digest for record in records]
    return FileSource(listing.root, listing.names, labels, classes, fingerprint(listing.names, labels, digests), decode)


def fingerprint(names: Iterable[str], labels: Iterable[int], digests: Iterable[str]) -> str:
    """Hash what a source holds."""
    state = hashlib.blake2b(digest_size=16)
    for name, label, digest in zip(names, labels, digests, strict=True):
        state.update(f"{name}\0{label}\0{digest}\n".encode())
    return state.hexdigest()


def same_bytes(
    train: Listing, train_records: list[Record], validation: Listing, validation_records: list[Record]
) -> tuple[tuple[str, str], ...]:
    """List the validation images that stand in the training data too."""
    first = {record.digest: name for name, record in zip(train.names, train_records, strict=True)}
    pairs = zip(validation.names, validation_records, strict=True)
    return tuple((first[record.digest], name) for name, record in pairs if record.digest in first)


def conflicting(train: Listing, records: list[Record]) -> tuple[tuple[str, str], ...]:
    """List the training images that stand twice, with different labels."""
    seen: dict[str, tuple[str, str]] = {}
    found = []
    for name, label, record in zip(train.names, train.labels, records, strict=True):
        before, other = seen.setdefault(record.digest, (name, label))
        if other != label:
            found.append((before, name))
    return tuple(found)


def open_digits(config: DataConfig) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits: 8x8, grey, 0 to 16 scaled to 0 to 255; a stratified share held out.

    With the default share and seed: 1,437 for training, 360 for validation.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    values = np.asarray(found.images)
    pixels = np.round(values * (255 / 16)).astype(np.uint8)[..., None]
    names = tuple(f"digit-{index:04}" for index in range(len(pixels)))
    labels = np.asarray(found.target, dtype=np.int64)
    classes = tuple(str(label) for label in range(10))
    out = np.array(held_out(names, [classes[label] for label in labels], config.holdout, config.split_seed))
    parts = [_part(pixels, names, labels, classes, np.flatnonzero(chosen)) for chosen in (~out, out)]
    train, validation = parts
    counts, held = np.bincount(train.labels, minlength=10), np.bincount(validation.labels, minlength=10)
    report = ScanReport(
        path=DIGITS,
        train=len(train),
        validation=len(validation),
        counts=dict(zip(classes, map(int, counts), strict=True)),
        validation_counts=dict(zip(classes, map(int, held), strict=True)),
        sizes={"8x8": len(pixels)},
        smallest="8x8",
        median="8x8",
        largest="8x8",
        modes={"L": len(pixels)},
        formats={"array": len(pixels)},
    )
    facts = Facts(classes, len(train), len(validation), 1, Size(8, 8), tuple(map(int, counts)))
    return Dataset(train, validation, facts, report)


def _part(
    pixels: UInt8[np.ndarray, "example row col channel"],
    names: tuple[str, ...],
    labels: Int64[np.ndarray, " example"],
    classes: tuple[str, ...],
    chosen: np.ndarray,
) -> ArraySource:
    """Return the chosen digits as a source."""
    own = tuple(names[index] for index in chosen)
    digests = [hashlib.blake2b(pixels[index].tobytes(), digest_size=16).hexdigest() for index in chosen]
    return ArraySource(pixels[chosen], own, labels[chosen], classes, fingerprint(own, labels[chosen], digests))
