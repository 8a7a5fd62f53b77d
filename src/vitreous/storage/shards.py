"""Tensors in pieces, written by several processes (`shard_writer.py`) and read by any number of others.

shard-00000.safetensors ...    what each process has written
shards.json                    of each tensor, where its pieces are: file, name in it, place in the tensor
SHA256SUMS                     of all of them, written last
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.settings import refuse_double_keys
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.safetensors_file import DTYPES, load_tensors

SHARDS = "shards.json"


@dataclass(frozen=True)
class Pieces:
    """A tensor in pieces, mapped from their files; only the requested part is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Sequence[tuple[tuple[int, ...], Tensor]]
    """Each piece with the place where it begins."""

    def cut(self, offsets: Sequence[int], sizes: Sequence[int]) -> Tensor:
        """Return the part of the tensor that begins at `offsets` and has these `sizes`, in separate memory."""
        found = torch.empty(tuple(sizes), dtype=self.dtype)
        for start, piece in self.pieces:
            low = [max(a, b) for a, b in zip(start, offsets, strict=True)]
            high = [min(a + n, b + m) for a, n, b, m in zip(start, piece.shape, offsets, sizes, strict=True)]
            if all(one < end for one, end in zip(low, high, strict=True)):
                there = tuple(slice(one - at, end - at) for one, end, at in zip(low, high, offsets, strict=True))
                here = tuple(slice(one - at, end - at) for one, end, at in zip(low, high, start, strict=True))
                found[there] = piece[here]
        return found

    def join(self) -> Tensor:
        """Return the tensor."""
        return self.cut([0] * len(self.shape), self.shape)


def read_shards(folder: Path) -> dict[str, Pieces]:
    """Map the files of a `ShardWriter`; raises CheckpointError if they are incomplete."""
    path = folder / SHARDS
    with translate_read_errors(path):
        text = path.read_bytes()
    load = cache(lambda file: load_tensors(folder / file)[0])
    try:
        document = json.loads(text, object_pairs_hook=refuse_double_keys)
        return {name: _read_pieces(entry, load) for name, entry in document.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


def _read_pieces(entry: Mapping[str, Any], load: Callable[[str], dict[str, Tensor]]) -> Pieces:
    """Read one tensor's entry; raises ValueError unless its pieces lie within it and add up to its number of values."""
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    found = []
    for one in entry["pieces"]:
        file = str(one["file"])
        if Path(file).name != file:
            raise ValueError(f"{file} is not a file name")
        piece, start = load(file)[one["name"]], tuple(one["offsets"])
        inside = all(a >= 0 and a + n <= size for a, n, size in zip(start, piece.shape, shape, strict=True))
        if not inside or list(piece.shape) != one["sizes"] or piece.dtype != dtype:
            raise ValueError(f"{one['name']} is not as described")
        found.append((start, piece))
    if sum(piece.numel() for _, piece in found) != math.prod(shape):
        raise ValueError("a tensor lacks pieces")
    return Pieces(dtype, shape, found)
