"""Scanned files, and the source built from them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitreous.data.listing.listing import Listing, format_names
from vitreous.data.listing.scan import FILLED, Record
from vitreous.data.sources.base import MULTILABEL, FileSource, PackedSource, ScannedSource, hash_source
from vitreous.errors import DataError, UnknownName
from vitreous.images.config import DecodeConfig
from vitreous.shapes import Bool
from vitreous.storage.scratch import allocate_rows, iterate_blocks

BROKEN = ("raise", "skip")
"""What can be done about files that can't be read."""


@dataclass(frozen=True)
class ScannedListing:
    """A listing with the scan's record for each of its files."""

    listing: Listing
    records: list[Record]

    def __len__(self) -> int:
        return len(self.records)

    def take(self, keep: Sequence[bool]) -> "ScannedListing":
        """Return the files to keep."""
        kept = [index for index, wanted in enumerate(keep) if wanted]
        rows = tuple(self.listing.rows[index] for index in kept)
        return ScannedListing(replace(self.listing, rows=rows), [self.records[index] for index in kept])

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        """The files that can't be read: (name, reason)."""
        pairs = zip(self.listing.rows, self.records, strict=True)
        return tuple((row.name, record.error) for row, record in pairs if record.error)


def check_broken(broken: str) -> None:
    """Raise UnknownName for what can't be done about files that can't be read."""
    if broken not in BROKEN:
        raise UnknownName("value of broken", broken, BROKEN)


def keep_readable(scanned: ScannedListing, broken: str) -> ScannedListing:
    """Keep the files that can be read; raises DataError for broken ones unless they are to be skipped."""
    check_broken(broken)
    bad = [index for index, record in enumerate(scanned.records) if record.error]
    if not bad:
        return scanned
    reasons = [f"{scanned.listing.place(index)}{scanned.records[index].error}" for index in bad[:3]]
    more = f"; and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    listed = "; ".join(reasons) + more
    if scanned.listing.manifest and any(scanned.listing.rows[index].is_missing for index in bad):
        listed += f" (a path is relative to {scanned.listing.root.resolve()})"
    if len(bad) == len(scanned):
        raise DataError(f"none of the {len(scanned):,} images in {scanned.listing.root} can be read: {listed}")
    if broken == "raise":
        raise DataError(
            f"{len(bad):,} of {len(scanned):,} images can't be read: {listed}. Mend or remove them, or leave them "
            "out with --broken skip"
        )
    kept = scanned.take([not record.error for record in scanned.records])
    lost = sorted(set(scanned.listing.all_labels) - set(kept.listing.all_labels))
    if not lost:
        return kept
    note = f"classes that lost all their images, as none can be read: {format_names(lost)}"
    return replace(kept, listing=replace(kept.listing, notes=(*kept.listing.notes, note)))


def build_source(
    scanned: ScannedListing, classes: tuple[str, ...], decode: DecodeConfig, skipped: tuple[tuple[str, str], ...]
) -> ScannedSource:
    """Turn scanned images into a source; raises DataError for a class that is not in `classes`."""
    listing, records = scanned.listing, scanned.records
    index = number_classes(classes, listing.all_labels, str(listing.manifest if listing.multilabel else listing.root))
    names, label_matrix = listing.names, None
    digests: Iterable[str] = (record.digest for record in records)
    known = bool(records) and all(record.rows for record in records)
    sizes = np.array([(record.rows, record.cols) for record in records], dtype=np.int32) if known else None
    if listing.multilabel:
        labels = np.full(len(names), MULTILABEL, dtype=np.int64)
        label_matrix = build_label_matrix(listing.label_lists, index, len(classes))
        rows = (row for place in iterate_blocks(label_matrix) for row in label_matrix[place])
        digests = (digest + row.tobytes().hex() for digest, row in zip(digests, rows, strict=True))
    else:
        labels = np.array([index[label] for label in listing.labels], dtype=np.int64)
    found: dict[str, Any] = {
        "names": names,
        "labels": labels,
        "classes": classes,
        "fingerprint": hash_source(names, labels, digests),
        "decode": decode,
        "sizes": sizes,
        "skipped": skipped,
        "label_matrix": label_matrix,
        "filled": sum(record.format.endswith(FILLED) for record in records),
    }
    return wrap_listing(listing, found, records)


def wrap_listing(listing: Listing, found: dict[str, Any], records: Sequence[Record] = ()) -> ScannedSource:
    """Return the source of a listing's images, read as files or from packed files; `found`: its other fields."""
    if listing.reader is None:
        return FileSource(**found, root=listing.root)
    numbers, lengths = (
        np.array([getattr(row, name) for row in listing.rows], np.int64) for name in ("number", "bytes")
    )
    digests = None
    if records and all(record.digest for record in records):
        digests = np.frombuffer(bytes.fromhex("".join(record.digest for record in records)), np.uint8).reshape(-1, 16)
    return PackedSource(**found, reader=listing.reader, numbers=numbers, lengths=lengths, digests=digests)


def build_unscanned_source(listing: Listing, classes: tuple[str, ...], decode: DecodeConfig) -> ScannedSource:
    """Turn a listing into a source without a look at its images; lengths and times of change stand for contents."""
    index = number_classes(classes, listing.all_labels, str(listing.root))
    labels = np.array([index[label] for label in listing.labels], dtype=np.int64)
    stamps = (f"{row.bytes} {row.changed}" for row in listing.rows)
    content = hash_source(listing.names, labels, stamps)
    found = {"names": listing.names, "labels": labels, "classes": classes, "fingerprint": content, "decode": decode}
    return wrap_listing(listing, found)


def build_label_matrix(
    label_lists: Sequence[Sequence[str]], index: dict[str, int], classes: int
) -> Bool[np.ndarray, "example label"]:
    """Return which classes each example has; `index` numbers the columns. Many are in a temporary file (see
    `storage/scratch.py`)."""
    label_matrix = allocate_rows(len(label_lists), classes, np.bool_)
    for place in iterate_blocks(label_matrix):
        label_matrix[place] = False
        for row, labels in zip(label_matrix[place], label_lists[place], strict=True):
            row[[index[label] for label in labels]] = True
    return label_matrix


def number_classes(classes: Sequence[str], found: Sequence[str] | Counter[str], where: str) -> dict[str, int]:
    """Return the number of each class; raises DataError for one that is not in `classes`."""
    index = {label: number for number, label in enumerate(classes)}
    unknown = sorted(set(found) - set(index))
    if unknown:
        raise DataError(
            f"{where} has {'a class' if len(unknown) == 1 else 'classes'} not trained on: "
            f"{format_names([repr(label) for label in unknown])}; known: {format_names(tuple(classes), 12)}"
        )
    return index
