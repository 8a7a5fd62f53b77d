"""TIFF: the first directory checked against the file, the chain of directories counted."""

import struct

from vitreous.errors import ImageError
from vitreous.images.containers.survey import FRAMES, Survey, read_orientation, turn_size
from vitreous.images.containers.tiff_directory import (
    ORIENTATION,
    XMP,
    Entry,
    read_directory,
    read_start,
)

COLS, ROWS, BITS, COMPRESSION, SAMPLES, STRIP_OFFSETS, STRIP_BYTES = 256, 257, 258, 259, 277, 273, 279
TILE_COLS, TILE_ROWS, TILE_OFFSETS = 322, 323, 324
PARTS = 2**18
"""Most strips or tiles of an image."""
LARGEST_TILE = 64 * 2**20
"""Most bytes of a tile that is larger than the image."""
UNCOMPRESSED = 1


def survey_tiff(data: bytes) -> Survey:
    """Check a TIFF's first directory, and count its directories.

    Raises:
        ImageError: it is damaged, or claims more than the file holds.
    """
    order, big, place, entries, after = read_first_directory(data)
    _check(entries, len(data))
    bits = [entries[BITS].read_first() or 1] if BITS in entries else [1]
    samples = read_value(entries, SAMPLES, 1)
    stored = samples * min(bits[0], 64) / 8
    rows, cols = read_value(entries, ROWS, 0), read_value(entries, COLS, 0)
    claimed = rows * cols * stored
    if read_value(entries, COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED and claimed > len(data):
        raise ImageError(f"it is truncated: uncompressed pixels of {claimed:,.0f} bytes in a file of {len(data):,}")
    tile = read_value(entries, TILE_ROWS, 0), read_value(entries, TILE_COLS, 0)
    if tile[0] * tile[1] * stored > max(LARGEST_TILE, 4 * claimed):
        raise ImageError(f"its tiles of {tile[0]} x {tile[1]} pixels are larger than the image")
    exif = b"" if ORIENTATION not in entries else data
    xmp = entries[XMP].read_bytes(2**20) if XMP in entries else b""
    frames = 1 + _read_next(data, after, order, big, {place})
    turned = read_orientation(exif, xmp)
    return Survey(data, turned, frames, turn_size(rows, cols, turned), stored, 8 + stored)


def read_first_directory(data: bytes) -> tuple[str, bool, int, dict[int, Entry], int]:
    """Return a TIFF's byte order, whether it is BigTIFF, its first directory's offset and entries, and the next offset.

    Raises:
        ImageError: the directory doesn't lie within the file.
    """
    try:
        order, big, place = read_start(data)
        return order, big, place, *read_directory(data, place, order, big)
    except (KeyError, struct.error) as error:
        raise ImageError("its first directory lies outside the file") from error


def _check(entries: dict[int, Entry], length: int) -> None:
    """Refuse a directory whose values together claim more than the file, and impossible tiles or strips."""
    claimed = sum(entry.length for entry in entries.values() if entry.length > 8)
    if claimed > length:
        raise ImageError(f"its first directory claims {claimed:,} bytes of values, but the file has {length:,}")
    for tag in (STRIP_OFFSETS, TILE_OFFSETS):
        if tag in entries and entries[tag].count > PARTS:
            raise ImageError(f"it is cut into {entries[tag].count:,} strips or tiles, more than {PARTS:,}")
    if TILE_OFFSETS in entries and not (read_value(entries, TILE_COLS, 0) and read_value(entries, TILE_ROWS, 0)):
        raise ImageError("its tiles have no size")


def read_value(entries: dict[int, Entry], tag: int, default: int) -> int:
    """Return the first value of a tag, or the default if there is none."""
    found = entries[tag].read_first() if tag in entries else None
    return default if found is None else found


def _read_next(data: bytes, place: int, order: str, big: bool, seen: set[int]) -> int:
    """Count the directories from an offset, at most FRAMES with the first; none is read twice, and only the length
    of each is read."""
    number, offset = (order + "Q", order + "Q") if big else (order + "H", order + "I")
    head, step = (8, 20) if big else (2, 12)
    count = 0
    while place and place not in seen and count < FRAMES - 1:
        seen.add(place)
        try:
            place += head + step * struct.unpack_from(number, data, place)[0]
            place = struct.unpack_from(offset, data, place)[0]
        except (struct.error, OverflowError):
            break
        count += 1
    return count
