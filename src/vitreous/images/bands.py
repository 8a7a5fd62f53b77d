"""TIFF images with any number of channels of up to 64 bits each, as the values in the file.

Pillow supports no image with more than four channels, and colours only in 8 bits. But its decoders (including
libtiff's) do unpack any strip or tile: each plane is handed to them as if it were grey pixels of one byte, and the
bytes are assembled here. The size is checked first, and nothing beyond it is unpacked.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np

from vitreous.errors import ImageError
from vitreous.images.containers.tiff import (
    BITS,
    COLS,
    COMPRESSION,
    PARTS,
    ROWS,
    SAMPLES,
    STRIP_BYTES,
    STRIP_OFFSETS,
    TILE_COLS,
    TILE_OFFSETS,
    TILE_ROWS,
    read_first_directory,
    read_value,
)
from vitreous.images.containers.tiff_directory import Entry
from vitreous.shapes import Num, UInt8

PHOTOMETRIC, STRIP_ROWS, PLANAR, PREDICTOR, TILE_BYTES, EXTRA, FORMAT = 262, 278, 284, 317, 325, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOURS = 0, 1, 2
"""Photometric interpretations."""
PREMULTIPLIED, STRAIGHT = 1, 2
"""Kinds of alpha, among the extra channels."""
COMPRESSIONS = {
    1: "none",
    5: "LZW",
    8: "Deflate",
    32946: "Deflate",
    32773: "PackBits",
    34925: "LZMA",
    50000: "Zstandard",
}
"""Compressions of strips and tiles that decode to bytes."""
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
HORIZONTAL, FLOATING = 2, 3
"""Predictors: differences along a row; the same on bytes, grouped by significance."""
MANY = 4
"""Most channels in one of Pillow's modes."""
PILLOW_GREY = frozenset({"u1", "i1", "u2", "i2", "i4", "f4"})
"""Types of grey that Pillow has a mode for."""


