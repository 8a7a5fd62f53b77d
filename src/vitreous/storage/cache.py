"""The cache of results that can be computed again: ~/.cache/vitreous, or $VITREOUS_CACHE. Imports no torch."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vitreous.errors import ConfigError
from vitreous.storage.atomic import atomic_file, translate_write_errors
from vitreous.storage.hashing import hash_bytes

LIMIT = "VITREOUS_CACHE_GIB"
"""The environment variable that limits the space for fetched and unpacked files."""
DEFAULT_GIB = 20.0


def find_cache() -> Path:
    """Return the folder of all caches, which need not exist."""
    own = os.environ.get("VITREOUS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitreous"


def name_cached(kind: str, key: str) -> Path | None:
    """Return the file that keeps a key's result; None on a machine without a home folder."""
    name = hash_bytes(key.encode(errors="surrogateescape"))
    try:
        return find_cache() / kind / f"{name}.json"
    except RuntimeError:  # no home folder
        return None


def read_cached(cache: Path | None) -> bytes | None:
    """Return the bytes that `write_cached` kept; None if there are none, or they are damaged."""
    if cache is None:
        return None
    try:
        digest, _, text = cache.read_bytes().partition(b"\n")
    except OSError:
        return None
    return text if hash_bytes(text).encode() == digest else None


def write_cached(cache: Path | None, text: bytes) -> None:
    """Keep some bytes together with their hash; if that fails, only time is lost."""
    if cache is None:
        return
    partial = cache.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(hash_bytes(text).encode() + b"\n" + text)
            partial.replace(cache)
        finally:
            partial.unlink(missing_ok=True)


def cache_limit() -> int:
    """Return the most bytes that fetched and unpacked files may take; raises ConfigError if the variable is not a
    size."""
    given = os.environ.get(LIMIT, "")
    try:
        size = float(given) if given else DEFAULT_GIB
    except ValueError:
        size = -1.0
    if not 0 <= size < 1e9:
        raise ConfigError(f"{LIMIT} is {given!r}; it must be a number of GiB, 0 or more")
    return int(size * 2**30)


def keep_file(name: str, size: int, write: Callable[[BinaryIO], None]) -> Path:
    """Return a cached file, written first if it doesn't exist. One process writes, others wait for it. The least
    recently used files are removed until the new one fits. A file in use stays readable for every process that has
    opened it.

    Args:
        name: the file's name, unique to its contents.
        size: the file's size in bytes, at most.
        write: writes the contents; if it raises, nothing is left behind.

    Raises:
        StorageError: the cache can't be written. ConfigError: the limit is too low for a file of this size.
    """
    path = find_cache() / "files" / name
    if _touch(path):
        return path
    if size > cache_limit():
        raise ConfigError(f"the cache is limited to {cache_limit():,} bytes, but {size:,} are needed; raise {LIMIT}")
    with translate_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _touch(path):
                _make_room(path.parent, cache_limit() - size)
                with atomic_file(path) as file:
                    write(file)
    return path


def _touch(path: Path) -> bool:
    """Record that a file is being used; return whether it exists."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _make_room(folder: Path, most: int) -> None:
    """Remove the least recently used files until the rest takes at most this many bytes."""
    found = []
    for entry in os.scandir(folder):
        with suppress(OSError):
            if not entry.name.startswith("."):
                found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        with suppress(OSError):
            Path(path).unlink()
            Path(path).with_name(f".{Path(path).name}.lock").unlink(missing_ok=True)
            total -= size
