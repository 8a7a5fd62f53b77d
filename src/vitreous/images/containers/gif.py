"""GIF: the blocks before the first image, of which only its own control block is kept, and the number of images."""

from vitreous.errors import ImageError
from vitreous.images.containers.survey import FRAMES, PIECES, Survey, TooManyPieces
from vitreous.shapes import Size

EXTENSION, IMAGE, CONTROL = 0x21, 0x2C, 0xF9


def survey_gif(data: bytes) -> Survey:
    """Follow a GIF's blocks to its first image; comments and profiles before it are left out.

    Raises:
        ImageError: it has no image, or more blocks before it than the limit.
    """
    place = _skip_table(data, 10, 13)
    head, control, pieces = data[:place], b"", 0
    while data[place : place + 1] == bytes([EXTENSION]):
        end, blocks = _skip_blocks(data, place + 2, PIECES - pieces)
        if data[place + 1] == CONTROL:
            control = data[place:end]
        pieces += blocks + 1
        place = end
        if place + 2 > len(data):
            break
    if data[place : place + 1] != bytes([IMAGE]):
        raise ImageError("it has no image")
    screen, corner, extent = (
        [int.from_bytes(data[at : at + 2], "little") for at in (begin, begin + 2)]
        for begin in (6, place + 1, place + 5)
    )
    cols, rows = map(max, screen, map(sum, zip(corner, extent, strict=True)))  # Pillow enlarges the screen
    return Survey(head + control + data[place:], 1, _count_images(data, place), Size(rows, cols), 1, 12)


def _skip_table(data: bytes, flags: int, place: int) -> int:
    """Return the offset after a colour table, if the flags announce one."""
    flag_byte = data[flags] if flags < len(data) else 0
    return place + (3 << (flag_byte & 7) + 1 if flag_byte & 0x80 else 0)


def _skip_blocks(data: bytes, place: int, most: int) -> tuple[int, int]:
    """Return the offset after a chain of blocks, and their number; raises TooManyPieces."""
    for number in range(most):
        if place >= len(data) or not data[place]:
            return place + 1, number
        place += 1 + data[place]
    raise TooManyPieces("blocks")


def _count_images(data: bytes, place: int) -> int:
    """Count the images from the first on, within limits for images (FRAMES) and blocks; damage ends the count."""
    count, left = 0, PIECES
    while place + 10 <= len(data) and count < FRAMES and data[place] in (EXTENSION, IMAGE):
        image = data[place] == IMAGE
        begin = _skip_table(data, place + 9, place + 10) + 1 if image else place + 2
        try:
            place, blocks = _skip_blocks(data, begin, left)
        except TooManyPieces:
            return max(1, count)
        left -= blocks + 1
        count += image
    return max(1, count)
