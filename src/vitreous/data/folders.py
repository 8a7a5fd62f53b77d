"""Class folders: an image at any depth belongs to the class folder at the top."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitreous.data.rows import Listing, Row, by_bytes, few, stamp
from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES

UNLABELLED = "unlabelled"
"""The class of images that have none."""


def list_classes(root: Path, optional: bool = False) -> Listing:
    """List a folder of class folders, sorted by the names' bytes; if labels are optional, also one of images alone.

    Hidden files and files that are no images are counted. A link to a folder is followed once, and never back into the
    data, so links can neither loop nor list an image twice. Class names are compared in Unicode's composed form (NFC).

    Raises:
        DataError: it can't be read, or there is no image in a class folder.
    """
    walk = Walk(os.path.realpath(root))
    rows: list[Row] = []
    empty: list[str] = []
    deep: list[str] = []
    loose: list[Row] = []
    folders = []
    for entry in _entries(str(root)):
        if entry.name.startswith("."):
            walk.ignored += 1
        elif _is_folder(entry):
            folders.append(entry)
        elif is_image(entry.name):
            loose.append(Row(entry.name, UNLABELLED, *stamp(entry)))
        else:
            walk.ignored += 1
    for entry in folders:
        label = unicodedata.normalize("NFC", entry.name)
        found = sorted(walk.images(entry, label), key=lambda row: by_bytes(row.name))
        rows += found
        if not found:
            empty.append(label)
        elif all(row.name.count("/") > 1 for row in found):
            deep.append(label)
    if loose and optional and not rows:
        return Listing(root, tuple(loose), walk.ignored, _notes(0, empty, deep, walk.skipped))
    if not rows:
        raise DataError(_nothing(root, len(loose), bool(empty), walk.ignored))
    return Listing(root, tuple(rows), walk.ignored + len(loose), _notes(len(loose), empty, deep, walk.skipped))


def subfolders(root: Path) -> list[Path]:
    """Return the folders directly below one, hidden ones left out, sorted by their names' bytes."""
    return [Path(entry.path) for entry in _entries(str(root)) if _is_folder(entry) and not entry.name.startswith(".")]


def has_folders(root: Path) -> bool:
    """Tell whether a folder holds folders."""
    return bool(subfolders(root))


def is_image(name: str) -> bool:
    """Tell by the ending whether a file is taken for an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (called for every file)


@dataclass
class Walk:
    """What was met on the way through the class folders."""

    root: str
    """The folder's true path."""
    ignored: int = 0
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
            for entry in _entries(current.path):
                if entry.name.startswith("."):
                    self.ignored += 1
                elif _is_folder(entry):
                    todo.append((entry, f"{prefix}{entry.name}/"))
                elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                    yield Row(f"{prefix}{entry.name}", label, *stamp(entry))
                else:
                    self.ignored += 1

    def follow(self, link: os.DirEntry[str]) -> bool:
        """Tell whether a link leads somewhere that isn't listed anyway, and remember that it was followed."""
        target = os.path.realpath(link.path)
        known = {self.root, *self.followed}
        if any(place == target or place.startswith(target.rstrip(os.sep) + os.sep) for place in known):
            return False
        if any(target.startswith(place.rstrip(os.sep) + os.sep) for place in known):
            return False
        self.followed.add(target)
        return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: by_bytes(entry.name))
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror or error}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or leads to one; a link that can't be followed is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _nothing(root: Path, loose: int, empty: bool, ignored: int) -> str:
    """Say why a folder has no examples."""
    if loose:
        return f"{root} holds {loose:,} images but no class folders; put each class's images into a folder of its own"
    if not (empty or ignored):
        return f"{root} is empty; it should hold one folder of images for each class"
    return f"{root} holds no images in class folders; known endings: {' '.join(sorted(SUFFIXES))}"


def _notes(loose: int, empty: list[str], deep: list[str], skipped: list[str]) -> tuple[str, ...]:
    notes = []
    if loose:
        notes.append(f"{loose:,} images beside the class folders have no class and were left out")
    if empty:
        notes.append(f"class folders without images, left out: {few(empty)}")
    if deep:
        notes.append(f"images only in folders further below, taken as one class each: {few(deep)}")
    if skipped:
        notes.append(f"links to folders that are listed already, not followed: {few(skipped)}")
    return tuple(notes)
