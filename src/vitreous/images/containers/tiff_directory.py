"""TIFF structures, of which EXIF is one: byte order, directories and their entries."""

import struct

ORIENTATION = 0x0112
XMP = 700
STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""How TIFF structures, such as EXIF, begin; + marks BigTIFF."""
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes per value, by TIFF's type number."""


class Entry:
    """One entry of a TIFF directory, whose values are read on demand."""

    def __init__(self, data: bytes, order: str, kind: int, count: int, place: int) -> None:
        self.data, self.order, self.kind, self.count, self.place = data, order, kind, count, place

    @property
    def length(self) -> int:
        """Bytes of the values, as the entry claims."""
        return WIDTHS.get(self.kind, 0) * self.count

    def read_first(self) -> int | None:
        """Return the first value of an entry of whole numbers, or None if it has none."""
        letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(self.kind)
        try:
            return struct.unpack_from(self.order + letter, self.data, self.place)[0] if letter and self.count else None
        except struct.error:
            return None

    def read_bytes(self, most: int) -> bytes:
        """Return the bytes of the values, at most `most`."""
        return self.data[self.place : self.place + min(self.length, most)]


def read_directory(data: bytes, place: int, order: str, big: bool) -> tuple[dict[int, Entry], int]:
    """Read the TIFF directory at an offset: its entries by tag, the first of each, and the offset of the next
    directory.

    Raises:
        struct.error: it doesn't lie within the data.
    """
    width, step, head = (8, 20, "HHQ") if big else (4, 12, "HHI")
    offset = "Q" if big else "I"
    count = struct.unpack_from(order + ("Q" if big else "H"), data, place)[0]
    place += 8 if big else 2
    found: dict[int, Entry] = {}
    for _ in range(min(count, 65_535)):
        tag, kind, number = struct.unpack_from(order + head, data, place)
        where = place + step - width
        if WIDTHS.get(kind, 0) * number > width:
            where = struct.unpack_from(order + offset, data, where)[0]
        found.setdefault(tag, Entry(data, order, kind, number, min(where, len(data))))
        place += step
    after = struct.unpack_from(order + offset, data, place)[0] if place + width <= len(data) else 0
    return found, after


def read_start(data: bytes) -> tuple[str, bool, int]:
    """Return a TIFF structure's byte order, whether it is BigTIFF, and the offset of its first directory.

    Raises:
        KeyError, struct.error: it is not a TIFF structure.
    """
    order, big = STARTS[data[:4]], data[:4].strip(b"IM\0") == b"+"
    return order, big, struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
