"""Values of more than 8 bits, and modes of Pillow that no format has, as 8-bit pixels; and little memory meanwhile."""

import io
import itertools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from tests.support.image_bombs import chunk, png, saved

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode, probe, read_value_range
from vitreous.images.inputs import read_pixels
from vitreous.images.pillow import count_mode_channels
from vitreous.images.pixels import scale_to_bytes

WHOLE = PreprocessConfig(size=(2, 2), crop=1.0)


def tiff(pixels: np.ndarray, photometric: str = "minisblack", **how: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, **how)
    return file.getvalue()


@pytest.mark.parametrize("levels", [None, (0, 4095)])
def test_scaling_takes_little_memory(levels):
    data = b"P6\n1200 1200\n65535\n" + bytes(1200 * 1200 * 6)
    config = DecodeConfig(levels=levels)
    tracemalloc.start()
    decode(data, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 1200 * 1200  # the bytes that the survey states


@given(
    arrays.arrays(st.sampled_from(["u2", "i2", "u4", "i4", "u8", "i8", "i1"]), (3, 4)),
    st.sampled_from([None, (10.0, 4000.0), (65_535.0, 0.0)]),
)
def test_scaling_is_exact_for_every_whole_number(values, levels):
    found = scale_to_bytes(values, 65_535, DecodeConfig(levels=levels))
    for value, byte in zip(values.ravel().tolist(), found.ravel().tolist(), strict=True):
        black, white = levels or (0, 65_535)
        exact = min(255, max(0, (value - black) * 255 / (white - black)))
        assert abs(byte - exact) <= 0.5 + 1e-9


@pytest.mark.parametrize("mode", ["I;16B", "I;16L", "I;16N"])
def test_sixteen_bits_in_any_byte_order_of_pillow(mode):
    values = np.array([[0, 1000], [40_000, 65_535]], np.uint16)
    image = Image.frombytes(mode, (2, 2), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    expected = decode(saved(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(read_pixels(image, DecodeConfig(), WHOLE, "a"), expected)


@pytest.mark.parametrize("mode", ["PA", "RGBa", "La"])
def test_transparency_in_any_mode_of_pillow_is_composited(mode):
    found = read_pixels(Image.new(mode, (2, 2)), DecodeConfig(background=(9, 9, 9)), WHOLE, "a")
    np.testing.assert_array_equal(found, np.full((2, 2, 3), 9))


@pytest.mark.parametrize("kind", ["u2", "u4"])
def test_a_fourth_channel_is_what_the_tiff_says_as_in_eight_bits(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    for extra in ("unspecified", "assocalpha", "unassalpha"):
        expected = decode(tiff(pixels, "rgb", extrasamples=[extra]))
        found = decode(tiff(pixels.astype(kind) * np.array(257, kind), "rgb", extrasamples=[extra]))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_four_bands_without_colours_are_kept_or_refused(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 4)).astype(kind)
    data = tiff(pixels, extrasamples=["unspecified"] * 3)
    assert probe(data).mode == f"4;{8 * int(kind[1])}"
    scale = 1 if kind == "u1" else 255 / 65_535
    np.testing.assert_allclose(decode(data, mode=4), pixels * scale, rtol=1e-6)
    with pytest.raises(ImageError, match="4 channels, which are not colours; --channels 4 keeps them"):
        decode(data)


@pytest.mark.parametrize(("kind", "compression"), [("u2", None), ("u2", "lzw"), ("u4", None)])
def test_zero_is_white_where_the_tiff_says_so(kind, compression):
    values = np.array([[0, 1000], [40_000, 65_535]], kind)
    data = tiff(values, "miniswhite", compression=compression)
    expected = decode(tiff(65_535 - values), mode="L")
    np.testing.assert_array_equal(decode(data, mode="L"), expected)
    np.testing.assert_allclose(decode(data, mode=1)[..., 0], (65_535 - values) * (255 / 65_535), rtol=1e-6, atol=1e-9)
    assert decode(data, DecodeConfig(levels=(0, 65_535)), "L")[0, 0, 0] == 0  # levels are of the values in the file


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4", "u4", "i8", "u8"])
def test_grey_of_every_depth_has_a_header_and_pixels(kind):
    data = tiff(np.arange(64).reshape(8, 8).astype(kind))
    config = DecodeConfig(levels=(0, 63))
    assert probe(data).mode == ("F" if kind[0] == "f" else "I")
    assert read_value_range(data) == (0, 63)
    np.testing.assert_array_equal(decode(data, config, "L").ravel(), np.rint(np.arange(64) * 255 / 63))


def test_values_of_more_than_31_bits_are_neither_negative_nor_wrapped():
    data = tiff(np.full((2, 2), 3 * 10**9, np.uint32))
    assert decode(data, DecodeConfig(levels=(0, 4e9)), "L")[0, 0, 0] == 191
    assert read_value_range(data) == (3e9, 3e9)
    assert decode(tiff(np.full((2, 2, 3), 2**60, np.uint64), "rgb")).min() == 255


def test_levels_go_before_the_white_of_netpbm_when_channels_are_kept():
    values = np.array([1000, 2000], ">u2").tobytes()
    for white in (b"4095", b"65535"):
        data = b"P5\n2 1\n" + white + b"\n" + values
        assert decode(data, DecodeConfig(levels=(0, 2000)), 1).ravel().tolist() == [127.5, 255]
    assert decode(b"P5\n1 1\n15\n\x0f", DecodeConfig(levels=(0, 2000)), 1).item() == 255


@pytest.mark.parametrize(("mode", "background"), [*itertools.product(("RGB", "L"), (0, 90))])
def test_a_transparent_grey_of_sixteen_bits_is_composited(mode, background):
    data = png(2, 1, 16, 0, chunk(b"tRNS", b"\0\0"))
    found = decode(data, DecodeConfig(background=(background,) * 3), mode)
    assert (found == background).all()


def test_grey_of_a_netpbm_may_be_written_to():
    assert decode(b"P6\n1 1\n255\nabc", mode="L").flags.writeable


def test_a_cut_jpeg_in_cmyk_is_incomplete():
    data = saved(Image.new("CMYK", (64, 64)), "JPEG")
    assert (probe(data).complete, probe(data[:-20]).complete) == (True, False)


@pytest.mark.parametrize(("depth", "value"), [(1, 1), (2, 2), (4, 7), (8, 7)])
def test_a_grey_of_few_bits_is_composited_where_it_is_the_transparent_value_alone(depth, value):
    shades = [value] * 4 + [value - 1] * 4
    found = decode(write_grey(depth, shades, value), DecodeConfig(background=(0, 200, 0)))[0]
    spread = (value - 1) * 255 // (2**depth - 1)
    assert found.tolist() == [[0, 200, 0]] * 4 + [[spread] * 3] * 4


def write_grey(depth, shades, key):
    """Return a PNG of one row of 8 grey values, one of which is transparent."""
    packed = int("".join(f"{shade:0{depth}b}" for shade in shades), 2).to_bytes(depth)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)) + chunk(b"tRNS", struct.pack(">H", key))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" + packed)) + chunk(b"IEND", b"")


def test_a_transparent_colour_of_sixteen_bits_is_that_colour_to_its_last_bit():
    colours = np.array([[0x1234] * 3, [0x1235] * 3, [0x3456] * 3], ">u2")
    head = struct.pack(">IIBBBBB", 3, 1, 16, 2, 0, 0, 0), struct.pack(">HHH", *[0x1234] * 3)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head[0]) + chunk(b"tRNS", head[1])
    data += chunk(b"IDAT", zlib.compress(b"\0" + colours.tobytes())) + chunk(b"IEND", b"")
    assert decode(data)[0].tolist() == [[255] * 3, [0x12] * 3, [0x34] * 3]


def test_a_palette_with_transparency_has_four_channels():
    grey = Image.fromarray(np.array([[0, 9]], np.uint8)).convert("P")
    for how, channels in (({"transparency": 0}, 4), ({}, 3)):
        data = saved(grey, "PNG", **how)
        assert count_mode_channels(probe(data).mode) == channels
        assert decode(data, mode=channels).shape == (1, 2, channels)
