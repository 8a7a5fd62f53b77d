"""BMP: run-length encoding is decoded one code at a time, so only for small images."""

from vitreous.errors import ImageError
from vitreous.images.containers.survey import Survey
from vitreous.shapes import Size

RUN_LENGTH = (1, 2)
"""Compression codes for 8 and 4 bits per pixel."""
MOST_PIXELS = 4 * 2**20
"""Largest run-length encoded image that is decoded; otherwise a kilobyte could cost a minute's work."""


def survey_bmp(data: bytes) -> Survey:
    """Check a BMP's header.

    Raises:
        ImageError: more run-length encoded pixels than the limit.
    """
    size = int.from_bytes(data[14:18], "little")
    if size < 40:
        return Survey(data, stored=int.from_bytes(data[24:26], "little") / 8)
    cols = int.from_bytes(data[18:22], "little")
    rows = abs(int.from_bytes(data[22:26], "little", signed=True))
    if int.from_bytes(data[30:34], "little") in RUN_LENGTH and rows * cols > MOST_PIXELS:
        raise ImageError(
            f"it is a run-length encoded BMP of {rows * cols:,} pixels, more than the limit of {MOST_PIXELS:,}; "
            "save it as PNG"
        )
    return Survey(data, size=Size(rows, cols), stored=int.from_bytes(data[28:30], "little") / 8)
