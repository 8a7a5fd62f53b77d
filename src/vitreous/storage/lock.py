"""One writer at a time: a lock on a folder that is released when its process ends, however that happens."""

import errno
import fcntl
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from vitreous.errors import RunLocked
from vitreous.storage.atomic import PARTIAL_NAME, translate_write_errors

LOCK = ".lock"

_held: set[int] = set()


class FolderLock:
    """The lock of a folder, held from construction until `release` or the end of the process.

    Raises:
        RunLocked: another process, or this one, holds it; the message says which.
        StorageError: the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.effective = True
        """False on file systems without locks (some network shares)."""
        with translate_write_errors(folder):
            fresh = not self.path.exists()
            self._handle = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
            try:
                self._acquire(folder)
            except BaseException as error:
                if fresh and not isinstance(error, RunLocked):
                    self.path.unlink(missing_ok=True)
                os.close(self._handle)
                raise
        _held.add(self._handle)

    def _acquire(self, folder: Path) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunLocked(_explain_in_use(folder, os.pread(self._handle, 4096, 0))) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
                raise
            self.effective = False
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode(), 0)

    def is_there(self) -> bool:
        """Return whether the lock's path still leads to the file that is held."""
        return is_same_file(self._handle, self.path)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self, remove: bool = False) -> None:
        """Release the lock; `remove` also deletes its file, for a folder that is abandoned."""
        if remove:
            with suppress(OSError):
                self.path.unlink()
        if self._handle in _held:
            _held.discard(self._handle)
            with suppress(OSError):
                os.ftruncate(self._handle, 0)  # so that the file doesn't name a process that released it
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)


def lock_while_open(file: IO[bytes]) -> None:
    """Lock an open file until this process, and those that inherit it, have closed it or ended. Does nothing on a file
    system without locks. Raises BlockingIOError if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise


def is_locked(path: Path) -> bool:
    """Return whether a process holds a file that `lock_while_open` has locked."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is no such file, or no lock
    return False


def is_same_file(handle: int, path: Path) -> bool:
    """Return whether an open file is still the one at a path; True if that can't be determined."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def has_never_begun(folder: Path, *empty: str) -> bool:
    """Return whether a folder holds only the traces of a process that died before its work began.

    These are: nothing, a lock, unfinished files, and empty files with these names.
    """
    return all(
        entry.name == LOCK
        or PARTIAL_NAME.fullmatch(entry.name)
        or (entry.name in empty and entry.is_file() and not entry.stat().st_size)
        for entry in folder.iterdir()
    )


def _explain_in_use(folder: Path, holder: bytes) -> str:
    found = _parse_holder(holder)
    if found is None:
        return f"{folder} is in use by another process; wait for it to end"
    pid, host = found
    if pid == os.getpid() and host == platform.node():
        return f"{folder} is already open in this process ({pid}); close it first"
    return f"{folder} is in use by process {pid} on {host}; wait for it to end, or stop it with `kill {pid}` there"


def _parse_holder(holder: bytes) -> tuple[int, str] | None:
    try:
        found = json.loads(holder)
        return int(found["pid"]), str(found["host"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def is_held(holder: bytes) -> bool | None:
    """Return whether a folder is being written, from its lock's contents, without touching the lock; None if the
    process would be on another machine.

    The process must be alive and, where the system lists locks (Linux), hold one, since process numbers are reused.
    """
    found = _parse_holder(holder)
    if found is None:
        return False
    pid, host = found
    if host != platform.node():
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    try:
        listed = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return True
    return any(fields[1:2] == ["FLOCK"] and str(pid) in fields[4:5] for fields in map(str.split, listed))


def _let_go_in_child() -> None:
    """Close the locks in a forked child: a worker that outlives its parent must not keep the parent's folder locked."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)
