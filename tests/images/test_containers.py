"""Containers that repeat, misstate or overstate what hangs on an image: little work, and the right size and pixels."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.support.image_bombs import chunk, claims, gif_claims, saved, small_png, tiff

from vitreous.errors import ImageError
from vitreous.images.decode import decode, probe


def seconds(data: bytes) -> float:
    started = time.process_time()
    probe(data)
    return time.process_time() - started


def orientation(value: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, value) + bytes(4)


def test_a_repeated_profile_is_unpacked_once():
    lines = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n" * 2**20, 9))
    assert seconds(small_png(lines * 100)) < 0.5
    texts = (f"\nexif\n{22:8}\n{orientation(value).hex()}\n".encode() for value in (6, 3))
    both = b"".join(chunk(b"tEXt", b"Raw profile type exif\0" + text) for text in texts)
    assert probe(small_png(both)).orientation == 6


def test_exif_in_very_many_segments_takes_linear_time():
    data = saved(Image.new("RGB", (8, 8)), "JPEG")
    body = b"Exif\0\0" + orientation(6) + bytes(200)
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    repeated = data[:2] + segment * 30_000 + data[2:]
    assert seconds(repeated) < 1
    assert probe(repeated).orientation == 6


@pytest.mark.parametrize("samples", [1, 3])
def test_tiles_far_larger_than_the_image_are_refused(samples):
    tags = [(262, 3, 1, 1 if samples == 1 else 2) if tag[0] == 262 else tag for tag in claims(8, 8, 8, samples=samples)]
    tiled = [*tags, (322, 4, 1, 20_000), (323, 4, 1, 20_000), (324, 4, 1, 8), (325, 4, 1, 1)]
    for action in (probe, decode):
        with pytest.raises(ImageError, match="tiles of 20000 x 20000 pixels are larger than the image"):
            action(tiff(tiled, bytes(400)))


def test_very_many_comments_among_digits_are_refused():
    assert decode(b"P2\n2 1\n255\n" + b"#\n" * 1000 + b"0 #one\n255", mode="L").ravel().tolist() == [0, 255]
    with pytest.raises(ImageError, match="more than 100,000 comments"):
        decode(b"P2\n1 1\n255\n0\n" + b"#\n" * 100_001)


def test_a_gif_beyond_its_screen_has_the_size_that_is_decoded():
    data = bytearray(gif_claims(1, 1))
    data[6:10] = struct.pack("<HH", 2, 9)
    place = data.index(b",\0\0\0\0")
    data[place + 1 : place + 5] = struct.pack("<HH", 4, 3)
    assert probe(bytes(data)).size == decode(bytes(data)).shape[:2] == (9, 5)


def test_a_scan_header_of_zeros_is_read_like_any_other():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    data = bytearray(saved(image, "JPEG"))
    expected, scan = decode(bytes(data)), data.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])
    data[end - 3 : end] = bytes(3)
    np.testing.assert_array_equal(decode(bytes(data)), expected)
    assert Image.open(io.BytesIO(bytes(data))).convert("RGB").size == (50, 40)
    data[end + 200 : end + 300] = bytes(100)
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode(bytes(data)[: end + 300] + b"\xff\xd9")
