"""The error tree. Every error says what came, what was expected, and what to do about it.

    VitreousError
    ├── UserError (ValueError)      exit 2: the request can't be met as it stands; the message says what to change
    │   ├── ConfigError             a setting that is unknown, ill-formed, or at odds with another
    │   │   └── UnknownName         a name that is not in its list; suggests the nearest
    │   ├── DataError               a data set that can't be used: no such folder, empty, one class, no labels
    │   │   └── ImageError          one image that can't be read: truncated, too large, not an image
    │   ├── CheckpointError         weights that can't be used: damaged, hostile, of another architecture
    │   └── RunError                a run folder that can't be used: of another version, or damaged
    │       └── RunLocked           ... because another process is writing to it
    └── FailedError (RuntimeError)  exit 1: the request was right, the work failed
        ├── NonFiniteLoss           the loss became NaN or infinite
        ├── OutOfMemory             the device or the machine has too little memory for this
        ├── OutOfMeans              a limit of the machine is reached: open files, processes, shared memory
        ├── WorkerKilled            a process that reads images was killed
        └── StorageError            the disk is full, read-only or gone

Anything else that escapes is a bug of vitreous, exits with 1 and shows its traceback.
"""

import difflib
import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path


class VitreousError(Exception):
    """Root of everything that vitreous raises on purpose."""

    exit_code = 1


class UserError(VitreousError, ValueError):
    """The request can't be met as it stands; the message says what to change."""

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown, ill-formed, or at odds with another."""


class UnknownName(ConfigError):
    """A name that is not in its list; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], meant: str | None = None) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        told = f"did you mean {meant!r}? Known: {listed(self.known)}" if meant else suggestion(name, self.known)
        super().__init__(f"unknown {kind} {name!r}; {told}")


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
    """The request was right; the work failed."""


class NonFiniteLoss(FailedError):
    """The loss became NaN or infinite."""


class OutOfMemory(FailedError):
    """The device or the machine has too little memory for this."""


class OutOfMeans(FailedError):
    """A limit of the machine is reached: open files, processes, shared memory."""


class WorkerKilled(FailedError):
    """A process that reads images was killed. `signal` is its number; None if the process ended by itself."""

    def __init__(self, message: str, signal: int | None = None) -> None:
        self.signal = signal
        super().__init__(message)


class StorageError(FailedError):
    """The disk is full, read-only or gone."""


class Signalled(KeyboardInterrupt):
    """A signal ended the work; as Ctrl-C does, but for the number, and so the exit code."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory|Unable to allocate|ALLOC_FAILED",
    re.IGNORECASE,
)
ASKED = re.compile(r"(?:tried to allocate|allocate) (\d[\d.]*) ?(bytes|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
SHARED = re.compile(r"shared memory|</?torch_|/dev/shm")


def out_of_means(error: BaseException) -> FailedError | None:
    """Say in one line that the machine has run out of something, if that is what an exception means; else None.

    Told by its type or its error number, and where torch has only words, by those: torch raises plain RuntimeErrors for
    memory that it can't have, for shared memory and for files that it can't open.
    """
    words, number = str(error), getattr(error, "errno", None)
    broad = isinstance(error, (RuntimeError, OSError))
    if broad and SHARED.search(words):
        return OutOfMeans(
            "shared memory (/dev/shm) is full or can't be had, and batches travel through it; use fewer --workers "
            "(0: none), or enlarge it (docker run --shm-size)"
        )
    if number in (errno.EMFILE, errno.ENFILE) or (broad and "Too many open files" in words):
        return OutOfMeans("too many files are open; raise the limit (ulimit -n), or use fewer --workers")
    if (number == errno.EAGAIN and isinstance(error, BlockingIOError)) or "can't start new thread" in words:
        return OutOfMeans(
            "no further process or thread can be started; raise the limit (ulimit -u), or use fewer --workers"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or (broad and MEMORY.search(words)):
        asked = ASKED.search(words)
        more = f" ({asked[1]} {asked[2] or 'bytes'} more were asked for)" if asked else ""
        return OutOfMemory(
            f"out of memory{more}; use a smaller --batch (vitreous train: --micro-batch, or --micro-batch auto), fewer "
            "--workers, or a smaller model or image size"
        )
    return None


def suggestion(name: str, known: Iterable[str], most: int = 16) -> str:
    """Say which of the known names was probably meant, and which others there are.

    >>> suggestion("smal", ["small", "pretrain", "finetune"])
    "did you mean 'small'? Known: small, pretrain, finetune"
    """
    known = list(known)
    by_lower = {item.lower(): item for item in known}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)]
    return (f"did you mean {near[0]!r}? " if near else "") + f"Known: {listed(known, most)}"


def listed(known: Sequence[str], most: int = 16) -> str:
    """List the first names, and say how many there are."""
    return ", ".join(known[:most]) + (f", ... ({len(known)} in all)" if len(known) > most else "")


def absent(path: Path) -> str:
    """Say why nothing is at a path: it isn't there, or it is a link that leads nowhere, perhaps to itself."""
    if is_link(path):
        return f"{path} is a link that leads nowhere (to {path.readlink()})"
    return f"no such file or folder: {path}"


URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(https?|s3|gs|hf|file):/", re.IGNORECASE)
"""How a URL begins; of the usual ones also with the one slash that is left of a URL that became a path."""


def url(text: str | Path) -> str | None:
    """Say of what was given as a path that it is a URL, and what to give instead; None if it is none, or a file of that name.

    >>> url("https://huggingface.co/google/vit-base-patch16-224")
    'https://huggingface.co/google/vit-base-patch16-224 is a URL; a model on the Hub is named google/vit-base-patch16-224'
    """
    found = URL.match(str(text))
    if found is None or is_there(text):
        return None
    scheme, rest = (found[1] or found[2]).lower(), str(text)[found.end() :].lstrip("/")
    shown = f"{scheme}://{rest}" if len(rest) <= 160 else f"{scheme}://{rest[:157]}..."
    parts = rest.removeprefix("huggingface.co/").split("/")
    if (scheme == "hf" or rest.startswith("huggingface.co/")) and len(parts) == 2 and all(parts):
        return f"{shown} is a URL; a model on the Hub is named {'/'.join(parts)}"
    if scheme == "file":
        return f"{shown} is a URL; give the path itself: /{rest}"
    return (
        f"{shown} is a URL, and a file or folder on this machine is needed; download it, and name what was downloaded"
    )


def is_there(path: str | Path) -> bool:
    """Tell whether anything is at a path, links followed; at one that no file system takes, too long or with a NUL, is nothing."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises on names that are too long)


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is at a path, links followed; False where nothing can be, as in `is_there`."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises on names that are too long)


def is_file(path: str | Path) -> bool:
    """Tell whether a file is at a path, links followed; False where nothing can be, as in `is_there`."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises on names that are too long)


def is_link(path: Path) -> bool:
    """Tell whether a path is a link; one that can't be looked at, such as an endless name, is none."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def not_regular(path: Path) -> str | None:
    """Say what is at a path where it is no regular file, links followed: opening a pipe waits, and a device never ends.

    Raises:
        OSError: nothing is there, or it can't be looked at.
    """
    mode = path.stat().st_mode
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    if stat.S_ISREG(mode):
        return None
    return next((word for is_kind, word in kinds if is_kind(mode)), "a device")