@dataclass(frozen=True)
class Layout:
    """The layout of a TIFF's pixels in the file."""

    rows: int
    cols: int
    channels: int
    dtype: np.dtype
    """The type of a value, in the file's byte order."""
    photometric: int
    extra: int
    """The meaning of the first channel beyond the colours: one of the kinds of alpha, or another."""
    compression: int
    planar: bool
    """Whether the file stores plane after plane, rather than pixel after pixel."""
    predictor: int
    part: tuple[int, int]
    """Rows and columns of a strip or tile."""
    tiled: bool
    offsets: Entry
    lengths: Entry

    @property
    def name(self) -> str:
        """Pillow's name for grey of that kind; otherwise the channels and their bits, such as "5;16"; F stands for
        floating point."""
        if self.channels == 1:
            return "F" if self.dtype.kind == "f" else "I;16" if self.dtype.itemsize == 2 else "I"
        return f"{self.channels};{'F' if self.dtype.kind == 'f' else 8 * self.dtype.itemsize}"

    @property
    def is_pillows(self) -> bool:
        """Whether Pillow has a mode for such pixels, with the same values."""
        if self.channels == 1:
            return self.dtype.str[1:] in PILLOW_GREY and not self.is_negative
        return self.dtype.str[1:] == "u1" and (
            self.channels == 2 or (self.channels <= MANY and self.photometric == COLOURS)
        )

    @property
    def is_negative(self) -> bool:
        """Whether 0 is white."""
        return self.channels == 1 and self.photometric == WHITE_IS_ZERO

    @property
    def pixel(self) -> int:
        """Bytes of a pixel of one plane."""
        return self.dtype.itemsize * (1 if self.planar else self.channels)

    @property
    def across(self) -> int:
        """Columns of all strips or tiles side by side, including what reaches beyond the image."""
        return -(-self.cols // self.part[1]) * self.part[1]

    @property
    def working(self) -> float:
        """Bytes of memory that a pixel takes during reading: as decoded, in full, and in float32."""
        return 3.0 * self.dtype.itemsize * self.channels * self.across / self.cols + 8.0 * self.channels


def read_layout(data: bytes) -> Layout | None:
    """Return a TIFF's pixel layout; None for unsupported ones: palettes, bits that aren't bytes, JPEG and fax inside.

    Raises:
        ImageError: it is damaged.
    """
    order, _, _, entries, _ = read_first_directory(data)
    channels, rows, cols = (read_value(entries, tag, default) for tag, default in ((SAMPLES, 1), (ROWS, 0), (COLS, 0)))
    bits, kinds = (read_per_channel(entries, tag, channels) for tag in (BITS, FORMAT))
    tiled = TILE_OFFSETS in entries
    tags = (TILE_OFFSETS, TILE_BYTES) if tiled else (STRIP_OFFSETS, STRIP_BYTES)
    photometric, compression = read_value(entries, PHOTOMETRIC, 1), read_value(entries, COMPRESSION, 1)
    letter = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}.get(min(kinds))
    known = (BLACK_IS_ZERO, COLOURS) if channels <= MANY else (0, 1, 2, 5, 6, 8)
    if channels == 1 and letter == "u" and bits[0] > 8:  # Pillow inverts those of 8 bits
        known = (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if (
        min(rows, cols, channels) < 1
        or len({*bits}) > 1
        or len({*kinds}) > 1
        or bits[0] not in ((16, 32, 64) if letter == "f" else (8, 16, 32, 64))
        or letter is None
        or photometric not in known
        or compression not in COMPRESSIONS
        or not all(tag in entries for tag in tags)
    ):
        return None
    strip = min(rows, read_value(entries, STRIP_ROWS, rows) or rows), cols
    return Layout(
        rows,
        cols,
        channels,
        np.dtype(f"{order}{letter}{bits[0] // 8}"),
        photometric,
        read_value(entries, EXTRA, 0),
        compression,
        read_value(entries, PLANAR, 1) == 2 and channels > 1,
        read_value(entries, PREDICTOR, 1),
        (read_value(entries, TILE_ROWS, 0), read_value(entries, TILE_COLS, 0)) if tiled else strip,
        tiled,
        entries[tags[0]],
        entries[tags[1]],
    )


def read_per_channel(entries: dict[int, Entry], tag: int, channels: int) -> tuple[int, ...]:
    """Return an entry's value for each channel; a single value, or none, applies to all."""
    if tag not in entries:
        return (1,)
    values = read_numbers(entries[tag], max(1, min(channels, PARTS)))
    return tuple(values.tolist()) or (1,)


def read_numbers(entry: Entry, most: int) -> Num[np.ndarray, " value"]:
    """Return an entry's whole numbers, at most `most`; fewer if they are of another kind, or cut short."""
    letter = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}.get(entry.kind)
    if letter is None:
        return np.empty(0, np.int64)
    width = int(letter[1])
    raw = entry.read_bytes(most * width)
    return np.frombuffer(raw[: len(raw) // width * width], f"{entry.order}{letter}").astype(np.int64)


def read_values(data: bytes, how: Layout) -> Num[np.ndarray, "row col channel"]:
    """Return the values in the file, in the machine's byte order.

    Raises:
        ImageError: strips or tiles that don't make up the image.
    """
    planes = how.channels if how.planar else 1
    count = -(-how.rows // how.part[0]) * (how.across // how.part[1])
    offsets, lengths = (read_numbers(entry, PARTS) for entry in (how.offsets, how.lengths))
    if min(len(offsets), len(lengths)) < planes * count:
        raise ImageError(f"it has {min(len(offsets), len(lengths)):,} strips or tiles but needs {planes * count:,}")
    out = np.empty((how.rows, how.cols, how.channels), how.dtype.newbyteorder("="))
    for plane in range(planes):
        chosen = slice(plane * count, (plane + 1) * count)
        packed = unpack_strips(data, how, offsets[chosen], lengths[chosen])
        place = out[:, :, plane : plane + 1] if how.planar else out
        place[:] = undo_predictor(packed, how)[:, : how.cols]
    return out


def unpack_strips(
    data: bytes, how: Layout, offsets: Num[np.ndarray, " part"], lengths: Num[np.ndarray, " part"]
) -> UInt8[np.ndarray, "row byte"]:
    """Unpack the strips or tiles of a plane as the grey pixels of a TIFF made of them; raises ImageError."""
    from PIL import TiffImagePlugin

    if int(lengths.sum()) > len(data) or int((offsets + lengths).max()) > len(data):
        raise ImageError("it is truncated: its strips or tiles reach beyond the end of the file")
    parts = [data[first : first + length] for first, length in zip(offsets.tolist(), lengths.tolist(), strict=True)]
    rows, width = how.part[0], how.part[1] * how.pixel
    size = [(COLS, how.across * how.pixel), (ROWS, how.rows), (BITS, 8), (COMPRESSION, how.compression)]
    size += [(PHOTOMETRIC, 1), (SAMPLES, 1)]
    size += [(TILE_COLS, width), (TILE_ROWS, rows)] if how.tiled else [(STRIP_ROWS, rows)]
    tags = (TILE_OFFSETS, TILE_BYTES) if how.tiled else (STRIP_OFFSETS, STRIP_BYTES)
    image = TiffImagePlugin.TiffImageFile(write_tiff(parts, size, tags))
    image.load()
    return np.asarray(image)


def write_tiff(parts: list[bytes], size: list[tuple[int, int]], tags: tuple[int, int]) -> io.BytesIO:
    """Write a TIFF of one directory around strips or tiles."""
    ends = np.cumsum([8, *map(len, parts)])
    count, after = len(parts), int(ends[-1])
    lists = [ends[:-1], np.diff(ends)]
    entries = [struct.pack("<HHII", tag, 4, 1, number) for tag, number in size]
    for tag, place, listed in zip(tags, (after, after + 4 * count), lists, strict=True):
        entries.append(struct.pack("<HHII", tag, 4, count, int(listed[0]) if count == 1 else place))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    body = b"".join(listed.astype("<u4").tobytes() for listed in lists)
    head = struct.pack("<2sHI", b"II", 42, after + len(body))
    return io.BytesIO(b"".join((head, *parts, body, struct.pack("<H", len(entries)), *entries, bytes(4))))


def undo_predictor(packed: UInt8[np.ndarray, "row byte"], how: Layout) -> Num[np.ndarray, "row col channel"]:
    """Turn unpacked bytes into values, reversing the predictor in the rows of each strip or tile; raises ImageError."""
    channels = how.pixel // how.dtype.itemsize
    if how.predictor not in (1, HORIZONTAL, FLOATING):
        raise ImageError(f"its predictor {how.predictor} is unknown")
    if how.predictor == FLOATING:
        packed = np.concatenate(
            [undo_float_predictor(part, how, channels) for part in np.split(packed, how.across // how.part[1], 1)], 1
        )
    whole = np.ascontiguousarray(packed).view(how.dtype).reshape(len(packed), -1, channels)
    if how.predictor != HORIZONTAL:
        return whole
    if how.dtype.kind == "f":
        raise ImageError("its predictor is for whole numbers, but its pixels are floating-point")
    whole = whole.astype(how.dtype.newbyteorder("="))
    for left in range(0, how.across, how.part[1]):
        part = whole[:, left : left + how.part[1]]
        np.cumsum(part, axis=1, dtype=part.dtype, out=part)
    return whole


def undo_float_predictor(
    part: UInt8[np.ndarray, "row byte"], how: Layout, channels: int
) -> UInt8[np.ndarray, "row byte"]:
    """Reverse the predictor of floating-point numbers (Adobe's TIFF technical note 3), into the file's byte order."""
    rows, width = part.shape
    summed = np.cumsum(part.reshape(rows, -1, channels), axis=1, dtype=np.uint8)
    planes = summed.reshape(rows, how.dtype.itemsize, width // how.dtype.itemsize)
    ordered = planes if how.dtype.str[0] == ">" else planes[:, ::-1]
    return np.ascontiguousarray(ordered.transpose(0, 2, 1)).reshape(rows, width)
