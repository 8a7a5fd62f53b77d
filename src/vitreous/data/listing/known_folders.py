"""What folders hold, kept from one start to the next: a folder that hasn't changed since is not listed again."""

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from vitreous.data.listing.listing import sort_key
from vitreous.errors import DataError
from vitreous.storage.cache import name_cached, read_cached, write_cached

CACHE_FORMAT = 1
LEAST = 1000
"""Names in all folders from which on it pays to keep them."""
SETTLED = 2_000_000_000
"""Nanoseconds since a folder's last change after which a further change must show in its time: file systems count in steps
of up to two seconds."""

Stamp = list[int]
"""A folder's inode, length, and times of the last change of its contents and of itself."""


class Entries(NamedTuple):
    """The names in a folder, sorted by their bytes."""

    folders: list[str]
    links: list[str]
    files: list[str]
    others: list[str]
    """Pipes, sockets and devices."""


class KnownFolders:
    """Lists the folders below a root, or knows them from an earlier start.

    A file that is added, removed or renamed changes its folder's time, and a folder that takes another one's place has another
    inode. Contents of files and what links lead to are not kept. A damaged cache counts as empty.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.cache = name_cached("listings", json.dumps([CACHE_FORMAT, os.path.realpath(root)]))
        self.known = load(read_cached(self.cache))
        self.now: dict[str, tuple[Stamp, list[str]]] = {}
        """What was found in this start; names joined by slashes, which none of them holds."""
        self.names, self.fresh = 0, False

    def list_entries(self, folder: str) -> Entries:
        """Return what a folder holds; raises DataError if it can't be listed."""
        key = folder.removeprefix(self.root)
        try:
            stamp = read_folder_stamp(folder)
            stored, joined = self.known.get(key, ([], []))
            if stored == stamp:
                entries = Entries(*(text.split("/") if text else [] for text in joined))
            else:
                self.fresh = True
                entries = list_folder(folder)
                joined = ["/".join(names) for names in entries]
        except OSError as error:
            raise DataError(f"can't list {folder}: {error.strerror or error}") from error
        self.names += sum(map(len, entries))
        if 0 < max(stamp[2:]) < time.time_ns() - SETTLED:
            self.now[key] = stamp, joined
        return entries

    def save(self) -> None:
        """Keep what was found for the next start."""
        if self.names >= LEAST and (self.fresh or len(self.now) < len(self.known)):
            write_cached(self.cache, json.dumps(self.now).encode())


def load(text: bytes | None) -> dict[str, tuple[Stamp, list[str]]]:
    """Return the cached folders by their path below the root."""
    try:
        found = json.loads(text or b"{}")
        return {
            str(key): ([int(part) for part in stamp], [str(names) for names in joined])
            for key, (stamp, joined) in found.items()
            if len(joined) == len(Entries._fields)
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def read_folder_stamp(folder: str) -> Stamp:
    """Return a folder's stamp; raises OSError."""
    found = os.stat(folder)  # noqa: PTH116 (called for every folder)
    return [found.st_ino, found.st_size, found.st_mtime_ns, max(found.st_ctime_ns, 0)]


def list_folder(folder: str) -> Entries:
    """Return what a folder holds; raises OSError."""
    found = Entries([], [], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            found[choose_kind(entry)].append(entry.name)
    return Entries(*map(sort_names, found))


def choose_kind(entry: os.DirEntry[str]) -> int:
    """Return the place in `Entries` where an entry belongs."""
    if entry.is_file(follow_symlinks=False):
        return 2
    if entry.is_symlink():
        return 1
    return 0 if entry.is_dir(follow_symlinks=False) else 3


def sort_names(names: Iterable[str]) -> list[str]:
    """Sort by the names' bytes. In UTF-8 that is the order of the characters, which is faster, unless a name is not UTF-8."""
    found = list(names)
    try:
        "".join(found).encode()
        return sorted(found, key=None if sys.getfilesystemencoding() == "utf-8" else sort_key)
    except UnicodeEncodeError:
        return sorted(found, key=sort_key)
