"""A data set's images, listed and looked at: training, validation and test, before any is held out."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitreous.data.config import DataConfig
from vitreous.data.listing.listing import Listing
from vitreous.data.listing.scan import Progress, scan, scan_sample
from vitreous.data.sources.files import ScannedListing
from vitreous.data.splits import list_data, list_splits
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.runtime.collection import pause_collection

ScannedSplits = tuple[list[ScannedListing], bool]
"""Training images, and validation and test images where they are apart; whether the last ones are test images."""


@dataclass
class Handover:
    """What the first opening found, for the second."""

    key: Any = None
    parts: ScannedSplits | None = None
    opened: int = 0


_HANDOVER: ContextVar[Handover | None] = ContextVar("handover", default=None)


@contextmanager
def scanning_once() -> Iterator[None]:
    """Let the second opening of data inside the block take over what the first has listed and looked at, if it is of the same data.

    A run is planned from its data's facts, and then opens the data. Later openings look again.
    """
    before = _HANDOVER.set(Handover())
    try:
        yield
    finally:
        _HANDOVER.reset(before)


def scan_splits(config: DataConfig, decode: DecodeConfig, progress: Progress | None) -> ScannedSplits:
    """List a data set's images, and look at them; raises DataError. `progress`: called with (files scanned, files in all)."""
    handover = _HANDOVER.get() or Handover()
    key = (
        config.path,
        config.validation,
        config.labels,
        config.test_split,
        config.folds > 0,
        config.scan,
        config.verify,
        decode,
    )
    handover.opened += 1
    kept, known, handover.parts = handover.parts, handover.key, None
    if kept is not None and known == key:
        return kept
    found = _scan_splits(config, decode, progress)
    if handover.opened == 1:
        handover.key, handover.parts = key, found
    return found


def _scan_splits(config: DataConfig, decode: DecodeConfig, progress: Progress | None) -> ScannedSplits:
    with pause_collection():  # a row for each file, none of them garbage
        listings, test = list_parts(config)
    listings = [*listings, *([test] if test else [])]
    total, done = sum(map(len, listings)), 0
    parts: list[ScannedListing] = []
    for listing in listings:
        tell = None if progress is None else lambda now, _, before=done: progress(before + now, total)
        later = config.scan == "later"
        records = scan_sample(listing, decode, config.verify) if later else scan(listing, decode, config.verify, tell)
        parts.append(ScannedListing(listing, records))
        done += len(listing)
    return parts, bool(test)


def list_parts(config: DataConfig) -> tuple[list[Listing], Listing | None]:
    """Return the training files; the validation files, unless they are still to be split off; and the test files, if
    they will be measured."""
    path = Path(config.path).expanduser() if config.path else Path()
    if not config.path:
        raise DataError(
            "data.path is empty; give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
        )
    optional = config.labels == "optional"
    splits, once = list_splits(path, optional, multilabel=True), config.test_split == "once" and not optional
    train, own = (splits.train, splits.validation) if once else splits.let_test_stand_in()
    assert train is not None
    test = splits.test if once else None
    if config.validation is None:
        if test is not None and own is None and not config.folds:
            note = (
                "there is no validation split: a part of the training images is held out for it, and the test "
                "split is kept for the end"
            )
            train = replace(train, notes=(*train.notes, note))
        return [train] if own is None else [train, own], test
    validation, more = list_data(Path(config.validation).expanduser(), optional, multilabel=True)
    if validation.multilabel != train.multilabel:
        one, other = (path, config.validation) if train.multilabel else (config.validation, path)
        raise DataError(f"{one} has several labels an image and {other} has one; both must have the same kind")
    if more is not None:
        raise DataError(f"{config.validation} has splits of its own; give one of them, e.g. {config.validation}/val")
    if own is not None:
        note = f"{len(own):,} validation images of {path} were left out: {config.validation} is the validation"
        train = replace(train, notes=(*train.notes, note))
    return [train, validation], test
