"""Compute attention weights from the kernel's input, since the kernel doesn't return them, in chunks that fit in
memory."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vitreous.model.attention import Heads, attention_weights
from vitreous.shapes import Float

CHUNK_IMAGES = 32
"""Most images that pass through the model at once."""
CHUNK_WEIGHTS = 2**24
"""Most attention weights computed at once, so that long sequences are processed one image, or a part of its queries,
at a time."""


def compute_weights(heads: Heads, rows: Sequence[int] | slice = slice(None)) -> Float[Tensor, "batch head query key"]:
    """Return softmax(q k' / sqrt(head_dim) + bias) of some queries, in float32 at least; rows sum to 1."""
    q, k, bias = heads.q[:, :, rows], heads.k, None if heads.bias is None else heads.bias[:, :, rows]
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        return attention_weights(q.to(wide), k.to(wide), bias)


def iterate_rows(heads: Heads, first: int = 0) -> Iterator[tuple[slice, Float[Tensor, "batch head query key"]]]:
    """Yield the weights of all queries from `first` on, a few queries at a time, with their position."""
    batch, count, queries, _ = heads.q.shape
    step = max(1, CHUNK_WEIGHTS // (batch * count * heads.k.shape[2]))
    for start in range(first, queries, step):
        rows = slice(start, min(start + step, queries))
        yield rows, compute_weights(heads, rows)


def iterate_chunks(
    images: Float[Tensor, "batch channel row col"], weights: int = 1
) -> Iterator[Float[Tensor, "batch2 channel row col"]]:
    """Yield images in groups, given the number of weights that each image produces at once."""
    yield from images.split(max(1, min(CHUNK_IMAGES, CHUNK_WEIGHTS // max(1, weights))))
