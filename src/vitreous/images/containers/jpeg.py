"""JPEG: segments up to the pixels, scans, EXIF and XMP wherever they are."""

import re
from collections.abc import Iterator
from itertools import islice

from vitreous.errors import ImageError
from vitreous.images.containers.survey import PIECES, Survey, TooManyPieces, read_orientation

SCAN = b"\xff\xda"
SCANS = re.compile(SCAN)
"""Finds scans in half the time of `bytes.count`."""
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers that begin a frame."""
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xC6, 0xCA, 0xCE)
"""Those of a frame whose scans are whole, and those of one whose scans refine each other."""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
EXIF, ADOBE_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
MOST_EXIF = 16
"""Segments of at most 64 KiB that EXIF is read from; the orientation is in its first few hundred bytes."""
MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]", re.DOTALL)
"""Begins a segment with a length, or ends the image; other bytes after ff among coded values don't."""
MOST_SCANS = 100
"""Scans that are decoded; the finest progressions in use have a few dozen."""
MOST_WORK = 2**29
"""Most scans times pixels that are decoded in more than PLAIN scans."""
SPECTRUM = b"\0\x3f\0"
"""All coefficients with all bits, at the end of a sequential scan's header. Some cameras write zeros, which decoders read the
same, with a warning."""
PLAIN = 16
"""Scans that any image may have; encoders write 1 to 10."""


def survey_jpeg(data: bytes) -> Survey:
    """Follow a JPEG's segments to its first scan; count its scans.

    The returned data lack profiles, thumbnails and lists of further images, which no pixel depends on.

    Raises:
        ImageError: more scans or segments than the limits.
    """
    kept, xmp, pixels, frame = [data[:2]], b"", 0, 0
    exif: list[bytes] = []
    begin = after = len(data)
    for marker, place, end in _walk_segments(data):
        body = data[place + 4 : end]
        if marker == 0xDA:
            begin, after = place, end
            break
        if marker == 0xE1 and body.startswith(EXIF):
            if len(exif) < MOST_EXIF:
                exif.append(body[len(EXIF) if exif else 0 :])
        elif marker == 0xE1 and body.startswith(ADOBE_XMP):
            xmp = body[len(ADOBE_XMP) :]
        if marker in FRAMES and len(body) >= 6:
            pixels = int.from_bytes(body[1:3]) * int.from_bytes(body[3:5])
            frame = marker
        if not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):
            kept.append(data[place:end])
    if frame in SEQUENTIAL and begin < after:
        kept += data[begin : after - len(SPECTRUM)], SPECTRUM, data[after:]
    else:
        kept.append(data[begin:])
    scans = _count_scans(data, begin)
    if scans > MOST_SCANS or (scans > PLAIN and scans * pixels > MOST_WORK):
        raise ImageError(
            f"is a JPEG of {scans if scans <= MOST_SCANS else f'more than {MOST_SCANS}'} scans over {pixels:,} "
            "pixels, more than the limit; save it as a baseline JPEG"
        )
    working = 12 if frame in PROGRESSIVE or scans > 1 else 6
    return Survey(b"".join(kept), read_orientation(b"".join(exif), xmp), stored=3, working=working)


def _walk_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, begin, end) of each segment up to the first incomplete one; junk in between is skipped."""
    place = 2
    for _ in range(PIECES):
        place = data.find(b"\xff", place)
        while 0 <= place < len(data) - 1 and data[place + 1] == 0xFF:
            place += 1
        if place < 0 or place + 2 > len(data):
            return
        marker = data[place + 1]
        if marker in ALONE or marker == 0:
            place += 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xD9 or end > len(data):
            return
        yield marker, place, end
        place = end
    raise TooManyPieces("segments")


def _count_scans(data: bytes, begin: int) -> int:
    """Count the scans, up to one more than the limit. A scan's marker can't occur among its coded values."""
    count = sum(1 for _ in islice(SCANS.finditer(data, begin), PLAIN + 1))
    if count <= PLAIN:
        return count
    count, place = 0, begin
    for _ in range(PIECES):
        found = MARKER.search(data, place)
        if found is None or found[0] == b"\xff\xd9" or count > MOST_SCANS:
            return count
        count += found[0] == SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise TooManyPieces("segments")
