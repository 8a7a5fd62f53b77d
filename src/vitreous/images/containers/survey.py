"""What a survey of a file finds, and how it refuses one."""

from dataclasses import dataclass

from vitreous.errors import ImageError
from vitreous.shapes import Size

PIECES = 100_000
"""Most chunks, segments or blocks that a file is followed through."""
FRAMES = 10_000
"""Frames are counted up to here."""


@dataclass(frozen=True)
class Survey:
    """A file as its container says it is."""

    data: bytes
    """What a decoder is to be given: the file, or what of it matters."""
    orientation: int = 1
    """From EXIF or else XMP, 1 (upright) to 8; broken metadata count as upright."""
    frames: int = 1
    """Frames or pages, counted up to FRAMES."""
    size: Size | None = None
    """Rows and columns after turning, where the container tells them."""
    stored: float = 3.0
    """Bytes that a pixel takes before compression."""
    working: float = 8.0
    """Bytes of memory that a pixel takes while it is decoded, the pixels that come out included."""


class TooManyPieces(ImageError):
    """A file of more pieces than it is followed through."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it has more than {PIECES:,} {what}; save it again, with its metadata left out")


def turn_size(rows: int, cols: int, orientation: int) -> Size:
    """Return the size of an image after it is turned by an EXIF orientation."""
    return Size(cols, rows) if orientation >= 5 else Size(rows, cols)
