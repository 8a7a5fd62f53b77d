"""Find files and their labels before any image is opened, by the layout of a data set."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vitreous.data.listing.class_folders import list_classes
from vitreous.data.listing.layout import format_name, recognise_layout
from vitreous.data.listing.listing import Listing, Splits
from vitreous.data.listing.manifest import MANIFESTS, is_multilabel, read_splits
from vitreous.errors import DataError
from vitreous.storage.presence import explain_absence, explain_url, find_similar, is_link, path_exists

__all__ = ["MANIFESTS", "Listing", "explain_missing", "list_data", "list_labelled", "list_splits"]


NAMES = ("train", "validation", "test")
"""Splits, by the names that commands use."""
INSTEAD = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"), "unpack it, and name the folder"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the table as CSV, in UTF-8"),
    ".json": 'write an object for each image, one per line, to a .jsonl file: {"path": "a.jpg", "label": "cat"}',
    ".txt": "name it .csv, with a first line that names the columns: path,label",
}
"""What to do with files that hold data in another form, by extension."""


def list_splits(path: Path, optional: bool = False, multilabel: bool = False, stamps: bool = True) -> Splits:
    """Return the files of a data set's own splits, or all of them as `train`.

    A test folder without class folders, as competitions have it, can't be measured: it is left out, with a note.

    Args:
        path: a folder of class folders, or a manifest.
        optional: labels may be missing: images outside any class folder are accepted if there is no class folder.
        multilabel: a manifest may give several labels per image.
        stamps: ask the files of a folder for their length and time of change.

    Raises:
        DataError: nothing there, or nothing that can be trained on.
    """
    if is_manifest(path):
        splits = read_splits(path, multilabel=multilabel and is_multilabel(path))
        if not splits.train:
            raise DataError(f"{path} lists no images for training: its split column has only validation rows")
        return splits
    found = recognise_layout(path, splits_only=optional)
    if found.whole:
        listing = list_classes(found.whole, optional, stamps)
        return Splits(replace(listing, notes=found.notes + listing.notes))
    if found.train is None:
        raise DataError(
            f"{path} has {format_name(found.validation or found.test)} but no train/; add it, or name the folder to train on"
        )
    train, notes = list_classes(found.train, optional, stamps), found.notes
    validation, test = list_classes(found.validation, optional, stamps) if found.validation else None, None
    try:
        test = list_classes(found.test, optional, stamps) if found.test else None
    except DataError as error:
        notes = (*notes, f"the test split can't be measured, and is left out: {error}")
    return Splits(replace(train, notes=notes + train.notes), validation, test)


def list_data(path: Path, optional: bool = False, multilabel: bool = False) -> tuple[Listing, Listing | None]:
    """Return the training files and, if the data is split, the validation files; test stands in if there is no other.

    Arguments and errors are those of `list_splits`.
    """
    return list_splits(path, optional, multilabel).let_test_stand_in()


def list_labelled(
    path: Path, known: Collection[str] = (), split: str | None = None, multilabel: bool = False
) -> Listing:
    """Return one set to measure on.

    Args:
        path: a folder of class folders, or a manifest.
        known: the names of a model's classes: a folder with such a name is a class, whatever it holds.
        split: train, validation or test, where the data has splits of its own; None: its validation or, failing that,
            its test
            split, or everything.
        multilabel: the manifest gives several labels per image.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if is_manifest(path):
        splits = read_splits(path, multilabel)
        listing = splits.pick(split)
        if not listing:
            raise DataError(explain_no_split(path, split, [name for name in NAMES if getattr(splits, name)]))
        return listing
    found = recognise_layout(path, known)
    place = found.whole or found.validation or found.test or found.train or path
    if split is not None:
        place = getattr(found, split)
        if place is None:
            raise DataError(explain_no_split(path, split, [name for name in NAMES if getattr(found, name)]))
    listing = list_classes(place)
    return replace(listing, notes=found.notes + listing.notes)


def explain_no_split(path: Path, split: str | None, there: list[str]) -> str:
    """Explain that data has no such split, and which splits it has."""
    known = f"it has {' and '.join(there)}" if there else "it has no splits of its own"
    return f"{path} has no {split} split: {known}"


def is_manifest(path: Path) -> bool:
    """Return True for a manifest and False for a folder; raises DataError if the path is neither."""
    if not str(path) or not path_exists(path):
        raise DataError(explain_missing(path))
    if path.is_dir():
        return False
    if path.suffix.lower() not in MANIFESTS:
        advice = INSTEAD.get(path.suffix.lower(), "give a folder of class folders or a manifest")
        raise DataError(f"{path} is a file, but not a manifest ({', '.join(MANIFESTS)}); {advice}")
    return True


def explain_missing(path: Path) -> str:
    """Explain that a path doesn't exist, and suggest one nearby."""
    if not path.name:
        return (
            f"{path} is not a data set; give a folder of class folders, a CSV or JSONL file, digits, or "
            "formula:fractals"
        )
    if is_link(path):
        return explain_absence(path)
    if reason := explain_url(path):
        return reason
    near = find_similar(path)
    hint = "give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
    if near is not None:
        hint = f"did you mean {near}?"
    elif not path_exists(path.parent):
        hint = f"the folder {path.parent} does not exist either"
    return f"no such file or folder: {path}; {hint}"
