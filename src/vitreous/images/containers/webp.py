"""WebP: its chunks, with EXIF and XMP, and its frames."""

from vitreous.images.containers.survey import FRAMES, PIECES, Survey, TooManyPieces, read_orientation, turn_size
from vitreous.shapes import Size


def survey_webp(data: bytes) -> Survey:
    """Follow a WebP's chunks.

    Raises:
        ImageError: more chunks than the limit.
    """
    about, frames, place = {b"EXIF": b"", b"XMP ": b""}, 0, 12
    for _ in range(PIECES):
        kind = data[place : place + 4]
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in about and not about[kind]:
            about[kind] = data[place + 8 : place + 8 + min(length, 2**20)]
        frames += kind == b"ANMF"
        place += 8 + length + length % 2
        if place + 8 > len(data):
            turned = read_orientation(about[b"EXIF"], about[b"XMP "])
            return Survey(data, turned, max(1, min(frames, FRAMES)), _read_size(data, turned), 4, 20)
    raise TooManyPieces("chunks")


def _read_size(data: bytes, turned: int) -> Size | None:
    """Read the size from the first chunk, before a decoder allocates memory for it; None if the chunk is another."""
    kind = data[12:16]
    if kind == b"VP8X":
        cols, rows = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        cols, rows = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        cols, rows = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    else:
        return None
    return turn_size(rows, cols, turned)
