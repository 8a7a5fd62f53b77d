"""The result of surveying a file, and the limits on its pieces."""

from dataclasses import dataclass

from vitreous.errors import ImageError
from vitreous.shapes import Size

PIECES = 100_000
"""Most chunks, segments or blocks that are read in a file."""
FRAMES = 10_000
"""Largest number of frames that is counted."""


@dataclass(frozen=True)
class Survey:
    """A file as its container describes it."""

    data: bytes
    """The input for a decoder: the file, or its relevant part."""
    orientation: int = 1
    """From EXIF or else XMP, 1 (upright) to 8; broken metadata count as upright."""
    frames: int = 1
    """Frames or pages, counted up to FRAMES."""
    size: Size | None = None
    """Rows and columns after turning, if the container states them."""
    stored: float = 3.0
    """Bytes that a pixel takes before compression."""
    working: float = 8.0
    """Bytes of memory per pixel during decoding, including the decoded pixels."""


class TooManyPieces(ImageError):
    """A file with more pieces than the limit."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it has more than {PIECES:,} {what}; save it again, with its metadata left out")
