"""Images with several labels each, or none, opened for evaluation under a model's classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitreous.data.listing.discovery import list_labelled
from vitreous.data.listing.scan import scan
from vitreous.data.sources.base import ScannedSource, Source, get_label_matrix
from vitreous.data.sources.files import ScannedListing, build_source, keep_readable, number_classes
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.shapes import Bool
from vitreous.storage.scratch import allocate_rows, iterate_blocks


def open_multilabel(
    path: Path,
    classes: Sequence[str],
    decode: DecodeConfig = DecodeConfig(),
    broken: str = "raise",
    split: str | None = None,
) -> tuple[ScannedSource, Bool[np.ndarray, "example label"]]:
    """Open a manifest of labelled images for evaluation, whole or one split.

    Args:
        path: a manifest with the columns path and labels.
        classes: the model's class names.
        decode: limits of decoding.
        broken: raise, or skip (they are listed in the source's `skipped`).
        split: train, validation or test; None: its validation or, failing that, its test split, or everything.

    Returns:
        The images (their `labels` are all MULTILABEL), and which of the classes each has.

    Raises:
        DataError: nothing there, or a label that is not among the classes.
    """
    listing = list_labelled(path, split=split, multilabel=True)
    every = ScannedListing(listing, scan(listing, decode, "full"))
    source = build_source(keep_readable(every, broken), tuple(classes), decode, every.broken)
    assert source.label_matrix is not None
    if not source.label_matrix.any():
        raise DataError(f"none of the {len(source):,} images in {path} has a label; add labels")
    return source, source.label_matrix


def convert_to_label_matrix(source: Source, classes: Sequence[str]) -> Bool[np.ndarray, "example label"]:
    """Return which of a model's classes each example of a source has; a single label becomes a set of one.

    Many are in a temporary file (see `storage/scratch.py`).

    Raises:
        DataError: a class that is not one of the model's.
    """
    label_matrix, own = get_label_matrix(source), np.arange(len(source.classes))
    if label_matrix is not None and tuple(classes) == source.classes:
        return label_matrix
    used = np.unique(source.labels) if label_matrix is None else np.flatnonzero(label_matrix.any(0))
    index = number_classes(classes, [source.classes[label] for label in used], "the data")
    columns = [index[source.classes[label]] for label in used]
    found = allocate_rows(len(source), len(classes), np.bool_)
    for place in iterate_blocks(found):
        rows = own == source.labels[place, None] if label_matrix is None else label_matrix[place]
        found[place] = False
        found[place][:, columns] = rows[:, used]
    return found
