"""Which files with which labels, before any image is opened: the layout of a data set is recognised here."""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.data.folders import has_folders, list_classes, subfolders
from vitreous.data.manifest import MANIFESTS, has_label_sets, read_manifest
from vitreous.data.rows import TRAIN, VALIDATION, Listing
from vitreous.errors import DataError, absent, is_folder, is_link, is_there, url

__all__ = ["MANIFESTS", "Layout", "Listing", "layout", "list_data", "list_labelled", "missing"]


@dataclass(frozen=True)
class Layout:
    """The parts of a folder that has a split of its own, or the folder itself."""

    train: Path | None = None
    validation: Path | None = None
    whole: Path | None = None
    """The folder itself, where there is no split."""
    notes: tuple[str, ...] = ()


def list_data(path: Path, optional: bool = False, several: bool = False) -> tuple[Listing, Listing | None]:
    """Return the training files and, where the data has its own split, the validation files.

    Args:
        path: a folder of class folders, or a manifest.
        optional: labels may be missing: images that are in no class folder are taken where there is no other.
        several: a manifest may give several labels an image.

    Raises:
        DataError: nothing there, or nothing that can be trained on.
    """
    if is_manifest(path):
        train, validation = read_manifest(path, several=several and has_label_sets(path))
        if not train:
            raise DataError(f"{path} lists no images for training: its split column has validation rows only")
        return train, validation if len(validation) else None
    found = layout(path)
    if found.whole:
        return list_classes(found.whole, optional), None
    if found.train is None:
        raise DataError(f"{path} has {_folder(found.validation)} but no train/; add it, or name the folder to train on")
    train = list_classes(found.train, optional)
    train = replace(train, notes=found.notes + train.notes)
    return train, list_classes(found.validation, optional) if found.validation else None


def list_labelled(path: Path) -> Listing:
    """Return one set to measure on: the validation part where the data has its own split, or else everything.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if is_manifest(path):
        train, validation = read_manifest(path)
        return validation or train
    found = layout(path)
    return list_classes(found.whole or found.validation or found.train or path)


def is_manifest(path: Path) -> bool:
    """Tell a manifest (True) from a folder (False); raises DataError if the path is neither."""
    if not str(path) or not is_there(path):
        raise DataError(missing(path))
    if path.is_dir():
        return False
    if path.suffix.lower() not in MANIFESTS:
        raise DataError(
            f"{path} is a file, but no manifest ({', '.join(MANIFESTS)}); give a folder of class folders or a manifest"
        )
    return True


def layout(root: Path) -> Layout:
    """Recognise `train/` and `val/` folders.

    A folder called train is a split, not a class, if it holds folders itself. `valid/`, `validation/` or, failing
    those, `test/` stand in for `val/`; the notes say so, and name the folders that are left out.
    """
    folders = {folder.name.lower(): folder for folder in reversed(subfolders(root))}
    train = next((folders[name] for name in TRAIN if name in folders), None)
    held = next((folders[name] for name in VALIDATION if name in folders), None)
    others = [folder for name, folder in sorted(folders.items()) if name not in TRAIN + VALIDATION]
    if train is None or not has_folders(train):
        splits_only = bool(folders) and not others
        if splits_only and (train or (held and has_folders(held))):
            return Layout(train, held)
        return Layout(whole=root)
    if held is None and others:
        raise DataError(
            f"{root} has train/ beside {_folder(others[0])} and no val/, so it isn't clear whether train is a split or a "
            f"class; name {train} to train on it alone, or rename the folder"
        )
    notes: list[str] = []
    if held is not None and held.name.lower() != "val":
        notes.append(f"{_folder(held)} is the validation: there is no val/")
    unused = [_folder(folder) for folder in folders.values() if folder not in (train, held)]
    if unused:
        notes.append(f"left out, as they are neither train/ nor the validation: {', '.join(sorted(unused))}")
    return Layout(train, held, notes=tuple(notes))


def missing(path: Path) -> str:
    """Say that a path isn't there, and what near it is."""
    if not path.name:
        return f"{path} is no place for data; give a folder of class folders, a CSV or JSONL file, digits, or formula:fractals"
    if is_link(path):
        return absent(path)
    if told := url(path):
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
    elif not is_there(path.parent):
        hint = f"the folder {path.parent} does not exist either"
    return f"no such file or folder: {path}; {hint}"


def _folder(path: Path | None) -> str:
    return "" if path is None else f"{path.name}/"
