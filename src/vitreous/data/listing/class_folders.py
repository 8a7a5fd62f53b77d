"""Class folders: an image at any depth belongs to the class folder at the top."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitreous.data.listing.ignored_files import SYSTEM, describe_ignored, is_junk, name_kind
from vitreous.data.listing.listing import Listing, Row, format_names, get_split, read_stamp, sort_key
from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES

UNLABELLED = "unlabelled"
"""The class of images that have none."""


def list_classes(root: Path, optional: bool = False) -> Listing:
    """List a folder of class folders, sorted by their names' bytes; with optional labels, also a folder of images
    alone.

    Hidden files, system files, and files that are not images are counted by extension. A link to a folder is followed
    once, and never back into the data, so links can neither loop nor list an image twice. Class names are compared in
    Unicode's composed form (NFC).

    Raises:
        DataError: the folder can't be read, or no class folder contains an image.
    """
    walk = Walk(os.path.realpath(root))
    rows: list[Row] = []
    loose: list[Row] = []
    found: dict[str, list[Row]] = {}
    for entry in _list_entries(str(root)):
        if is_junk(entry.name):
            walk.ignored[SYSTEM] += 1
        elif _is_folder(entry):
            label = unicodedata.normalize("NFC", entry.name)
            below = sorted(walk.images(entry, label), key=lambda row: sort_key(row.name))
            found.setdefault(label, []).extend(below)
            rows += below
        elif is_image(entry.name):
            loose.append(Row(entry.name, UNLABELLED, *read_stamp(entry)))
        else:
            walk.ignored[name_kind(entry.name)] += 1
    if not rows and not (loose and optional):
        raise DataError(_explain_nothing(root, len(loose), bool(found), walk.ignored))
    notes = _describe(0 if not rows else len(loose), found, walk.skipped)
    return Listing(root, tuple(rows or loose), dict(walk.ignored), notes)


def list_subfolders(root: Path) -> list[Path]:
    """Return a folder's subfolders, without hidden and system ones, sorted by the bytes of their names."""
    return [Path(entry.path) for entry in _list_entries(str(root)) if not is_junk(entry.name) and _is_folder(entry)]


def has_folders(root: Path) -> bool:
    """Return whether a folder contains folders."""
    return bool(list_subfolders(root))


def has_images_directly(folder: Path) -> bool:
    """Return whether a folder itself contains images."""
    return any(
        is_image(entry.name) and not is_junk(entry.name) and not _is_folder(entry)
        for entry in _list_entries(str(folder))
    )


def holds_images(folder: Path) -> bool:
    """Return whether there is an image in a folder or anywhere below it; links to folders are not followed."""
    todo = [str(folder)]
    while todo:
        entries = [entry for entry in _list_entries(todo.pop()) if not is_junk(entry.name)]
        if any(is_image(entry.name) and not _is_folder(entry) for entry in entries):
            return True
        todo += [entry.path for entry in entries if _is_folder(entry) and not entry.is_symlink()]
    return False


def is_image(name: str) -> bool:
    """Return whether a file counts as an image, by its extension."""
    dot = name.rfind(".")  # much faster than splitext, and called for every file
    return dot > 0 and name[dot:].lower() in SUFFIXES


@dataclass
class Walk:
    """The findings of a walk through the class folders."""

    root: str
    """The folder's true path."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are not images, by extension; hidden and system files and folders under SYSTEM."""
    skipped: list[str] = field(default_factory=list)
    """Links to folders that were not followed."""
    followed: set[str] = field(default_factory=set)
    """True paths of the folders that links led to."""

    def images(self, folder: os.DirEntry[str], label: str) -> Iterator[Row]:
        """Yield the images below a class folder, in no particular order."""
        todo = [(folder, f"{folder.name}/")]
        while todo:
            current, prefix = todo.pop()
            if current.is_symlink() and not self.follow(current):
                self.skipped.append(prefix.rstrip("/"))
                continue
            for entry in _list_entries(current.path):
                if is_junk(entry.name):
                    self.ignored[SYSTEM] += 1
                elif _is_folder(entry):
                    todo.append((entry, f"{prefix}{entry.name}/"))
                elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                    yield Row(f"{prefix}{entry.name}", label, *read_stamp(entry))
                else:
                    self.ignored[name_kind(entry.name)] += 1

    def follow(self, link: os.DirEntry[str]) -> bool:
        """Return whether a link leads to something that isn't listed anyway, and remember that it was followed."""
        target = os.path.realpath(link.path)
        known = {self.root, *self.followed}
        if any(place == target or place.startswith(target.rstrip(os.sep) + os.sep) for place in known):
            return False
        if any(target.startswith(place.rstrip(os.sep) + os.sep) for place in known):
            return False
        self.followed.add(target)
        return True


def _list_entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: sort_key(entry.name))
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror or error}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or leads to one; False for a link that can't be followed."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _explain_nothing(root: Path, loose: int, folders: bool, ignored: Counter[str]) -> str:
    """Explain why a folder has no examples."""
    if loose:
        return f"{root} holds {loose:,} images but no class folders; put each class's images into a folder of its own"
    if not (folders or ignored):
        return f"{root} is empty; it should hold one folder of images for each class"
    others = f" (there are {describe_ignored(ignored)})" if ignored else ""
    return f"{root} holds no images in class folders{others}; known extensions: {' '.join(sorted(SUFFIXES))}"


def _describe(loose: int, found: dict[str, list[Row]], skipped: Sequence[str]) -> tuple[str, ...]:
    """Describe how the class folders were read. `found`: each class's files; `loose`: images outside the class
    folders."""
    empty = [label for label, rows in found.items() if not rows]
    deep = [label for label, rows in found.items() if rows and all(row.name.count("/") > 1 for row in rows)]
    mixed = [
        label for label, rows in found.items() if label not in deep and any(row.name.count("/") > 1 for row in rows)
    ]
    alike: dict[str, list[str]] = defaultdict(list)
    for label in found:
        alike[label.casefold().strip()].append(label)
    twins = [" and ".join(map(repr, labels)) for labels in alike.values() if len(labels) > 1]
    notes = []
    if loose:
        notes.append(f"{loose:,} images beside the class folders have no class and were left out")
    if empty:
        notes.append(f"class folders without images, left out: {format_names(empty)}")
    if deep:
        notes.append(f"images only in deeper folders, taken as one class each: {format_names(deep)}")
    below = {row.name.split("/")[1] for label in deep for row in found[label]}
    if deep and len(deep) == len(found) - len(empty) and all(map(get_split, below)):
        notes.append(
            f"{format_names(sorted(below))} inside the class folders are not splits: put the class folders inside "
            "them instead"
        )
    if mixed:
        notes.append(f"folders inside these class folders belong to the class: {format_names(mixed)}")
    if twins:
        notes.append(f"classes that differ only in capitals or spaces, taken as different: {format_names(twins)}")
    if skipped:
        notes.append(f"links to folders that are already listed, not followed: {format_names(list(skipped))}")
    return tuple(notes)
