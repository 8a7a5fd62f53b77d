"""Limits on decoding: pixels, memory, and expansion of the file, all checked from the header before any work.

The errors call the image "it"; callers that know its name replace that.
"""

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.containers.survey import Survey
from vitreous.runtime.memory import read_memory
from vitreous.shapes import Size

SHARE = 8
"""A decoder may take 1 / SHARE of the machine's memory ..."""
LEAST, MOST = 256 * 2**20, 2**30
"""... but at least LEAST and at most MOST bytes."""
HARMLESS = 64 * 2**20
"""Bytes of pixels up to which any expansion is allowed."""


def check_limits(size: Size, survey: Survey, length: int, config: DecodeConfig) -> None:
    """Refuse an image of this size in a file of `length` bytes if it is over a limit; raises ImageError."""
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
    """Return the default limit of bytes for decoding an image: a share of the machine's memory."""
    return min(MOST, max(LEAST, read_memory() // SHARE))
