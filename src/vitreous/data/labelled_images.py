"""Labelled examples to measure on or to fit a probe to: a whole set, one of its splits, or all of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.dataset import is_built_in, open_dataset
from vitreous.data.listing.discovery import explain_no_split
from vitreous.data.listing.listing import Listing, Row, read_stamp
from vitreous.data.listing.scan import scan
from vitreous.data.sources.base import Relabelled, ScannedSource, Source
from vitreous.data.sources.files import ScannedListing, build_source, keep_readable, number_classes
from vitreous.data.sources.packed_data import list_packed
from vitreous.data.splits import list_data, list_labelled, list_splits
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.storage.presence import expand_home


def open_source(
    path: str,
    classes: Sequence[str] | None = None,
    decode: DecodeConfig = DecodeConfig(),
    broken: str = "raise",
    split: str | None = None,
) -> Source:
    """Open one labelled set for evaluation: a tree of class folders, a manifest, packed files, digits or a formula's images.

    Args:
        path: as in DataConfig.
        classes: the model's class names; labels are indices into them. None: the data's own classes, sorted.
        decode: limits of decoding.
        broken: raise, or skip (they are listed in the source's `skipped`).
        split: train, validation or test, where the data has splits of its own; None: its validation or, failing that,
            its test
            split, or everything.

    Raises:
        DataError: nothing there, no such split, or a class that is not one of the model's.
    """
    if is_built_in(path):
        if split == "test":
            raise DataError(explain_no_split(Path(path), split, ["train", "validation"]))
        found = getattr(open_dataset(DataConfig(path)), split or "validation")
        return found if classes is None else renumber_labels(found, tuple(classes), path)
    listing = list_labelled(expand_home(path), classes or (), split)
    return open_listing(listing, classes, decode, broken)


def open_training(path: str, decode: DecodeConfig = DecodeConfig(), broken: str = "raise") -> Source:
    """Open one labelled set to learn from: its training split if it has splits of its own, or else everything.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if is_built_in(path):
        return open_dataset(DataConfig(path)).train
    return open_listing(list_data(expand_home(path))[0], None, decode, broken)


def open_listing(listing: Listing, classes: Sequence[str] | None, decode: DecodeConfig, broken: str) -> ScannedSource:
    """Check every file of a listing and return the readable ones; raises DataError."""
    part = ScannedListing(listing, scan(listing, decode, "full"))
    return build_source(keep_readable(part, broken), tuple(classes or sorted(set(listing.labels))), decode, part.broken)


def open_splits(path: str, decode: DecodeConfig = DecodeConfig(), broken: str = "raise") -> dict[str, Source]:
    """Open a labelled set with all of its splits: train, validation and test, or the whole under "" if it has no split.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if is_built_in(path):
        found = open_dataset(DataConfig(path))
        return {"train": found.train, "validation": found.validation}
    place = expand_home(path)
    splits = list_packed(place, optional=True) or list_splits(place)
    there = {name: listing for name, listing in vars(splits).items() if listing is not None}
    if len(there) == 1:
        there = {"": there["train"]}
    return {name: open_listing(listing, None, decode, broken) for name, listing in there.items()}


def open_images(paths: Iterable[Path], decode: DecodeConfig = DecodeConfig(), broken: str = "raise") -> Source:
    """Open images without labels, named by their paths; all are of one class, whose name is empty.

    Raises:
        DataError: images that can't be read, unless they are to be skipped.
    """
    rows = tuple(Row(str(path), "", *read_stamp(path)) for path in paths)
    return open_listing(Listing(Path(), rows), ("",), decode, broken)


def renumber_labels(found: Source, classes: tuple[str, ...], where: str) -> Source:
    """Number a source's labels by a model's classes; raises DataError for a class that is not among them."""
    known = number_classes(classes, found.classes, where)
    numbers = np.array([known[name] for name in found.classes], dtype=np.int64)
    return Relabelled(found, classes, numbers[found.labels])
