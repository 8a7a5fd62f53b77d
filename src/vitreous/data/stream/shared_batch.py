"""A batch on its way from a worker: its pixels in anonymous shared memory, the rest through the pipe."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vitreous.shapes import Bool, Float32, Int64, Pixels

Label = int | Bool[np.ndarray, " label"] | Float32[np.ndarray, " label"]
"""A class; where an example may have several, which of the classes it has; where labels are soft, the probability of each class."""
Labels = Int64[np.ndarray, " batch"] | Bool[np.ndarray, "batch label"] | Float32[np.ndarray, "batch label"]
"""The labels of a batch."""


@runtime_checkable
class Packable(Protocol):
    """An example that can be packed."""

    pixels: Pixels[np.ndarray, "row col channel"]
    label: Label
    partner: Label
    weight: float
    index: int
    draws: Float32[np.ndarray, " draw"] | None


class SharedBatch(NamedTuple):
    """A batch's contents, in the order of its fields."""

    pixels: Pixels[Tensor, "batch channel row col"] | Pixels[np.ndarray, "batch channel row col"]
    """A tensor in shared memory, or an array that goes through the pipe."""
    labels: Labels
    partners: Labels
    weights: Float32[np.ndarray, " batch"]
    indices: Int64[np.ndarray, " batch"]
    draws: Float32[np.ndarray, "batch draw"] | None = None


def pack(examples: Sequence[Packable], shared: bool) -> SharedBatch:
    """Stack examples, channels first, with one copy of each pixel.

    Torch removes the name of its shared memory as soon as it is made, so nothing is left when a process is killed.
    """
    rows, cols, channels = examples[0].pixels.shape
    shape = (len(examples), channels, rows, cols)
    room = (
        torch.from_numpy(np.empty(shape, examples[0].pixels.dtype)).share_memory_()
        if shared
        else np.empty(shape, examples[0].pixels.dtype)
    )
    pixels = room.numpy() if isinstance(room, Tensor) else room
    for place, one in zip(pixels, examples, strict=True):
        place[:] = one.pixels.transpose(2, 0, 1)
    return SharedBatch(
        room,
        stack_labels([one.label for one in examples]),
        stack_labels([one.partner for one in examples]),
        np.array([one.weight for one in examples], dtype=np.float32),
        np.array([one.index for one in examples], dtype=np.int64),
        None if examples[0].draws is None else np.stack([one.draws for one in examples if one.draws is not None]),
    )


def stack_labels(each: Sequence[Label]) -> Labels:
    """Stack labels."""
    return np.array(each, dtype=np.int64) if isinstance(each[0], int) else np.stack(each)  # type: ignore[arg-type]
