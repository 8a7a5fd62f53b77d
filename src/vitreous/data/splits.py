"""A data set's splits before any image is looked at, whatever form they have: files, a manifest, packed files, an object, or a name on the Hub."""

from collections.abc import Collection
from pathlib import Path

from vitreous.data.listing import discovery
from vitreous.data.listing.discovery import NAMES, explain_no_split
from vitreous.data.listing.layout import recognise_layout
from vitreous.data.listing.listing import Listing, Splits
from vitreous.data.listing.manifest import read_splits
from vitreous.data.sources.hub_sets import is_hub_set, list_hub_set
from vitreous.data.sources.objects import is_object, list_objects
from vitreous.data.sources.packed_data import is_packed, list_packed
from vitreous.errors import DataError


def check_there(path: Path) -> None:
    """Raise DataError unless there is something at a path that may be a data set."""
    if not (is_object(path) or is_hub_set(path) or is_packed(path)):
        discovery.is_manifest(path)


def list_splits(path: Path, optional: bool = False, multilabel: bool = False, stamps: bool = True) -> Splits:
    """Return the images of a data set's own splits, or all of them as `train`.

    Args:
        path: a folder of class folders, a manifest, or packed files.
        optional: labels may be missing.
        multilabel: a manifest may give several labels per image.
        stamps: ask the files of a folder for their length and time of change.

    Raises:
        DataError: nothing there, or nothing that can be trained on.
    """
    return list_stored(path, optional) or discovery.list_splits(path, optional, multilabel, stamps)


def list_stored(path: Path, optional: bool = False) -> Splits | None:
    """Return the images of packed files, of an object, or of a data set on the Hub, by split; None for anything else; raises
    DataError."""
    if is_hub_set(path):
        return list_hub_set(path, optional)
    return list_objects(path, optional) if is_object(path) else list_packed(path, optional)


def has_splits(path: Path, known: Collection[str] = ()) -> bool:
    """Return whether labelled images have a split to measure on; arguments and errors are those of `list_labelled`."""
    splits = list_stored(path)
    if splits is None and discovery.is_manifest(path):
        splits = read_splits(path)
    found = recognise_layout(path, known) if splits is None else splits
    return bool(found.validation or found.test)


def list_data(
    path: Path, optional: bool = False, multilabel: bool = False, stamps: bool = True
) -> tuple[Listing, Listing | None]:
    """Return the training images and, if the data is split, the validation images; test stands in if there is no other.

    Arguments and errors are those of `list_splits`.
    """
    return list_splits(path, optional, multilabel, stamps).let_test_stand_in()


def list_labelled(path: Path, known: Collection[str] = (), split: str | None = None) -> Listing:
    """Return one set to measure on.

    Args:
        path: a folder of class folders, a manifest, or packed files.
        known: the names of a model's classes: a folder with such a name is a class, whatever it holds.
        split: train, validation or test, where the data has splits of its own; None: its validation or, failing that, its
            test split, or everything.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    splits = list_stored(path)
    if splits is None:
        return discovery.list_labelled(path, known, split)
    listing = splits.pick(split)
    if listing is None or (split == "train" and splits.validation is splits.test is None):
        raise DataError(explain_no_split(path, split, [name for name in NAMES if getattr(splits, name)]))
    return listing
