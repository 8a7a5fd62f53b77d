"""Everything that a name stands for: a data set with its parts, or images without labels."""

from collections.abc import Iterable
from pathlib import Path

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset, open_listing
from vitreous.data.listing.discovery import MANIFESTS, list_data
from vitreous.data.listing.listing import TRAIN, VALIDATION, Listing, Row
from vitreous.data.sources.base import Source
from vitreous.data.sources.digits import DIGITS
from vitreous.data.synthetic.formula import is_formula
from vitreous.images.config import DecodeConfig
from vitreous.storage.presence import path_exists


def open_parts(path: str, decode: DecodeConfig = DecodeConfig(), broken: str = "raise") -> dict[str, Source]:
    """Open a labelled set with all of its parts: train and validation, or the whole under "" where it has no split.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if path == DIGITS or is_formula(path):
        found = open_dataset(DataConfig(path))
        return {TRAIN[0]: found.train, VALIDATION[2]: found.validation}
    train, validation = list_data(Path(path).expanduser() if path else Path())
    if validation is None:
        return {"": open_listing(train, None, decode, broken)}
    return {
        TRAIN[0]: open_listing(train, None, decode, broken),
        VALIDATION[2]: open_listing(validation, None, decode, broken),
    }


def open_images(paths: Iterable[Path], decode: DecodeConfig = DecodeConfig(), broken: str = "raise") -> Source:
    """Open images without labels, named by their paths: all are of one class, whose name is empty.

    Raises:
        DataError: images that can't be read, unless they are to be skipped.
    """
    rows = []
    for path in paths:
        try:
            status = path.stat()
            rows.append(Row(str(path), "", status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):  # the latter of a name with a NUL
            rows.append(Row(str(path), ""))
    return open_listing(Listing(Path(), tuple(rows)), ("",), decode, broken)


def is_data_name(name: str) -> bool:
    """Tell whether a word names labelled data rather than images: digits, a formula, or a manifest."""
    if name == DIGITS or is_formula(name):
        return not path_exists(name)
    return Path(name).suffix.lower() in MANIFESTS
