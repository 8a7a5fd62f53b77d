"""Images with several labels each, or none: manifests with the column labels, for evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from vitreous.data.examples import FileSource, fingerprint
from vitreous.data.manifest import BETWEEN, read_manifest
from vitreous.data.scan import scan
from vitreous.data.sources import Part, file_source, known_classes, sound
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig


def open_label_sets(
    path: Path, classes: Sequence[str], decode: DecodeConfig = DecodeConfig(), broken: str = "raise"
) -> tuple[FileSource, Bool[np.ndarray, "example label"]]:
    """Open a manifest of labelled images whole, for evaluation; where it has a split, the validation part.

    Args:
        path: a manifest with the columns path and labels.
        classes: the model's class names.
        decode: limits of decoding.
        broken: raise, or skip (they are listed in the source's `skipped`).

    Returns:
        The images (their `labels` are all 0, and mean nothing), and which of the classes each has.

    Raises:
        DataError: nothing there, or a label that is not among the classes.
    """
    train, validation = read_manifest(path, several=True)
    listing = validation or train
    every = Part(listing, scan(listing, decode, "full"))
    part = sound(every, broken)
    sets = [tuple(filter(None, label.split(BETWEEN))) for label in part.listing.labels]
    index = known_classes(classes, [label for labels in sets for label in labels], str(path))
    targets = np.zeros((len(sets), len(classes)), bool)
    for row, labels in enumerate(sets):
        targets[row, [index[label] for label in labels]] = True
    if not targets.any():
        raise DataError(f"{path}: not one of its {len(sets):,} images has a label")
    plain = tuple(row._replace(label=classes[0]) for row in part.listing.rows)
    source = file_source(replace(part, listing=replace(part.listing, rows=plain)), tuple(classes), decode, every.broken)
    digests = (record.digest + row.tobytes().hex() for record, row in zip(part.records, targets, strict=True))
    return replace(source, fingerprint=fingerprint(source.names, source.labels, digests)), targets
