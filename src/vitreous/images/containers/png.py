"""PNG: its chunks, EXIF and XMP in any of their places; texts, profiles and further frames are left out."""

import re
import zlib

from vitreous.images.containers.survey import FRAMES, PIECES, Survey, TooManyPieces, read_orientation, turn_size

START = b"\x89PNG\r\n\x1a\n"
KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""Chunks that pixels depend on."""
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by colour type."""
RAW_EXIF, XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
"""Keywords of texts that hold an orientation; the first of each is read."""
MOST_TEXT = 2**20
"""Most bytes of a text that are read or unpacked."""


def survey_png(data: bytes) -> Survey:
    """Follow a PNG's chunks.

    Raises:
        ImageError: more chunks than the limit.
    """
    kept, exif, frames, stored, size = [START], b"", 1, 3.0, (0, 0)
    texts: dict[bytes, bytes] = {}
    place = len(START)
    for _ in range(PIECES):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4])
        body = data[place + 8 : min(end - 4, place + 8 + MOST_TEXT)] if kind not in (b"IDAT", b"fdAT") else b""
        if kind in KEPT:
            kept.append(data[place:end])
        if kind == b"IHDR" and len(body) >= 10:
            stored = SAMPLES.get(body[9], 4) * body[8] / 8
            size = int.from_bytes(body[4:8]), int.from_bytes(body[:4])
        elif kind == b"eXIf":
            exif = body
        elif kind == b"acTL" and len(body) >= 4:
            frames = max(1, min(FRAMES, int.from_bytes(body[:4])))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, rest = body.partition(b"\0")
            if keyword in (RAW_EXIF, XMP) and keyword not in texts:
                texts[keyword] = _read_text(kind, rest)
        if kind == b"IEND" or end >= len(data):
            turned = read_orientation(exif or _read_raw_profile(texts.get(RAW_EXIF, b"")), texts.get(XMP))
            told = turn_size(*size, turned)
            return Survey(b"".join(kept), turned, frames, told, stored, 8 + max(0.0, stored - 4))
        place = end
    raise TooManyPieces("chunks")


def _read_text(kind: bytes, rest: bytes) -> bytes:
    """Return the text in what follows a chunk's keyword, unpacked up to MOST_TEXT."""
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    text = rest[1:] if kind == b"zTXt" else rest
    if kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]
    try:
        return zlib.decompressobj().decompress(text, MOST_TEXT) if packed else text
    except zlib.error:
        return b""


def _read_raw_profile(text: bytes) -> bytes:
    """Return the bytes of ImageMagick's profile, given as hexadecimal digits after its name and length."""
    digits = re.sub(rb"\s", b"", b"".join(text.split(b"\n", 3)[3:]))
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return b""
