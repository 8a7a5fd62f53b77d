"""A folder's layout: class folders, or splits with class folders inside, perhaps within further folders."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.data.listing.class_folders import has_folders, has_images_directly, holds_images, list_subfolders
from vitreous.data.listing.listing import TEST, TRAIN, VALIDATION, format_names, get_split
from vitreous.errors import DataError


@dataclass(frozen=True)
class Layout:
    """The parts of a folder that has splits of its own, or the folder itself."""

    train: Path | None = None
    validation: Path | None = None
    test: Path | None = None
    whole: Path | None = None
    """The folder of the class folders, if there is no split."""
    notes: tuple[str, ...] = ()


def recognise_layout(root: Path, known: Collection[str] = (), splits_only: bool = False) -> Layout:
    """Recognise `train/`, `val/` and `test/` folders, and look through folders around them or around the class folders.

    A folder called train is a split, not a class, if it contains folders itself. `valid/` or `validation/` stand in for
    `val/`; the notes say so, and name the folders that are left out. A folder is looked through if it is the only one
    with images, and contains no images directly but either splits or at least two folders that do: as a single class it
    could not be learned.

    Args:
        root: the folder that was named.
        known: names of classes; a folder with such a name is a class, whatever it holds.
        splits_only: look through folders around splits alone.

    Raises:
        DataError: two folders may be the same split, or it is unclear whether train is a split or a class.
    """
    found, place, notes = recognise_splits(root), root, ()
    seen = {root.resolve()}
    while found.whole is not None:
        inner = find_wrapped(place)
        if inner is None or inner.name in known or inner.resolve() in seen:
            break
        seen.add(inner.resolve())
        below = recognise_splits(inner)
        place = inner
        if below.whole is None or not (splits_only or is_single(inner)):
            others = [folder.name for folder in list_subfolders(inner.parent) if folder != inner]
            beside = f"; without images, left out: {format_names(others)}" if others else ""
            notes = (*notes, f"looked through {inner.relative_to(root)}/, the only folder with images{beside}")
            found = below
    return replace(found, notes=(*notes, *found.notes))


def find_wrapped(root: Path) -> Path | None:
    """Return a folder's only subfolder with images, if no other image is at the top."""
    if has_images_directly(root):
        return None
    found = None
    for folder in list_subfolders(root):
        if holds_images(folder):
            if found is not None:
                return None
            found = folder
    return found if found is not None and not has_images_directly(found) else None


def is_single(root: Path) -> bool:
    """Return whether all images below a folder are in a single one of its subfolders."""
    return sum(holds_images(folder) for folder in list_subfolders(root)) < 2


def recognise_splits(root: Path) -> Layout:
    """Recognise the splits in a folder itself; raises DataError."""
    parts: dict[str, list[Path]] = {}
    others: list[Path] = []
    for folder in list_subfolders(root):
        part = get_split(folder.name)
        (others if part is None else parts.setdefault(part, [])).append(folder)
    train = find_split_folder(root, parts, TRAIN)
    held, test = (find_split_folder(root, parts, names) for names in (VALIDATION, TEST))
    apart = held or test
    if train is None or not has_folders(train):
        if parts and not others and (train or (apart and has_folders(apart))):
            return Layout(train, held, test)
        return Layout(whole=root)
    unclear = [folder for folder in others if holds_images(folder)] if apart is None else []
    if unclear:
        raise DataError(
            f"{root} has train/ beside {format_name(unclear[0])} and no val/, so it isn't clear whether train is a split or a "
            f"class; name {train} to train on it alone, or rename the folder"
        )
    notes: list[str] = []
    if held is not None and held.name.lower() != "val":
        notes.append(f"{format_name(held)} is the validation: there is no val/")
    unused = [format_name(folder) for folder in list_subfolders(root) if folder not in (train, held, test)]
    if unused:
        others = "nor the validation" if test is None else "nor the validation nor the test"
        notes.append(f"left out, as they are neither train/ {others}: {', '.join(unused)}")
    return Layout(train, held, test, notes=tuple(notes))


def find_split_folder(root: Path, parts: dict[str, list[Path]], names: tuple[str, ...]) -> Path | None:
    """Return the folder of the first of these parts that exists, preferably under its exact name; raises DataError
    for two."""
    name = next((name for name in names if name in parts), "")
    folders = parts.get(name, [])
    folders = [folder for folder in folders if folder.name.lower() == name] or folders
    if len(folders) > 1:
        raise DataError(
            f"{root} has {' and '.join(map(format_name, folders))}, which may be the same split; rename or move all but one"
        )
    return folders[0] if folders else None


def format_name(path: Path | None) -> str:
    """Return a folder's name as messages show it."""
    return "" if path is None else f"{path.name}/"
