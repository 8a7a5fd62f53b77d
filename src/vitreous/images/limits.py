"""What a decoder may take: pixels, memory, and how far a file may expand. All told from the header, before any work.

The errors call the image "it"; who knows its name puts that in the place.
"""

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.containers.survey import Survey
from vitreous.runtime.memory import read_memory
from vitreous.shapes import Size

SHARE = 8
"""A decoder may take one part in so many of the machine's memory ..."""
LEAST, MOST = 256 * 2**20, 2**30
"""... but at least and at most so many bytes."""
HARMLESS = 64 * 2**20
"""Bytes of pixels up to which a file may expand as it likes."""


def check_limits(size: Size, survey: Survey, length: int, config: DecodeConfig) -> None:
    """Refuse an image of so many pixels in a file of `length` bytes that is over a limit; raises ImageError."""
    check_pixels(size, config)
    pixels = size.rows * size.cols
    needed = pixels * survey.working
    most = config.max_memory or default_memory_limit() * max(1.0, config.max_pixels / DecodeConfig.max_pixels)
    if needed > most:
        raise ImageError(
            f"it has {size} pixels, which take {needed / 2**20:,.0f} MiB to decode, more than the limit of "
            f"{most / 2**20:,.0f} MiB; make it smaller, or raise --decode.max-memory"
        )
    stored = pixels * survey.stored
    if stored > HARMLESS and stored > config.max_expansion * length:
        raise ImageError(
            f"it claims {size} pixels, {stored / 2**20:,.0f} MiB, in a file of {length:,} bytes, more than "
            f"{config.max_expansion:,} times its size; if that is right, raise --decode.max-expansion"
        )


def check_pixels(size: Size, config: DecodeConfig) -> None:
    """Refuse images with more pixels than the limit; raises ImageError."""
    if size.rows < 1 or size.cols < 1:
        raise ImageError(f"it says it has {size} pixels")
    if size.rows * size.cols > config.max_pixels:
        raise ImageError(
            f"it has {size} = {size.rows * size.cols:,} pixels, more than the limit of {config.max_pixels:,}; "
            "make it smaller, or raise --decode.max-pixels"
        )


def default_memory_limit() -> int:
    """Return the bytes that decoding an image may take where no setting says it: a share of the machine's memory."""
    return min(MOST, max(LEAST, read_memory() // SHARE))
