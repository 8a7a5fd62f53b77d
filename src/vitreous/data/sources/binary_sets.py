"""MNIST's IDX files and CIFAR's binary files: pixels in rows of one length, read in place."""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.data.sources.packs import Contents, LocalFile, check_count
from vitreous.errors import DataError, ImageError
from vitreous.shapes import Pixels

PREFIXES = {"train": "train", "t10k": "test", "test": "test"}
"""The first words of IDX files' names, and the splits that they mean."""
CIFAR_10 = {**{f"data_batch_{number}.bin": "train" for number in range(1, 6)}, "test_batch.bin": "test"}
CIFAR_100 = {"train.bin": "train", "test.bin": "test"}
NAMES = ("batches.meta.txt", "fine_label_names.txt")
PIXELS = (3, 32, 32)
MOST_GZIP_BYTES = 2**30
"""Bytes of a compressed IDX file once it is unpacked, into memory."""


@dataclass(frozen=True)
class Unpacked:
    """The contents of a compressed file, in memory."""

    data: bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return some of its bytes."""
        return self.data[offset : offset + length]


@dataclass(frozen=True)
class PixelPack:
    """Pixels at regular distances in a file."""

    file: LocalFile | Unpacked
    first: int
    """Bytes before the first image."""
    step: int
    """Bytes from one image to the next."""
    shape: tuple[int, ...]
    """Rows and cols; or channels, rows and cols."""

    def read(self, place: int, most: int) -> Pixels[np.ndarray, "row col channel"]:
        """Return an image's pixels; raises ImageError."""
        data = self.file.read(self.first + place * self.step, math.prod(self.shape))
        pixels = np.frombuffer(bytearray(data), np.uint8).reshape(self.shape)
        return pixels[:, :, None] if len(self.shape) == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def find_idx(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the IDX files of each split in a folder: images and labels; empty without any; raises DataError."""
    found: dict[str, tuple[Path, Path]] = {}
    for prefix, split in PREFIXES.items():
        pair = [_find_named(folder, prefix, kind) for kind in ("images-idx3", "labels-idx1")]
        if pair[0] is None and pair[1] is None:
            continue
        if pair[0] is None or pair[1] is None:
            lacking = "images-idx3-ubyte" if pair[0] is None else "labels-idx1-ubyte"
            raise DataError(f"{folder} has {(pair[0] or pair[1] or folder).name} without {prefix}-{lacking}")
        found.setdefault(split, (pair[0], pair[1]))
    return found


def _find_named(folder: Path, prefix: str, kind: str) -> Path | None:
    for dash in ("-", "."):
        for ending in ("", ".gz"):
            path = folder / f"{prefix}-{kind.replace('-', dash)}-ubyte{ending}"
            if path.is_file():
                return path
    return None


def open_idx(images: Path, labels: Path, name: str) -> Contents:
    """Return what a pair of IDX files holds; raises DataError for files of other sizes than they say."""
    held, (count, rows, cols) = read_idx(images, 3)
    check_count(count, images.stat().st_size, images)
    beside, (labelled,) = read_idx(labels, 1)
    if count != labelled:
        raise DataError(f"{images} holds {count:,} images, but {labels} {labelled:,} labels")
    if not (count and rows and cols):
        raise DataError(f"{images} holds {count:,} images of {rows}x{cols}; expected at least one")
    try:
        classes = [str(label) for label in beside.read(8, labelled)]
    except ImageError as error:
        raise DataError(str(error)) from error
    pack = PixelPack(held, 16, rows * cols, (rows, cols))
    names = [f"{name}/{place}" for place in range(count)]
    return Contents(pack, names, classes, (rows * cols,) * count, LocalFile.find(images).changed)


def read_idx(path: Path, axes: int) -> tuple[LocalFile | Unpacked, tuple[int, ...]]:
    """Return an IDX file of bytes and its shape; raises DataError."""
    file: LocalFile | Unpacked = LocalFile.find(path)
    size = 4 + 4 * axes
    try:
        head = unpack_gzip(path, size) if path.suffix == ".gz" else file.read(0, size)
    except ImageError as error:
        raise DataError(f"{path} is no IDX file: it is shorter than its header") from error
    magic, *shape = struct.unpack(f">{1 + axes}I", head)
    if magic != 0x0800 + axes:
        raise DataError(
            f"{path} is no IDX file of bytes in {axes} axes: it begins with {head[:4].hex()}, expected {0x0800 + axes:08x}"
        )
    expected = size + math.prod(shape)
    if isinstance(file, LocalFile) and path.suffix != ".gz":
        if file.size != expected:
            raise DataError(f"{path} has {file.size:,} bytes, but its header says {expected:,}; fetch it anew")
        return file, tuple(shape)
    if expected > MOST_GZIP_BYTES:
        raise DataError(f"{path} would be {expected:,} bytes; unpack it with gunzip")
    return Unpacked(unpack_gzip(path, expected, whole=True)), tuple(shape)


def unpack_gzip(path: Path, size: int, whole: bool = False) -> bytes:
    """Return the first bytes of a compressed file, or all of them; raises DataError if there are not so many."""
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(size)
            if len(data) < size or (whole and file.read(1)):
                raise DataError(
                    f"{path} holds {'fewer' if len(data) < size else 'more'} than the {size:,} bytes that it says; fetch it anew"
                )
            return data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be unpacked: {error}; fetch it anew") from error


def find_cifar(folder: Path) -> dict[str, list[Path]]:
    """Return CIFAR's binary files of each split in a folder, CIFAR-100's if its list of names is there; empty without any."""
    hundred = (folder / NAMES[1]).is_file()
    wanted = CIFAR_100 if hundred else CIFAR_10
    found: dict[str, list[Path]] = {}
    for name, split in wanted.items():
        if (folder / name).is_file():
            found.setdefault(split, []).append(folder / name)
    return found


def open_cifar(path: Path, name: str) -> Contents:
    """Return what one of CIFAR's files holds; raises DataError for a file of another size, or a class without a name."""
    file, ahead = LocalFile.find(path), 2 if (path.parent / NAMES[1]).is_file() else 1
    step = ahead + math.prod(PIXELS)
    count, rest = divmod(file.size, step)
    if rest or not count:
        raise DataError(f"{path} has {file.size:,} bytes; expected a multiple of {step:,}, and at least one image")
    names = read_names(path.parent / NAMES[ahead - 1], 100 if ahead == 2 else 10)
    with path.open("rb") as stream:
        numbers = _read_labels(stream.read, count, step, ahead - 1)
    if (highest := max(numbers)) >= len(names):
        raise DataError(f"{path} has class {highest}; there are {len(names)}, from 0")
    pack = PixelPack(file, ahead, step, PIXELS)
    own = [f"{name}/{place}" for place in range(count)]
    return Contents(pack, own, [names[number] for number in numbers], (step - ahead,) * count, file.changed)


def _read_labels(read: Callable[[int], bytes], count: int, step: int, place: int) -> list[int]:
    """Return the label of each record, a few records at a time."""
    found: list[int] = []
    while len(found) < count:
        data = np.frombuffer(read(step * min(1024, count - len(found))), np.uint8).reshape(-1, step)
        if not len(data):
            raise DataError("the file became shorter while it was read")
        found += data[:, place].tolist()
    return found


def read_names(path: Path, count: int) -> Sequence[str]:
    """Return the names of CIFAR's classes; their numbers where the list of names is missing; raises DataError."""
    if not path.is_file():
        return [str(number) for number in range(count)]
    try:
        names = [line.strip() for line in path.read_bytes()[:65_536].decode().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    if len(names) != count or len(set(names)) != count:
        raise DataError(f"{path} has {len(names)} names; expected {count}, all different")
    return names
