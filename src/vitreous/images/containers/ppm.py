"""PBM, PGM and PPM (Netpbm), in digits or binary, of any depth: values as they are in the file."""

import re
from typing import NamedTuple

import numpy as np

from vitreous.errors import ImageError
from vitreous.images.containers.survey import PIECES, Survey, TooManyPieces
from vitreous.shapes import Size, UInt8, UInt16

HEAD = re.compile(rb"P([1-6])")
NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})")
"""Space and comments, then a number."""
COMMENT = re.compile(rb"#[^\r\n]*")


MOST_HEAD = 64 * 2**10
"""Bytes within which a header must end, comments included."""
MOST_DIGITS = 64 * 2**20
"""Largest file, in bytes, whose pixels are digits."""


class Header(NamedTuple):
    """The contents of a header."""

    kind: int
    """1 to 6, the digit after P."""
    size: Size
    channels: int
    top: int
    """The value of white, 1 to 65,535."""
    begin: int
    """Offset of the pixels."""

    @property
    def binary(self) -> bool:
        """Whether the pixels are bytes, not digits."""
        return self.kind >= 4

    @property
    def least(self) -> int:
        """Fewest bytes that the pixels can take."""
        rows, cols = self.size
        if self.kind in (1, 4):
            return rows * cols if self.kind == 1 else rows * -(-cols // 8)
        return rows * cols * self.channels * (2 if self.top > 255 or self.kind < 4 else 1) - (self.kind < 4)


def read_header(data: bytes) -> Header:
    """Read the header; raises ImageError if it isn't one, or the file is too short for it."""
    match = HEAD.match(data)
    if match is None:
        raise ImageError("it has no Netpbm header")
    kind, place, numbers = int(match[1]), match.end(), []
    for _ in range(2 if kind in (1, 4) else 3):
        found = NUMBER.match(data, place, MOST_HEAD)
        if found is None:
            raise ImageError("its header is cut short, or not a Netpbm header")
        numbers.append(int(found[1]))
        place = found.end()
    cols, rows, top = (*numbers, 1)[:3]
    if not 0 < top < 65_536:
        raise ImageError(f"its header says that white is {top}; expected 1 to 65535")
    header = Header(kind, Size(rows, cols), 3 if kind in (3, 6) else 1, top, place + 1)
    if header.least > len(data) - header.begin:
        raise ImageError(
            f"it is truncated: {header.size} pixels take at least {header.least:,} bytes, but {len(data) - place:,} follow"
        )
    return header


def survey_ppm(data: bytes) -> Survey:
    """Check the header; raises ImageError if it isn't one, the file is too short for it, or has too many digits or
    comments."""
    header = read_header(data)
    if not header.binary and len(data) > MOST_DIGITS:
        raise ImageError(
            f"it has {len(data):,} bytes of digits, more than the limit of {MOST_DIGITS:,}; save it as binary, or "
            "as PNG"
        )
    if not header.binary and data.count(b"#", header.begin) > PIECES:
        raise TooManyPieces("comments")
    return Survey(data, stored=header.channels, working=10 * header.channels)


def read_values(
    data: bytes, header: Header
) -> UInt8[np.ndarray, "row col channel"] | UInt16[np.ndarray, "row col channel"]:
    """Return the values, 0 (black) to `told.top`; a bitmap's ink, stored as 1, becomes 0."""
    shape = (*header.size, header.channels)
    if header.kind == 4:
        packed = np.frombuffer(data, np.uint8, header.least, header.begin).reshape(header.size.rows, -1)
        return 1 - np.unpackbits(packed, axis=1, count=header.size.cols)[..., None]
    if header.binary:
        kind = np.dtype(">u2") if header.top > 255 else np.dtype(np.uint8)
        found = np.frombuffer(data, kind, int(np.prod(shape)), header.begin).reshape(shape)
        return np.minimum(found, header.top).astype(kind.newbyteorder("="))
    text = COMMENT.sub(b"", data[header.begin - 1 :])
    if header.kind == 1:
        found = np.frombuffer(text, np.uint8)
        found = found[(found == ord("0")) | (found == ord("1"))] == ord("0")
    elif re.search(rb"[^0-9\s]", text):
        raise ImageError("its pixels are not numbers")
    else:
        found = np.fromstring(text.decode("ascii"), np.uint32, int(np.prod(shape)), sep=" ")
    if len(found) < np.prod(shape):
        raise ImageError(f"it is truncated: {len(found):,} values, but {int(np.prod(shape)):,} are needed")
    depth = np.uint16 if header.top > 255 else np.uint8
    return np.minimum(found[: int(np.prod(shape))], header.top).astype(depth).reshape(shape)
