"""Reading whole files, and their hashes."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitreous.errors import CheckpointError

CHEAP_BYTES = 128 * 2**20
"""Files up to this size are checked against their hash whenever they are opened: about 0.1 s."""


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises CheckpointError if it can't be read."""
    with translate_read_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_bytes(data: bytes) -> str:
    """Return a short hash of some bytes, in hexadecimal, to tell contents apart: BLAKE2b of 16 bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def check_stored(path: Path, size: int, sha256: str | None, source: str) -> None:
    """Compare a file with the size in bytes and, unless None, the SHA-256 that `source` records; raises
    CheckpointError."""
    with translate_read_errors(path):
        found = path.stat().st_size
    if found != size:
        raise CheckpointError(f"{path} is damaged: it has {found} bytes, but was written with {size}")
    if sha256 is not None and file_hash(path) != sha256:
        raise CheckpointError(f"{path} is damaged: its SHA-256 differs from the one in {source}")


@contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Turn any OSError of reading into a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}") from error
