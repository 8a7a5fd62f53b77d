"""The parts of protobuf's wire format that ONNX files need (https://protobuf.dev/programming-guides/encoding)."""

from collections.abc import Iterator

NUMBER, MESSAGE = 0, 2
"""Kinds of fields: a whole number; a length and that many bytes."""
WIDTHS = {1: 8, 5: 4}
"""Sizes in bytes of the other kinds of fields."""


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield a message's fields: number, and the whole number or the bytes; raises ValueError or IndexError if they are
    damaged."""
    for number, value, _ in read_encoded(data):
        yield number, value


def read_encoded(data: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Yield a message's fields as `read_fields` does, each also in its encoded form, including its number."""
    at = 0
    while at < len(data):
        first = at
        key, at = _read_number(data, at)
        number, kind = key >> 3, key & 7
        if kind == NUMBER:
            value, at = _read_number(data, at)
            yield number, value, data[first:at]
            continue
        size = WIDTHS.get(kind)
        if size is None:
            if kind != MESSAGE:
                raise ValueError(f"unknown kind of field {kind}")
            size, at = _read_number(data, at)
        if at + size > len(data):
            raise ValueError("it is truncated")
        yield number, data[at : at + size], data[first : at + size]
        at += size


def read_numbers(data: memoryview) -> Iterator[int]:
    """Yield the whole numbers of a packed field."""
    at = 0
    while at < len(data):
        value, at = _read_number(data, at)
        yield value


def read_bytes(value: int | memoryview) -> memoryview:
    """Return a field's bytes; raises ValueError if it is a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value


def read_text(value: int | memoryview) -> str:
    """Return a field's first 4,096 bytes as text; raises ValueError if it is a number."""
    return bytes(read_bytes(value)[:4096]).decode("utf-8", "replace")


def encode_number(number: int, value: int) -> bytes:
    """Return a field with a whole number, at least 0."""
    return _encode(number << 3 | NUMBER) + _encode(value)


def encode_bytes(number: int, value: bytes) -> bytes:
    """Return a field with bytes, which may be those of a message."""
    return _encode(number << 3 | MESSAGE) + _encode(len(value)) + value


def _read_number(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number without an end")


def _encode(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
