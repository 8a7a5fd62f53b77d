"""A data set's images, listed and looked at: training, validation and test, before any is held out."""

from dataclasses import replace

from vitreous.data.config import DataConfig
from vitreous.data.listing.listing import Listing
from vitreous.data.listing.scan import Progress, scan, scan_sample
from vitreous.data.sources.files import ScannedListing
from vitreous.data.splits import list_data, list_splits
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.runtime.collection import pause_collection
from vitreous.storage.presence import expand_home


def scan_splits(
    config: DataConfig, decode: DecodeConfig, progress: Progress | None
) -> tuple[list[ScannedListing], bool]:
    """List a data set's images, and look at them.

    Args:
        config: where they are.
        decode: limits of decoding.
        progress: called with (files scanned, files in all).

    Returns:
        Training images, and validation and test images where they are apart; whether the last ones are test images.

    Raises:
        DataError: nothing there, or nothing that can be trained on.
    """
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
    path = expand_home(config.path)
    if not config.path:
        raise DataError(
            "data.path is empty; give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
        )
    optional, stamps = config.labels == "optional", config.scan == "first"
    splits, once = list_splits(path, optional, True, stamps), config.test_split != "stand-in" and not optional
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
    validation, more = list_data(expand_home(config.validation), optional, True, stamps)
    if validation.multilabel != train.multilabel:
        one, other = (path, config.validation) if train.multilabel else (config.validation, path)
        raise DataError(f"{one} has several labels an image and {other} has one; both must have the same kind")
    if more is not None:
        raise DataError(f"{config.validation} has splits of its own; give one of them, e.g. {config.validation}/val")
    if own is not None:
        note = f"{len(own):,} validation images of {path} were left out: {config.validation} is the validation"
        train = replace(train, notes=(*train.notes, note))
    return [train, validation], test
