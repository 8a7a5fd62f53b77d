"""Valid files made invalid: bytes to bytes, drawn from a `random.Random` alone, so that a case can be made again."""

import re
from collections.abc import Callable
from random import Random

LARGEST = 4 * 2**20
"""Bytes of the largest file that a mutation makes."""
NEAR = 512
"""Half of all places are drawn from this many bytes at either end: headers, directories, trailers."""
NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
"""Values at the edges of fields that hold lengths, sizes and offsets."""
TOKENS = (
    *(b"", b"0", b"-1", b"1e400", b"9" * 400, b"NaN", b"Infinity", b"null", b"true", b"{}", b"[]", b'"', b"'", b"\0"),
    *(
        b"\r\n",
        b",",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"../" * 40,
        b"/dev/zero",
        b"[" * 5000,
        b'{"a":' * 5000,
    ),
)
"""What breaks readers of text."""
Mutation = Callable[[bytearray, Random, bytes], None]


def mutate(data: bytes, chance: Random, donor: bytes) -> bytes:
    """Return the bytes after one to four mutations. `donor`: another valid file, for splices."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        chance.choice(MUTATIONS)(changed, chance, donor)
        del changed[LARGEST:]
    return bytes(changed)


def place(data: bytes | bytearray, chance: Random) -> int:
    """Draw a place in the data, 0 to its length; headers and trailers as often as all the rest."""
    end = len(data)
    return min(
        end, chance.choice((chance.randint(0, end), chance.randint(0, NEAR), max(0, end - chance.randint(0, NEAR))))
    )


def stretch(data: bytes | bytearray, chance: Random) -> tuple[int, int]:
    """Draw a stretch (begin, end), most often a short one."""
    begin = place(data, chance)
    return begin, min(len(data), begin + chance.choice((1, 4, 16, 64, 1024, len(data))))


def flip_bits(data: bytearray, chance: Random, donor: bytes) -> None:
    """Flip one to sixteen bits."""
    for _ in range(chance.randint(1, 16) if data else 0):
        data[min(place(data, chance), len(data) - 1)] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: Random, donor: bytes) -> None:
    """Put noise over a few bytes."""
    begin, width = place(data, chance), chance.randint(1, 32)
    data[begin : begin + width] = chance.randbytes(width)


def edit_number(data: bytearray, chance: Random, donor: bytes) -> None:
    """Put an extreme length, size or offset of 1, 2, 4 or 8 bytes somewhere, in either byte order."""
    width = chance.choice((1, 2, 2, 4, 4, 8))
    value = chance.choice((*NUMBERS, len(data), len(data) + 1, len(data) * 2)) % 256**width
    begin = place(data, chance)
    data[begin : begin + width] = value.to_bytes(width, chance.choice(("little", "big")))


def edit_digits(data: bytearray, chance: Random, donor: bytes) -> None:
    """Replace a number written in digits, or put an extreme one where there is none."""
    found = list(re.finditer(rb"-?\d+", data[: 64 * 1024]))
    begin, end = chance.choice(found).span() if found else stretch(data, chance)
    data[begin:end] = str(chance.choice((-1, -(2**31), *NUMBERS))).encode()


def insert_token(data: bytearray, chance: Random, donor: bytes) -> None:
    """Put a token that readers of text stumble over in, or in place of a few bytes."""
    begin = place(data, chance)
    data[begin : begin + chance.choice((0, 1, 8))] = chance.choice(TOKENS)


def truncate(data: bytearray, chance: Random, donor: bytes) -> None:
    """Cut the end off."""
    del data[place(data, chance) :]


def extend(data: bytearray, chance: Random, donor: bytes) -> None:
    """Go on after the end: with noise, zeros, or another file."""
    width = chance.choice((1, 100, 10_000))
    data += chance.choice((chance.randbytes(width), bytes(width), donor))


def remove(data: bytearray, chance: Random, donor: bytes) -> None:
    """Take a stretch out."""
    begin, end = stretch(data, chance)
    del data[begin:end]


def duplicate(data: bytearray, chance: Random, donor: bytes) -> None:
    """Repeat a stretch, once to thousands of times."""
    begin, end = stretch(data, chance)
    times = chance.choice((1, 2, 50, 3000))
    data[end:end] = bytes(data[begin:end]) * min(times, LARGEST // max(1, end - begin))


def move(data: bytearray, chance: Random, donor: bytes) -> None:
    """Put a stretch elsewhere."""
    begin, end = stretch(data, chance)
    piece = bytes(data[begin:end])
    del data[begin:end]
    to = place(data, chance)
    data[to:to] = piece


def splice(data: bytearray, chance: Random, donor: bytes) -> None:
    """Go on with the rest of another file, or take a piece of it in."""
    begin, end = stretch(donor, chance)
    at = place(data, chance)
    if chance.random() < 0.5:
        data[at:] = donor[begin:]
    else:
        data[at : at + end - begin] = donor[begin:end]


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, overwrite, edit_number, edit_number, edit_digits, insert_token),
    *(truncate, extend, remove, duplicate, move, splice),
)
