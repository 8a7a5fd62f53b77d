"""Keep small data sets decoded, or drawn, in memory shared by the workers, without changing a bit of any example."""

import mmap
import zlib
from dataclasses import dataclass

import numpy as np

from vitreous.data.sources.base import Drawn, Reread, ScannedSource, Source
from vitreous.data.sources.pseudo_labels import PseudoLabelled
from vitreous.data.sources.subset import Subset
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode
from vitreous.shapes import Int64, Pixels

LIMIT = 512 * 2**20
"""Bytes of decoded pixels that a source may keep; a larger one is read from its files, which the system caches, or
drawn anew."""


class Store:
    """Memory for the pixels of every example, filled when they are first decoded.

    The memory is anonymous and shared with processes forked later: all workers have what one decodes, and nothing is
    left behind when they are killed. A checksum is written after the pixels. Only pixels that match it are used, so a
    half-written or half-visible image is decoded again, never seen.
    """

    def __init__(self, shapes: list[tuple[int, int, int]], kind: type[np.number] = np.uint8) -> None:
        self.shapes = shapes
        ends = np.cumsum([rows * cols * channels for rows, cols, channels in shapes])
        self.ends: Int64[np.ndarray, " example"] = ends.astype(np.int64)
        self.pixels = np.frombuffer(mmap.mmap(-1, int(ends[-1]) * np.dtype(kind).itemsize), dtype=kind)
        self.checks = np.frombuffer(mmap.mmap(-1, 8 * len(shapes)), dtype=np.uint64)

    def get(self, index: int) -> Pixels[np.ndarray, "row col channel"] | None:
        """Return a copy of an example's pixels, or None if they aren't stored yet."""
        check = int(self.checks[index])
        if not check:
            return None
        pixels = self._place(index).copy()
        return pixels.reshape(self.shapes[index]) if _check(pixels) == check else None

    def put(self, index: int, pixels: Pixels[np.ndarray, "row col channel"]) -> None:
        """Store an example's pixels, if they have the shape that the scan found."""
        if pixels.shape == self.shapes[index]:
            self._place(index)[:] = pixels.reshape(-1)
            self.checks[index] = _check(np.ascontiguousarray(pixels))

    def _place(self, index: int) -> Pixels[np.ndarray, " value"]:
        rows, cols, channels = self.shapes[index]
        end = int(self.ends[index])
        return self.pixels[end - rows * cols * channels : end]


DRAWN: dict[str, Store] = {}
"""Pixels drawn from formulas, by their sources' fingerprints, so that one process draws them once for all its runs.
At most LIMIT bytes; the least recently used are dropped."""


def _check(pixels: Pixels[np.ndarray, "..."]) -> int:
    """Return a checksum that is never 0."""
    return zlib.crc32(pixels) + 1


@dataclass(frozen=True, eq=False)
class Remembered(Reread):
    """A source that keeps decoded or drawn pixels."""

    decode: DecodeConfig
    preprocess: PreprocessConfig
    store: Store | None

    def __reduce__(self) -> tuple:
        """Go to a process that isn't forked without the memory, which can't be shared with it."""
        return Remembered, (self.source, self.decode, self.preprocess, None)

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an example's pixels, decoded exactly as training and evaluation would; raises ImageError."""
        if self.store is None:
            return self.source.read(index)
        pixels = self.store.get(index)
        if pixels is None:
            found = self.source.read(index)
            whole = isinstance(found, bytes)
            pixels = decode(found, self.decode, self.preprocess.mode, name=self.source.names[index]) if whole else found
            self.store.put(index, pixels)
        return pixels


def remember(
    source: Source, decoding: DecodeConfig, preprocess: PreprocessConfig, augment: AugmentConfig | None = None
) -> Source:
    """Return the source with its decoded pixels kept, if there are few enough and training decodes them whole."""
    if isinstance(source, Subset):
        return Subset(remember(source.source, decoding, preprocess, augment), source.indices)
    if isinstance(source, PseudoLabelled):
        both = (remember(one, decoding, preprocess, augment) for one in (source.labelled, source.others))
        return source.wrap(*both)
    if isinstance(source, Drawn):
        return remember_drawn(source, decoding, preprocess)
    if not isinstance(source, ScannedSource) or source.sizes is None or decoding.at_least is not None:
        return source
    channels = preprocess.channels
    total = int(source.sizes.astype(np.int64).prod(axis=1).sum()) * channels * preprocess.value_bytes
    if total > LIMIT or (augment is not None and augment.crop == "inception" and _is_reducible(source, preprocess)):
        return source
    key = (preprocess.mode, decoding)
    kind = np.float32 if preprocess.keeps_channels else np.uint8
    if key not in source.stores:
        source.stores[key] = Store([(int(rows), int(cols), channels) for rows, cols in source.sizes], kind)
    return Remembered(source, decoding, preprocess, source.stores[key])


def remember_drawn(source: Drawn, decoding: DecodeConfig, preprocess: PreprocessConfig) -> Source:
    """Return images from formulas with their pixels kept, if there are few enough."""
    rows, cols, channels = source.shape
    if len(source) * rows * cols * channels > LIMIT:
        return source
    store = DRAWN.get(source.fingerprint) or Store([source.shape] * len(source))
    DRAWN[source.fingerprint] = DRAWN.pop(source.fingerprint, store)  # the last is the most recently used
    while sum(one.pixels.nbytes for one in DRAWN.values()) > LIMIT:
        del DRAWN[next(iter(DRAWN))]
    return Remembered(source, decoding, preprocess, store)


def _is_reducible(source: ScannedSource, preprocess: PreprocessConfig) -> bool:
    """Return whether a random crop of some JPEG may be decoded at half its size or less, which would differ from
    whole pixels."""
    assert source.sizes is not None
    return bool((source.sizes // 2 >= np.array(preprocess.size)).all(axis=1).any())
