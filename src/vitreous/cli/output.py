"""Where results go, checked before any long work."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from vitreous.errors import ConfigError
from vitreous.storage.atomic import atomic_file, check_name, claim_file, claim_folder, translate_write_errors
from vitreous.storage.lock import has_never_begun
from vitreous.storage.presence import follow_links, is_descriptor, is_file, is_folder, path_exists

EVALUATIONS = Path("evaluations")
TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""How results are written; file names that aren't UTF-8 are written as their bytes."""
OPEN_HERE = "/proc/self/fd"
"""The folder that lists the files that this process has open."""


def result_file(named: str, overwrite: bool, option: str = "--out") -> Path:
    """Return the file for results, new or empty; it may be a device, a pipe, or a link to any of these.

    Args:
        named: as typed.
        overwrite: accept a file with contents, which the results replace once they are complete.
        option: the option that names it, for messages.

    Raises:
        ConfigError: the file has contents, is a folder, its folder is missing, or no file can have that name.
        StorageError: no file can be made there.
    """
    path = Path(named)
    check_name(path)
    if is_folder(path):
        raise ConfigError(f"{path} is a folder; {option} must name a file")
    if not is_replaceable(path):
        return path
    folder = follow_links(path).parent
    if not path_exists(folder):
        raise ConfigError(
            f"can't write {path}: there is no folder {folder}; make it, or name another file with {option}"
        )
    if not overwrite and is_file(path) and path.stat().st_size:
        raise ConfigError(f"{path} already exists; name another file with {option}, or add --overwrite to replace it")
    check_writable(path, folder)
    return path


def choose_stream(named: str | None) -> IO[str]:
    """Return the stream for messages: standard output, unless that is the file that holds the results."""
    with suppress(OSError, ValueError):
        if named is not None and os.path.samestat(os.fstat(sys.stdout.fileno()), Path(named).stat()):
            return sys.stderr
    return sys.stdout


def free_file(stem: str, extension: str) -> Path:
    """Make <stem><extension> here or, if it exists, the next free <stem>-<n><extension>, and return it."""
    return claim_file(Path(), stem, extension)


def free_or_named(named: str | None, stem: str, parent: Path = EVALUATIONS) -> Path:
    """Return the named folder, new or empty; without a name the next free <parent>/<stem>-<n>.

    Raises:
        ConfigError: the named folder has contents or is a file. StorageError: it can't be made.
    """
    return claim_folder(parent, stem) if named is None else result_folder(named)


def result_folder(named: str) -> Path:
    """Return the folder for results, new or empty.

    Raises:
        ConfigError: the folder has contents, is a file, or no folder can have that name. StorageError: no folder can be
            made there.
    """
    path = Path(named)
    check_name(path)
    if path_exists(path) and not path.is_dir():
        raise ConfigError(f"{path} is a file; --out must name a new or empty folder")
    if path_exists(path) and not has_never_begun(path):
        raise ConfigError(f"{path} is not empty; choose another folder with --out")
    check_writable(path, next(place for place in path.absolute().parents if path_exists(place)))
    return path


def check_writable(path: Path, folder: Path) -> None:
    """Raise StorageError unless files can be made in the folder in which a result is going to appear."""
    with translate_write_errors(path), TemporaryFile(dir=folder):
        pass


def is_replaceable(path: Path) -> bool:
    """Return whether a complete file can be moved to where a path leads; a device, a pipe or a file that a process has
    open is written directly."""
    if is_descriptor(follow_links(path)):
        return False
    return not path_exists(path) or path.is_file() or path.is_dir()


def open_directly(place: Path, **how: Any) -> IO[Any]:
    """Open a path that isn't replaceable. A file that this process has open is written from its current position, not
    emptied."""
    if os.path.realpath(place.parent) == os.path.realpath(OPEN_HERE):
        return os.fdopen(os.dup(int(place.name)), **how)
    return place.open(**how)


@contextmanager
def output(path: str | None, binary: bool = False, whole: Callable[[int], None] | None = None) -> Iterator[Any]:
    """Open the file for results, at the end of any links. It appears complete or not at all, unless it is written
    directly.

    Args:
        path: None: standard output.
        binary: bytes are written, not text.
        whole: called with the handle of the complete file, right before it gets its name.
    """
    if path is None:
        yield sys.stdout
        return
    place, how = follow_links(Path(path)), {"mode": "wb"} if binary else {"mode": "w", **TEXT}
    with translate_write_errors(place):
        if not is_replaceable(place):
            with open_directly(place, **how) as stream:
                yield stream
        else:
            with atomic_file(place) as file:
                with open(file.fileno(), closefd=False, **how) as stream:
                    yield stream
                if whole is not None:
                    whole(file.fileno())


def write_file(path: str, text: str) -> None:
    """Write a small text file."""
    with output(path) as stream:
        stream.write(text)
