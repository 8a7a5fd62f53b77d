"""Read below one folder, and never leave it: names are taken one by one, links are not followed, nothing is written."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vitreous.errors import ConfigError
from vitreous.storage.presence import explain_absence, is_folder
from vitreous.storage.run_config import CONFIG

DEPTH = 6
"""Levels of folders below the first in which runs are looked for."""
EDGE = 256
"""Bytes of a config.json that tell whose it is."""
MOST_FILE = 256 << 20
"""Bytes of the largest file that is read whole."""


class Folder:
    """A folder whose contents are read.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, path: str | Path) -> None:
        if not is_folder(path):
            given = Path(path)
            said = f"{given} is a file" if given.exists() else explain_absence(given)
            raise ConfigError(f"{said}; name a folder of runs, such as the runs/ that `vitreous train` writes into")
        self.path = Path(path).resolve()

    def open(self, name: str) -> int:
        """Return a descriptor of a file, to be closed by the caller.

        Args:
            name: the file's path below the folder, with slashes.

        Raises:
            OSError: nothing is there, it is no file, or a link is on the way.
        """
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise FileNotFoundError(name)
        place = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for index, part in enumerate(parts):
            kind = os.O_NONBLOCK if index == len(parts) - 1 else os.O_DIRECTORY
            try:
                below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=place)
            finally:
                os.close(place)
            place = below
        if not stat.S_ISREG(os.fstat(place).st_mode):
            os.close(place)
            raise FileNotFoundError(name)
        return place

    def read(self, name: str, most: int = MOST_FILE) -> bytes:
        """Return a file's contents; raises OSError, also for a file of more than `most` bytes."""
        with os.fdopen(self.open(name), "rb") as file:
            found = file.read(most + 1)
        if len(found) > most:
            raise OSError(f"{name} is too large")
        return found

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        with suppress(OSError):
            os.close(self.open(name))
            return True
        return False

    def find_runs(self) -> list[str]:
        """Return the paths of all folders that may be runs, those with a config.json, below this one; "" is this one itself."""
        return list(self._find("", DEPTH))

    def _is_ours(self, name: str) -> bool:
        """Return whether a config.json begins as those of runs and models do, below which there are no others."""
        with suppress(OSError), os.fdopen(self.open(name), "rb") as file:
            return b'"vitreous_' in file.read(EDGE)
        return False

    def _find(self, name: str, depth: int) -> Iterator[str]:
        below = []
        try:
            with os.scandir(self.path / name) as entries:
                for entry in entries:
                    if entry.name == CONFIG and entry.is_file(follow_symlinks=False):
                        yield name
                        if self._is_ours(f"{name}/{CONFIG}".lstrip("/")):
                            return
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        below.append(f"{name}/{entry.name}".lstrip("/"))
        except OSError:
            return
        if depth:
            for one in sorted(below):
                yield from self._find(one, depth - 1)
