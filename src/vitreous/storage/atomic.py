"""Atomic writing: a file or a folder appears complete, on the disk, or not at all.

Everything is written under a temporary name in the target's folder (`.name.<random>.partial`), forced to the disk, and
renamed. The temporary file is locked while its writer lives, so `clear_partials` recognises what a dead process left
behind.

A folder that replaces another needs two renames. In between, the old one is at `.name.previous`: `find_settled` finds
it there for readers, and `recover_folder` puts it back before the next write.
"""

import errno
import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vitreous.errors import CheckpointError, ConfigError, StorageError
from vitreous.storage.presence import explain_url, is_folder, path_exists

PARTIAL = ".partial"
PARTIAL_NAME = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial", re.DOTALL)
PREVIOUS = ".previous"

REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "allow writing there, or choose another folder"),
    errno.EPERM: ("permission denied", "allow writing there, or choose another folder"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
    errno.EFBIG: ("the file would be larger than is allowed here", "raise the limit (ulimit -f) or free some quota"),
    errno.ENOTDIR: ("a file is where a folder is needed", "choose another folder"),
}

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk without room."""
WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of hard links on file systems without them."""


@contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Turn any OSError of writing into a StorageError that says what was being written and what to do.

    Raises:
        StorageError: the disk is full, read-only or gone. ConfigError: the name is longer than the file system allows.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"can't write {path}: the name is too long; choose a shorter one") from error
        what, remedy = REMEDIES.get(error.errno or 0, (error.strerror or str(error), "remove the cause"))
        raise StorageError(
            f"can't write {path}: {what}. What was saved before is untouched; {remedy}, then run the command again"
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name, durably, at the end of the block, or leaves no trace.

    Raises:
        StorageError: the disk is full, read-only or gone; the previous contents of `path` are untouched.
    """
    partial = _name_partial(path)
    with translate_write_errors(path):
        try:
            with partial.open("xb") as file:
                _lock(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(path)
            sync(path.parent)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def copy_atomically(source: Path, target: Path) -> bool:
    """Copy a file with its times to an unused name, whole or not at all; return whether the name was free.

    Raises:
        FileNotFoundError, OSError: the source can't be opened. StorageError: the disk is full, read-only or gone.
    """
    partial = _name_partial(target.with_name("copy"))  # short, however long the name is
    with source.open("rb") as original, translate_write_errors(target):
        try:
            with partial.open("xb") as file:
                _lock(file.fileno())
                shutil.copyfileobj(original, file)
                file.flush()
                os.fsync(file.fileno())
                with suppress(OSError):
                    shutil.copystat(source, partial)
                return _take_name(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _take_name(partial: Path, target: Path) -> bool:
    """Give a file a name unless the name is in use; return whether it was free."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        if os.path.lexists(target):
            return False
        partial.rename(target)
    return True


def check_name(path: Path) -> None:
    """Raise ConfigError for a path that can't be written: too long, with a NUL, below a file, or a URL."""
    if "\0" in str(path):
        raise ConfigError(f"can't write {path}: a name can't contain a NUL character; remove it")
    if reason := explain_url(path):
        raise ConfigError(reason)
    above = next(place for place in (path, *path.absolute().parents) if path_exists(place))
    if above != path and not is_folder(above):
        raise ConfigError(f"can't write {path}: {above} is a file; choose another place")
    for name in (_name_partial(path), *(above / part for part in path.parts)):
        with translate_write_errors(path), suppress(FileNotFoundError, NotADirectoryError):
            name.lstat()


def check_new_folder(path: Path) -> None:
    """Raise CheckpointError unless a path is free or an empty folder; ConfigError as `check_name` does, and for the current
    folder, which nothing can take the place of."""
    check_name(path)
    if not path.name:
        raise ConfigError(f"{path} can't be replaced as a whole; name a new folder inside it")
    if path_exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists already; name a new or empty folder")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file, durably: `path` then holds `data`, or after a failure its previous contents.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    with atomic_file(path) as file:
        file.write(data)


def write_new(path: Path, data: bytes) -> bool:
    """Write a whole file, durably, to an unused name; return whether it was free. Raises StorageError."""
    partial = _name_partial(path)
    with translate_write_errors(path):
        try:
            with partial.open("xb") as file:
                _lock(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                free = _take_name(partial, path)
            sync(path.parent)
            return free
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder with its parents, durably, unless it is there; raises OSError."""
    new = [folder for folder in (path, *path.parents) if not path_exists(folder)]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync(folder.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the name `path`, durably, at the end of the block, or leaves no trace.

    An existing folder is replaced whole: at every instant `find_settled(path)` is the old or the new one.

    Raises:
        StorageError: the disk is full, read-only or gone; the previous contents of `path` are untouched.
    """
    partial = _name_partial(path)
    with translate_write_errors(path):
        make_folder(path.parent)
        recover_folder(path)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        partial.mkdir()
        handle = os.open(partial, os.O_RDONLY)
        try:
            _lock(handle)
            yield partial
            _sync_tree(partial)
            _replace_folder(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(handle)


STEM = 200
"""Most bytes of a generated name, of the 255 that file systems allow."""
_claimed: list[Path] = []


def claim_folder(parent: Path, stem: str) -> Path:
    """Make the next free folder parent/<stem>-<n>; processes that do so at the same instant each get their own.

    A stem that no file system accepts, longer than STEM bytes or with a NUL, is shortened.

    Raises:
        StorageError: no folder can be made there.
    """
    with translate_write_errors(parent / stem):
        parent.mkdir(parents=True, exist_ok=True)
        return _claim(lambda number: parent / f"{_is_possible(stem)}-{number}", lambda path: path.mkdir())


def find_free_folder(parent: Path, stem: str) -> Path:
    """Return the folder that `claim_folder` would make next."""
    names = (parent / f"{_is_possible(stem)}-{number}" for number in itertools.count(1))
    return next(path for path in names if not path_exists(path))


def claim_file(parent: Path, stem: str, extension: str) -> Path:
    """Make the next free file <stem><extension>, <stem>-2<extension>, ..., empty; raises as `claim_folder` does."""
    stem = _is_possible(stem)
    with translate_write_errors(parent / stem):
        return _claim(
            lambda number: parent / (f"{stem}-{number}{extension}" if number > 1 else f"{stem}{extension}"),
            lambda path: path.touch(exist_ok=False),
        )


def _is_possible(stem: str) -> str:
    return os.fsdecode(os.fsencode(stem.replace("\0", ""))[:STEM])


def _claim(name: Callable[[int], Path], make: Callable[[Path], None]) -> Path:
    for number in itertools.count(1):
        with suppress(FileExistsError):
            make(name(number))
            _claimed.append(name(number))
            return name(number)
    raise AssertionError


def give_up_claims(*paths: Path) -> None:
    """Remove claimed files and folders that were never written to, for example after a command was refused.

    Args:
        paths: those that are given up, whether or not they were claimed; none: all that this process claimed.
    """
    for path in paths or tuple(_claimed):
        if path not in _claimed:
            continue
        _claimed.remove(path)
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
                path.parent.rmdir()
            elif not path.stat().st_size:
                path.unlink()


def find_settled(path: Path) -> Path:
    """Return where the folder `path` can be read at this instant; `path` itself if there is none."""
    previous = _name_previous(path)
    return previous if not path_exists(path) and path_exists(previous) else path


def recover_folder(path: Path) -> None:
    """Finish or undo an interrupted replacement of the folder `path`."""
    previous = _name_previous(path)
    if not previous.exists():
        return
    if path.exists():
        shutil.rmtree(previous)
    else:
        previous.rename(path)


def recover_all(parent: Path) -> None:
    """Finish or undo every interrupted replacement in a folder."""
    for previous in parent.glob(f".*{PREVIOUS}"):
        recover_folder(parent / previous.name[1 : -len(PREVIOUS)])


def clear_partials(parent: Path, name: str | None = None) -> None:
    """Remove the files that dead writers left in a folder, or under one name in it; those of living writers stay."""
    for partial in parent.iterdir() if is_folder(parent) else ():
        match = PARTIAL_NAME.fullmatch(partial.name)
        if match and name in (None, match["name"]) and _is_abandoned(partial):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: it is whole until it is gone; raises StorageError."""
    partial = _name_partial(path)
    with translate_write_errors(path):
        path.rename(partial)
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Force a file, or a folder's directory entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (
            error.errno in (errno.EINVAL, errno.ENOTSUP) and path.is_dir()
        ):  # some network shares can't sync folders
            raise
    finally:
        os.close(handle)


def _name_partial(path: Path) -> Path:
    return _name_beside(path, f".{os.urandom(4).hex()}{PARTIAL}")


def _name_previous(path: Path) -> Path:
    return _name_beside(path, PREVIOUS)


def _name_beside(path: Path, end: str) -> Path:
    """Return a hidden name beside a path with its name in it; the current folder has one too, the root only one inside."""
    path = path if path.name else Path(os.path.abspath(path))  # noqa: PTH100 (links stay as they are)
    return path.with_name(f".{path.name}{end}") if path.name else path / f".{end}"


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))


def _replace_folder(partial: Path, path: Path) -> None:
    previous = _name_previous(path)
    replaced = path.exists()
    if replaced:
        path.rename(previous)
    try:
        partial.rename(path)
    except OSError:
        if replaced:
            previous.rename(path)
        raise
    sync(path.parent)
    if replaced:
        shutil.rmtree(previous, ignore_errors=True)


def _lock(handle: int) -> None:
    """Mark an open file as being written; the mark ends with the process. Some network shares have no locks."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_abandoned(partial: Path) -> bool:
    try:
        handle = os.open(partial, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
