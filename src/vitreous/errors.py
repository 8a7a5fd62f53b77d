"""The error tree. Every error says what was received, what was expected, and what to do about it.

    VitreousError
    ├── UserError (ValueError)      exit 2: the request can't be met as it stands; the message says what to change
    │   ├── ConfigError             a setting that is unknown, ill-formed, or at odds with another
    │   │   └── UnknownName         a name that is not in its list; suggests the nearest
    │   ├── DataError               a data set that can't be used: no such folder, empty, one class, no labels
    │   │   └── ImageError          one image that can't be read: truncated, too large, not an image
    │   ├── CheckpointError         weights that can't be used: damaged, hostile, for another architecture
    │   └── RunError                a run folder that can't be used: from another version, or damaged
    │       └── RunLocked           ... because another process is writing to it
    └── FailedError (RuntimeError)  exit 1: the request was right, but the work failed
        ├── NonFiniteLoss           the loss became NaN or infinite
        ├── OutOfMemory             the device or the machine has too little memory for this
        ├── OutOfMeans              a limit of the machine is reached: open files, processes, shared memory
        ├── WorkerKilled            a process that reads images was killed
        ├── ProcessLost             another process of the run has ended, or doesn't answer
        ├── DownloadFailed          the Hub answers, but the download is incomplete
        └── StorageError            the disk is full, read-only or gone

    ReportedElsewhere, if a run has several processes: another process says what went wrong.

Any other exception is a bug in vitreous; it exits with 1 and shows its traceback.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard


class VitreousError(Exception):
    """Root of every exception that vitreous raises on purpose."""

    exit_code = 1


class UserError(VitreousError, ValueError):
    """The request can't be met as it stands; the message says what to change."""

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown, ill-formed, or at odds with another."""


class UnknownName(ConfigError):
    """A name that is not in its list; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], meant: str | None = None) -> None:
        name, known = str(name), tuple(known)
        self.kind, self.name, self.known = kind, name, known
        advice = f"did you mean {meant!r}? Known: {format_known(self.known)}" if meant else suggest(name, self.known)
        super().__init__(f"unknown {kind} {name!r}; {advice}")


class DataError(UserError):
    """A data set that can't be used."""


class ImageError(DataError):
    """One image that can't be read."""


class CheckpointError(UserError):
    """Weights that can't be used."""


class RunError(UserError):
    """A run folder that can't be used."""


class RunLocked(RunError):
    """Another process is writing to the run folder."""


class FailedError(VitreousError, RuntimeError):
    """The request was right, but the work failed."""


class NonFiniteLoss(FailedError):
    """The loss became NaN or infinite."""


class OutOfMemory(FailedError):
    """The device or the machine has too little memory for this."""


class OutOfMeans(FailedError):
    """A limit of the machine is reached: open files, processes, shared memory."""


class DownloadFailed(FailedError):
    """The Hub answers, but the file did not arrive or is incomplete."""


class WorkerKilled(FailedError):
    """A process that reads images was killed. `signal` is the signal's number; None if the process ended by itself."""

    def __init__(self, message: str, signal: int | None = None) -> None:
        self.signal = signal
        super().__init__(message)


class ProcessLost(FailedError):
    """Another process of the same run has ended, or doesn't answer."""


class StorageError(FailedError):
    """The disk is full, read-only or gone."""


class ReportedElsewhere(VitreousError):
    """The work ended, and another process of the same run says why; this process ends with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"another process of this run has said why it ended; exit code {exit_code}")


class Signalled(KeyboardInterrupt):
    """A signal ended the work, as Ctrl-C does; `signal` is its number, which determines the exit code."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory|Unable to allocate|ALLOC_FAILED",
    re.IGNORECASE,
)
REQUESTED = re.compile(r"(?:tried to allocate|allocate) (\d[\d.]*) ?(bytes|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
MOST_COMPARED = 200
"""Characters of an unknown name that are compared with known ones."""
SHARED = re.compile(r"shared memory|</?torch_|/dev/shm")


def explain_exhaustion(error: BaseException) -> FailedError | None:
    """Return an error that says in one line what the machine has run out of, if that is what an exception means; else None.

    Recognised by type or error number, or else by torch's wording: torch raises plain RuntimeErrors when it can't get
    memory or shared memory, or can't open a file.
    """
    words, number = str(error), getattr(error, "errno", None)
    broad = isinstance(error, (RuntimeError, OSError))
    if broad and SHARED.search(words):
        return OutOfMeans(
            "shared memory (/dev/shm), through which batches travel, is full or unavailable; use fewer --workers "
            "(0: none), or enlarge it (docker run --shm-size)"
        )
    if number in (errno.EMFILE, errno.ENFILE) or (broad and "Too many open files" in words):
        return OutOfMeans("too many files are open; raise the limit (ulimit -n), or use fewer --workers")
    if (number == errno.EAGAIN and isinstance(error, BlockingIOError)) or "can't start new thread" in words:
        return OutOfMeans("can't start another process or thread; raise the limit (ulimit -u), or use fewer --workers")
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in words:
        return OutOfMeans("there is no folder for temporary files that can be written to; set TMPDIR to one")
    if isinstance(error, MemoryError) or number == errno.ENOMEM or (broad and MEMORY.search(words)):
        request = REQUESTED.search(words)
        more = f" ({request[1]} {request[2] or 'bytes'} more were requested)" if request else ""
        return OutOfMemory(
            f"out of memory{more}; use a smaller --batch (vitreous train: --micro-batch, or --micro-batch auto), fewer "
            "--workers, or a smaller model or image size"
        )
    return None


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a whole number or a float; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise ConfigError unless a value is a whole number and at least `least`; True is not a number."""
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, at least {least}")


def check_path(name: str, value: Any) -> None:
    """Raise ConfigError unless a value can be a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(f"{name} is {repr(value)[:100]}; give a path, as str or Path")


def suggest(name: str, known: Iterable[str], most: int = 16) -> str:
    """Suggest the known name that was probably meant, and list the others.

    >>> suggest("smal", ["small", "pretrain", "finetune"])
    "did you mean 'small'? Known: small, pretrain, finetune"
    """
    known = list(known)
    by_lower = {item.lower(): item for item in known}
    begin = name[:MOST_COMPARED].lower()  # a request may hold a name of megabytes
    near = [by_lower[match] for match in difflib.get_close_matches(begin, by_lower, n=1, cutoff=0.6)]
    return (f"did you mean {near[0]!r}? " if near else "") + f"Known: {format_known(known, most)}"


def format_known(known: Sequence[str], most: int = 16) -> str:
    """List the first names, and the number of the rest."""
    return (", ".join(known[:most]) or "none") + (f", ... ({len(known)} in all)" if len(known) > most else "")


def may_pass(error: BaseException | None) -> bool:
    """Return whether an error is, or was caused by, an error of the operating system: then the same work may succeed
    later."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return True
        error = error.__cause__
    return False
