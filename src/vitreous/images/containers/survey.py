"""What is known of a file before its pixels are decoded: its format, where they are, which way up, and whether they are within
the limits.

The errors call the image "it"; callers that know its name replace that.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.containers.tiff_directory import ORIENTATION, read_directory, read_start
from vitreous.runtime.memory import read_memory
from vitreous.shapes import Num, Size

PIECES = 100_000
"""Most chunks, segments or blocks that are read in a file."""
FRAMES = 10_000
"""Largest number of frames that is counted."""
SHARE = 8
"""A decoder may take 1 / SHARE of the machine's memory ..."""
LEAST, MOST = 256 * 2**20, 2**30
"""... but at least LEAST and at most MOST bytes."""
HARMLESS = 64 * 2**20
"""Bytes of pixels up to which any expansion is allowed."""
BAND = 2**18
"""Pixels that are converted at a time."""
STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "Photoshop (PSD)": (b"8BPS",),
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "DDS": (b"DDS ",),
    "ICO": (b"\0\0\1\0", b"\0\0\2\0"),
    "ICNS": (b"icns",),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "JPEG XR": (b"II\xbc",),
    "WMF": (b"\xd7\xcd\xc6\x9a", b"\1\0\x09\0"),
    "EMF": (b"\1\0\0\0",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "FITS": (b"SIMPLE  =",),
    "Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
    "QOI": (b"qoif",),
    "XCF": (b"gimp xcf",),
    "SVG or other XML": (b"<svg", b"<?xml"),
}
BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"),
}
"""Brands of ISO media files; a file with both kinds is AVIF, since mif1 is every still image's."""
IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)\s*([1-8])')


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


def sniff_format(data: bytes) -> str | None:
    """Recognise a format by a file's first bytes: one of those in `formats.py`, or the name of another known format.

    >>> sniff_format(b"GIF89a..."), sniff_format(b"%PDF-1.4"), sniff_format(b"hello")
    ('GIF', 'PDF', None)
    """
    if data[4:8] == b"ftyp":
        named = data[8 : max(16, min(256, int.from_bytes(data[:4])))]
        brands = {named[place : place + 4] for place in range(0, len(named), 4)}
        return next((name for name, known in BRANDS.items() if brands & set(known)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[128:132] == b"DICM":
        return "DICOM"
    return next((name for name, starts in STARTS.items() if data.startswith(starts)), None)


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


def read_orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Return the orientation from EXIF, or else from XMP: 1 to 8; 1 if neither has one, or it is broken."""
    value = None
    if exif:
        try:
            body = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
            order, big, place = read_start(body)
            entry = read_directory(body, place, order, big)[0].get(ORIENTATION)
            value = entry.read_first() if entry else None
        except (KeyError, struct.error):
            value = None
    if value is None and xmp and (match := IN_XMP.search(xmp)):
        value = int(match[1])
    return value if value in range(1, 9) else 1


def turn_size(rows: int, cols: int, orientation: int) -> Size:
    """Return the size of an image after turning it by an EXIF orientation."""
    return Size(cols, rows) if orientation >= 5 else Size(rows, cols)


def split_bands(rows: int, cols: int) -> Iterator[slice]:
    """Yield the rows of each band, BAND pixels or a row."""
    step = max(1, BAND // cols)
    return (slice(top, min(rows, top + step)) for top in range(0, rows, step))


def apply_orientation(
    pixels: Num[np.ndarray, "row col channel"], orientation: int
) -> Num[np.ndarray, "row2 col2 channel"]:
    """Turn pixels upright by an EXIF orientation of 1 to 8."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
