"""Which files with which labels, before any image is opened: the layout of a data set is recognised here."""

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vitreous.data.listing.class_folders import list_classes
from vitreous.data.listing.layout import format_name, recognise_layout
from vitreous.data.listing.listing import Listing
from vitreous.data.listing.manifest import MANIFESTS, is_multilabel, read_manifest
from vitreous.errors import DataError
from vitreous.storage.presence import explain_absence, explain_url, is_folder, is_link, path_exists

__all__ = ["MANIFESTS", "Listing", "explain_missing", "list_data", "list_labelled"]


INSTEAD = {
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"), "unpack it, and name the folder"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the table as CSV, in UTF-8"),
    ".json": 'write an object for each image, one a line, to a .jsonl file: {"path": "a.jpg", "label": "cat"}',
    ".txt": "name it .csv, with a first line that names the columns: path,label",
    ".parquet": "write its rows as CSV with the columns path and label, and its images as files",
}
"""What to do with files that hold data in another form, by their extensions."""


def list_data(path: Path, optional: bool = False, multilabel: bool = False) -> tuple[Listing, Listing | None]:
    """Return the training files and, where the data has its own split, the validation files.

    Args:
        path: a folder of class folders, or a manifest.
        optional: labels may be missing: images that are in no class folder are taken where there is no other.
        multilabel: a manifest may give several labels an image.

    Raises:
        DataError: nothing there, or nothing that can be trained on.
    """
    if is_manifest(path):
        train, validation = read_manifest(path, multilabel=multilabel and is_multilabel(path))
        if not train:
            raise DataError(f"{path} lists no images for training: its split column has validation rows only")
        return train, validation if len(validation) else None
    found = recognise_layout(path, splits_only=optional)
    if found.whole:
        listing = list_classes(found.whole, optional)
        return replace(listing, notes=found.notes + listing.notes), None
    if found.train is None:
        raise DataError(
            f"{path} has {format_name(found.validation)} but no train/; add it, or name the folder to train on"
        )
    train = list_classes(found.train, optional)
    train = replace(train, notes=found.notes + train.notes)
    return train, list_classes(found.validation, optional) if found.validation else None


def list_labelled(path: Path, known: Collection[str] = ()) -> Listing:
    """Return one set to measure on: the validation split where the data has its own split, or else everything.

    Args:
        path: a folder of class folders, or a manifest.
        known: the names of a model's classes: a folder called so is a class, whatever it holds.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if is_manifest(path):
        train, validation = read_manifest(path)
        return validation or train
    found = recognise_layout(path, known)
    listing = list_classes(found.whole or found.validation or found.train or path)
    return replace(listing, notes=found.notes + listing.notes)


def is_manifest(path: Path) -> bool:
    """Tell a manifest (True) from a folder (False); raises DataError if the path is neither."""
    if not str(path) or not path_exists(path):
        raise DataError(explain_missing(path))
    if path.is_dir():
        return False
    if path.suffix.lower() not in MANIFESTS:
        advice = INSTEAD.get(path.suffix.lower(), "give a folder of class folders or a manifest")
        raise DataError(f"{path} is a file, but no manifest ({', '.join(MANIFESTS)}); {advice}")
    return True


def explain_missing(path: Path) -> str:
    """Say that a path isn't there, and what near it is."""
    if not path.name:
        return f"{path} is no place for data; give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
    if is_link(path):
        return explain_absence(path)
    if told := explain_url(path):
        return told
    siblings: list[str] = []
    if is_folder(path.parent):
        siblings = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, siblings, n=1)
    if not near:
        lower = {name.lower(): name for name in siblings}
        near = [lower[name] for name in difflib.get_close_matches(path.name.lower(), lower, n=1)]
    hint = "give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
    if near:
        hint = f"did you mean {path.parent / near[0]}?"
    elif not path_exists(path.parent):
        hint = f"the folder {path.parent} does not exist either"
    return f"no such file or folder: {path}; {hint}"
