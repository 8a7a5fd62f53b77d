"""Features of videos, a frame at each of the times that are wanted; no more frames are held than fit into a fixed memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vitreous.evaluation.probes.features import FeatureOptions, Features, features
from vitreous.images.video import Frame, frames
from vitreous.predictor import Predictor
from vitreous.shapes import Int64, UInt8

HELD = 256 * 2**20
"""Bytes of frames that are held at once; one frame may be larger."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames as a source, of one class without a name."""

    shown: tuple[UInt8[np.ndarray, "row col 3"], ...]
    names: tuple[str, ...]
    classes: tuple[str, ...] = ("",)
    fingerprint: str = ""
    """None: they are never cached."""

    def __len__(self) -> int:
        return len(self.shown)

    @cached_property
    def labels(self) -> Int64[np.ndarray, " example"]:
        """The one class."""
        return np.zeros(len(self.shown), np.int64)

    def read(self, index: int) -> UInt8[np.ndarray, "row col 3"]:
        """Return a frame's pixels."""
        return self.shown[index]


def frame_features(
    predictor: Predictor, path: Path, every: float, options: FeatureOptions
) -> Iterator[Features | Frame]:
    """Yield the features of a video's frames in order, and last a Frame without pixels for what couldn't be read.

    Raises:
        ConfigError: no such layer or precision, an empty batch, or `every` out of range.
    """
    options = replace(options, cache=False)
    held: list[Frame] = []
    size = 0
    for frame in frames(path, every, predictor.folder.decode.max_pixels):
        if frame.pixels is None:
            yield from _compute(predictor, held, options)
            yield frame
            return
        held.append(frame)
        size += frame.pixels.nbytes
        if size >= HELD:
            yield from _compute(predictor, held, options)
            held, size = [], 0
    yield from _compute(predictor, held, options)


def _compute(predictor: Predictor, held: Sequence[Frame], options: FeatureOptions) -> Iterator[Features]:
    shown = tuple(frame.pixels for frame in held if frame.pixels is not None)
    if shown:
        yield features(predictor, Frames(shown, tuple(frame.name for frame in held)), options)


def join_features(parts: Sequence[Features]) -> Features:
    """Return the features of images without labels, part after part."""
    names = tuple(name for part in parts for name in part.names)
    return Features(np.concatenate([part.vectors for part in parts]), np.zeros(len(names), np.int64), names, ("",))
