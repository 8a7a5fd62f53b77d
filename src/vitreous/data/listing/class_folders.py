"""Class folders: an image at any depth belongs to the class folder at the top."""

import os
import unicodedata
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path

from vitreous.characters import CONTROLS, holds
from vitreous.data.listing.ignored_files import describe_ignored, is_junk, name_kind
from vitreous.data.listing.known_folders import KnownFolders, sort_names
from vitreous.data.listing.listing import UNASKED, Listing, Row, format_names, get_split, read_stamp, sort_key
from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES

UNLABELLED = "unlabelled"
"""The class of images that have none."""


def list_classes(root: Path, optional: bool = False, stamps: bool = True) -> Listing:
    """List a folder of class folders, sorted by their names' bytes; with optional labels, also a folder of images
    alone. Without `stamps` files are not asked for their length and time of change.

    Hidden files, system files, and files that are not images are counted by extension. A link to a folder is followed
    once, and never back into the data, so links can neither loop nor list an image twice. Class names are compared in
    Unicode's composed form (NFC).

    Raises:
        DataError: the folder can't be read, no class folder contains an image, or without optional labels the name of one that does has control characters.
    """
    walk = Walk(root, stamps)
    rows: list[Row] = []
    found: dict[str, list[Row]] = {}
    folders, loose = walk.read_folder("", UNLABELLED)
    for folder in folders:
        label = unicodedata.normalize("NFC", folder)
        below = walk.list_images(folder, label)
        if below and not optional and holds(label, CONTROLS):
            raise DataError(
                f"{root}: the class folder {folder[:40]!r} has a line break or another control character in its name; rename it"
            )
        found.setdefault(label, []).extend(below)
        rows += below
    walk.folders.save()
    if not rows and not (loose and optional):
        raise DataError(_explain_nothing(root, len(loose), bool(found), walk.ignored))
    notes = _describe(0 if not rows else len(loose), found, walk)
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


class Walk:
    """A walk through the class folders, and its findings.

    Args:
        root: the folder of the class folders.
        stamps: ask each file for its length and time of change.
    """

    def __init__(self, root: Path, stamps: bool) -> None:
        self.path, self.stamps = str(root), stamps
        self.root = os.path.realpath(root)
        self.folders = KnownFolders(self.path)
        self.ignored: Counter[str] = Counter()
        """Files that are not images, by extension; hidden and system files and folders under SYSTEM."""
        self.skipped: list[str] = []
        """Folders that links lead to, not listed since they are anyway."""
        self.above: list[str] = []
        """Links to folders that hold the root, not followed."""
        self.followed: set[str] = set()
        """True paths of the folders that links led to."""
        self.inner: set[str] = set()
        """Those of them that lie in one that was followed later."""

    def list_images(self, folder: str, label: str) -> list[Row]:
        """List the images below a class folder, sorted by their names' bytes."""
        found: list[list[Row]] = []
        todo = [folder]
        while todo:
            current = todo.pop()
            linked = os.path.islink(f"{self.path}/{current}")  # noqa: PTH114 (called for every folder)
            if not self.follow(current) if linked else self.is_repeated(current):
                continue
            below, images = self.read_folder(current, label)
            todo += (f"{current}/{name}" for name in below)
            found.append(images)
        return found[0] if len(found) == 1 else sorted(chain(*found), key=lambda row: sort_key(row.name))

    def read_folder(self, folder: str, label: str) -> tuple[list[str], list[Row]]:
        """Return the folders and the images in a folder, and count everything else. `folder`: its path below the root."""
        path, prefix = (f"{self.path}/{folder}", f"{folder}/") if folder else (self.path, "")
        entries = self.folders.list_entries(path)
        linked = {name for name in entries.links if os.path.isdir(f"{path}/{name}")}  # noqa: PTH112
        below = sort_names(name for name in (*entries.folders, *linked) if not is_junk(name))
        files = sort_names({*entries.files, *entries.links} - linked) if entries.links else entries.files
        images = [name for name in files if is_image(name) and not is_junk(name)]
        if len(below) + len(images) < sum(map(len, entries)):
            ignored = sort_names({name for names in entries for name in names}.difference(below, images))
            self.ignored.update(map(name_kind, ignored))
        if self.stamps or entries.links:  # what a link leads to may be missing
            return below, [Row(f"{prefix}{name}", label, *read_stamp(f"{path}/{name}")) for name in images]
        return below, [Row(f"{prefix}{name}", label, UNASKED, UNASKED) for name in images]

    def follow(self, link: str) -> bool:
        """Return whether a folder is to be walked through: one that a link leads to is unless it is listed anyway, or holds the data.

        Args:
            link: the folder's path below the root.
        """
        target = os.path.realpath(f"{self.path}/{link}")
        if self.root != target and _is_below(self.root, target):
            self.above.append(link)
            return False
        if any(target == place or _is_listed(target, place) for place in (self.root, *self.followed)):
            self.skipped.append(link)
            return False
        self.inner.update(place for place in self.followed if _is_below(place, target))
        self.followed.add(target)
        return True

    def is_repeated(self, folder: str) -> bool:
        """Return whether a link led to this folder before another one led to a folder above it."""
        if not self.inner or os.path.realpath(f"{self.path}/{folder}") not in self.inner:
            return False
        self.skipped.append(folder)
        return True


def _is_below(folder: str, other: str) -> bool:
    return folder.startswith(other.rstrip(os.sep) + os.sep)


def _is_listed(folder: str, other: str) -> bool:
    """Return whether a folder is found by a walk through another one: it lies in it, and in no hidden folder there."""
    return _is_below(folder, other) and not any(map(is_junk, Path(folder).relative_to(other).parts))


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


def _describe(loose: int, found: dict[str, list[Row]], walk: Walk) -> tuple[str, ...]:
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
    if walk.skipped:
        notes.append(f"links to folders that are already listed, not followed: {format_names(walk.skipped)}")
    if walk.above:
        notes.append(f"links to folders that hold the data itself, left out: {format_names(walk.above)}")
    return tuple(notes)
