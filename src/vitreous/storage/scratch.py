"""Arrays of many rows: in memory if they are small, otherwise in an unnamed temporary file.

Such a file disappears with the array, or with the process. Its pages are released after each block, so that only a block of rows
takes memory; the disk is reserved when the array is made, so that it can't run out later.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vitreous.storage.atomic import translate_write_errors

MOST_IN_MEMORY = 256 * 2**20
"""Bytes of the largest array that is kept in memory."""
BLOCK = 2**21
"""Number of values that are processed together."""


def allocate_rows(rows: int, width: int, dtype: type[np.generic] = np.float32) -> np.ndarray:
    """Return an uninitialised array (row, value): in memory, or in a temporary file (in TMPDIR).

    Raises:
        StorageError: there is no room for the file.
    """
    size = rows * width * np.dtype(dtype).itemsize
    if size <= MOST_IN_MEMORY:
        return np.empty((rows, width), dtype)
    with translate_write_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=(rows, width))


def iterate_blocks(rows: np.ndarray) -> Iterator[slice]:
    """Yield slices of consecutive rows, of about `BLOCK` values each, and release the pages of each once the next is
    requested."""
    step = max(1, BLOCK // max(1, rows[0].size)) if len(rows) else 1
    for first in range(0, len(rows), step):
        yield slice(first, min(first + step, len(rows)))
        release(rows)


def reorder_columns(rows: np.ndarray, order: np.ndarray) -> None:
    """Put the columns of an array in another order, in place: column i becomes what column `order[i]` was."""
    for place in iterate_blocks(rows):
        rows[place] = rows[place][:, order]


def release(rows: np.ndarray) -> None:
    """Take the pages of an array in a file out of memory; they are read again when they are touched."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
