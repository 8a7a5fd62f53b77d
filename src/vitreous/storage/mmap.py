"""A file mapped into memory: its tensors are the file's own pages, read when they are touched.

Reading every value of a large file would make all of it resident. So values that are examined while loading go through
windows whose pages are released immediately; they stay in the page cache, and are mapped again when the model first
runs.
"""

import math
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

WINDOW = 1 * 2**20
"""Bytes examined before their pages are released."""
GRAIN = 2 * 2**20
"""Bytes that the kernel may load together when one of them is touched: the largest folio of the page cache."""


class FileMap:
    """The bytes of a non-empty file. Writing to them changes memory, not the file.

    Raises:
        OSError: it can't be read.
        ValueError: it is empty.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.start = torch.frombuffer(self.bytes, dtype=torch.uint8).data_ptr()

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int, alignment: int = 1) -> Tensor:
        """Return the tensor at an offset; it is copied unless it is aligned as required and to its elements."""
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        if offset % dtype.itemsize or offset % alignment:
            copied = bytearray(self.bytes[offset : offset + count * dtype.itemsize])
            return torch.frombuffer(copied, dtype=dtype).reshape(shape).clone()
        return torch.frombuffer(self.bytes, dtype=dtype, count=count, offset=offset).reshape(shape)

    def release(self, tensor: Tensor) -> None:
        """Release the pages under a contiguous tensor, if it lies in this file.

        Call it only before any tensor of the file is written to: such changes would be lost.
        """
        first = tensor.data_ptr() - self.start
        if tensor.numel() and 0 <= first < len(self.bytes) and hasattr(mmap, "MADV_DONTNEED"):
            begin, end = first // GRAIN * GRAIN, first + tensor.numel() * tensor.element_size()
            end = min(-(-end // GRAIN) * GRAIN, len(self.bytes))
            self.bytes.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def release_pages(tensors: Iterable[Tensor], maps: Iterable[FileMap]) -> None:
    """Release the pages of tensors of mapped files, as `FileMap.release` does."""
    held = list(maps)
    for tensor in tensors:
        for file in held:
            file.release(tensor)


def iterate_windows(tensor: Tensor) -> Iterator[Tensor]:
    """Cut a tensor's values into flat pieces of at most `WINDOW` bytes."""
    yield from tensor.detach().reshape(-1).split(WINDOW // tensor.element_size())
