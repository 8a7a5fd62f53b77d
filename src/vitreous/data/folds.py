"""Cross-validation's division of examples into folds: a pure function of (seed, class names, image names)."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.listing.split import hash_rank
from vitreous.data.sources.base import ArraySource, Source
from vitreous.data.sources.files import ScannedListing
from vitreous.data.sources.subset import Subset
from vitreous.errors import DataError

ALL = -1
"""Value of `data.fold` for training on all examples."""
ALL_NOTE = (
    "trained on the images of all folds: unless the data has a validation part of its own, it is measured "
    "on training images"
)


def refuse_folds(config: DataConfig) -> None:
    """Refuse to divide images from formulas; raises DataError."""
    if config.folds:
        raise DataError(f"{config.path} draws any number of images; data.folds is for a fixed set of images")


def assign_folds(names: Sequence[str], labels: Sequence[str], folds: int, seed: int) -> list[int]:
    """Return each example's fold, 0 and up, stratified: neither a class's share of two folds nor their sizes differ by more than 1.

    Within a class the examples are ranked by a hash of (seed, class, name), and dealt in turn, each class starting
    where the previous one ended; the order in which examples are listed doesn't matter.

    Raises:
        DataError: fewer than two folds, or more folds than the smallest class has examples.
    """
    if folds < 2:
        raise DataError(f"{folds} folds; cross-validation takes at least 2")
    sizes = Counter(labels)
    least = min(sorted(sizes), key=lambda label: sizes[label])
    if sizes[least] < folds:
        raise DataError(
            f"{folds} folds, but class {least!r} has {sizes[least]} images, and each fold needs one; use at most "
            f"--folds {sizes[least]}, or add images"
        )
    members: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    found, dealt = [0] * len(names), 0
    for label in sorted(members):
        for index in sorted(members[label], key=lambda index: hash_rank(seed, label, names[index])):
            found[index] = dealt % folds
            dealt += 1
    return found


def choose_fold(names: Sequence[str], labels: Sequence[str], config: DataConfig) -> tuple[list[bool], list[bool]]:
    """Return for each example whether it is trained on, and whether it is held out, by `data.fold`.

    If all are trained on, the first fold is measured too, for lack of other images.

    Raises:
        DataError: no such fold; and as `assign_folds` raises.
    """
    if not ALL <= config.fold < config.folds:
        raise DataError(
            f"data.fold is {config.fold}; with {config.folds} folds it is 0 to {config.folds - 1}, or -1 for all"
        )
    fold_of = assign_folds(names, labels, config.folds, config.split_seed)
    return [fold != config.fold for fold in fold_of], [fold == max(0, config.fold) for fold in fold_of]


def take_fold(parts: list[ScannedListing], config: DataConfig) -> list[ScannedListing]:
    """Return the training and validation files of a fold; the data's own validation part is for the last model alone.

    Raises:
        DataError: several labels per image; and as `choose_fold` raises.
    """
    whole, own = parts[0], parts[1:]
    if whole.listing.multilabel:
        raise DataError("cross-validation needs one label an image, but this data has several; leave out --folds")
    train, held = (whole.take(side) for side in choose_fold(whole.listing.names, whole.listing.labels, config))
    return [train, own[0] if own and config.fold == ALL else held]


def take_array_fold(parts: tuple[ArraySource, ArraySource], config: DataConfig) -> tuple[Subset, Subset]:
    """Return the same for arrays in memory, which have no validation part of their own; raises DataError."""
    whole = ArraySource(
        np.concatenate([one.pixels for one in parts]),
        tuple(name for one in parts for name in one.names),
        np.concatenate([one.labels for one in parts]),
        parts[0].classes,
        ":".join(one.fingerprint for one in parts),
    )
    sides = choose_fold(whole.names, [whole.classes[label] for label in whole.labels], config)
    train, held = (Subset(whole, np.flatnonzero(side).astype(np.int64)) for side in sides)
    return train, held


def is_learned(config: DataConfig, train: Source, validation: Source) -> bool:
    """Return whether the validation examples are training examples too, as in the last run, for lack of others."""
    return config.folds > 0 and config.fold == ALL and set(validation.names) <= set(train.names)
