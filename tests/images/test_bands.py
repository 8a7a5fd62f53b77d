"""Channels that are kept as they are, held against what tifffile, imagecodecs and Pillow write and compute."""

import io
import itertools
import struct
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from vitreous.errors import ConfigError, ImageError
from vitreous.images.augment import augment, mixup
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.containers.survey import apply_orientation
from vitreous.images.decode import decode, probe, read_value_range
from vitreous.images.pixels import describe_colours, select_visible
from vitreous.images.preprocess import preprocess_image
from vitreous.images.tensors import resize
from vitreous.shapes import Size

LEVELS = DecodeConfig(levels=(-500, 3000))


def values(kind: str, channels: int, shape: tuple[int, int] = (37, 53)) -> np.ndarray:
    return (np.random.default_rng(channels).normal(1000, 900, (*shape, channels))).clip(0).astype(kind)


def tiff(pixels: np.ndarray, planar: bool = False, **how: object) -> bytes:
    file = io.BytesIO()
    stored = pixels.transpose(2, 0, 1) if planar else pixels
    config = "separate" if planar else "contig"
    tifffile.imwrite(file, stored, photometric="minisblack", planarconfig=config, **how)
    return file.getvalue()


CASES = [
    (kind, channels, planar, order, compression, predictor, part)
    for kind, channels, planar, order, (compression, predictor), part in itertools.product(
        ("u1", "u2", "f4", "i2", "f8"),
        (2, 5, 13),
        (False, True),
        "<>",
        ((None, None), ("lzw", True), ("zlib", True), ("zlib", None), ("packbits", None), ("zstd", True)),
        ({"rowsperstrip": 11}, {"tile": (16, 32)}),
    )
][::13]


@pytest.mark.parametrize(("kind", "channels", "planar", "order", "compression", "predictor", "part"), CASES)
def test_every_layout_of_a_tiff(kind, channels, planar, order, compression, predictor, part):
    pixels = values(kind, channels)
    data = tiff(pixels, planar, byteorder=order, compression=compression, predictor=predictor, **part)
    config = DecodeConfig() if kind == "u1" else LEVELS
    expected = pixels.astype(np.float64)
    if kind != "u1":
        expected = (expected + 500) * 255 / 3500
    found = decode(data, config, channels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    info = probe(data)
    assert info.size == Size(37, 53)
    if kind != "u1" or channels > 4:
        assert info.mode == f"{channels};{'F' if kind[0] == 'f' else 8 * int(kind[1])}"


@pytest.mark.parametrize("bigtiff", [False, True])
def test_sixteen_bits_keep_their_depth(bigtiff):
    pixels = (np.arange(8 * 8 * 5).reshape(8, 8, 5) + 30_000).astype(np.uint16)
    found = decode(tiff(pixels, bigtiff=bigtiff), DecodeConfig(), 5)
    np.testing.assert_array_equal(np.rint(found.astype(np.float64) * 65_535 / 255), pixels)
    assert read_value_range(tiff(pixels)) == (30_000, 30_319)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_of_many_channels_is_turned(orientation):
    pixels = values("u1", 5)
    data = tiff(pixels, extratags=[(274, 3, 1, orientation, True)])
    np.testing.assert_array_equal(decode(data, DecodeConfig(), 5), apply_orientation(pixels, orientation))
    assert probe(data).size == Size(*apply_orientation(pixels, orientation).shape[:2])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_png_of_sixteen_bits_keeps_them(channels):
    pixels = np.random.default_rng(0).integers(65_536, size=(19, 23, channels)).astype(np.uint16)
    data = imagecodecs.png_encode(pixels)
    assert probe(data).mode == f"{channels};16"
    found = decode(data, DecodeConfig(), channels)
    np.testing.assert_allclose(found, pixels.astype(np.float64) * 255 / 65_535, rtol=1e-6)


def test_other_formats_give_the_channels_that_they_have():
    colours = Image.fromarray(values("u1", 3))
    for image, channels in (
        (colours, 3),
        (colours.convert("L"), 1),
        (colours.convert("RGBA"), 4),
        (colours.convert("LA"), 2),
    ):
        file = io.BytesIO()
        image.save(file, "PNG")
        expected = np.asarray(image).reshape(37, 53, channels)
        np.testing.assert_array_equal(decode(file.getvalue(), DecodeConfig(), channels), expected)
    grey = values("u2", 1)
    for kind in ("PNG", "TIFF", "PPM"):
        file = io.BytesIO()
        Image.fromarray(grey[..., 0]).save(file, kind)
        np.testing.assert_allclose(decode(file.getvalue(), DecodeConfig(), 1), grey * (255 / 65_535), rtol=1e-6)
    file = io.BytesIO()
    colours.save(file, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(file.getvalue(), DecodeConfig(), 3), decode(file.getvalue()))


def test_floating_point_colours_become_eight_bits_by_levels():
    pixels = values("f4", 3) / 3000
    config = DecodeConfig(levels=(0, 1))
    for planar in (False, True):
        expected = np.rint(np.clip(pixels.astype(np.float64), 0, 1) * 255)
        np.testing.assert_array_equal(decode(tiff(pixels, planar), config), expected)


@pytest.mark.parametrize(
    ("data", "mode", "words"),
    [
        (tiff(values("u2", 5)), "RGB", "has 5 channels, which are not colours; --channels 5 keeps them"),
        (tiff(values("u2", 5)), 4, "has 5 channels, but 4 are expected"),
        (imagecodecs.png_encode(values("u1", 3)), 5, "has 3 channels, but 5 are expected"),
        (tiff(values("f4", 5)), 5, "--decode.levels 0 1"),
        (tiff(values("u2", 5))[:-9000], 5, "truncated|lies outside"),
    ],
)
def test_what_does_not_fit_is_one_line(data, mode, words):
    with pytest.raises(ImageError, match=words) as caught:
        decode(data, DecodeConfig(), mode, name="a.tif")
    assert "\n" not in str(caught.value)


def test_levels_that_are_no_range_are_no_files_fault():
    with pytest.raises(ConfigError, match=r"decode\.levels are 5 and 5; black and white must differ"):
        DecodeConfig(levels=(5, 5))


def patched(data: bytes, **tags: int) -> bytes:
    """Change the first values of a little-endian TIFF's tags."""
    numbers = {
        "cols": 256,
        "rows": 257,
        "samples": 277,
        "strip": 278,
        "tile_cols": 322,
        "tile_rows": 323,
        "offsets": 273,
    }
    edited = bytearray(data)
    place = struct.unpack_from("<I", data, 4)[0]
    for entry in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        for name, number in numbers.items():
            if tag == number and name in tags:
                struct.pack_into("<HI", edited, entry + 2, 4, 1)
                struct.pack_into("<I", edited, entry + 8, tags[name])
    return bytes(edited)


@pytest.mark.parametrize(
    ("base", "tags"),
    [
        ({"rowsperstrip": 37, "compression": "zlib"}, {"rows": 60_000, "cols": 60_000}),
        ({"rowsperstrip": 37, "compression": "zlib"}, {"rows": 9_000, "cols": 9_000}),
        ({"rowsperstrip": 37, "compression": "zlib"}, {"samples": 65_535, "rows": 2_000, "cols": 2_000}),
        ({"rowsperstrip": 37, "compression": "zlib"}, {"rows": 2**32 - 1, "strip": 1}),
        ({"rowsperstrip": 37}, {"offsets": 2**31}),
        ({"rowsperstrip": 37}, {"rows": 38, "strip": 2}),
        ({"tile": (16, 16), "compression": "zlib"}, {"tile_cols": 2**31, "tile_rows": 2**31}),
        ({"tile": (16, 16), "compression": "zlib"}, {"tile_cols": 16, "tile_rows": 2**24}),
    ],
)
def test_huge_claims_are_refused_before_any_work(base, tags):
    data = patched(tiff(values("u2", 5), **base), **tags)
    started = time.process_time()
    for mode in (5, "RGB"):
        with pytest.raises(ImageError):
            decode(data, DecodeConfig(), mode)
    with pytest.raises(ImageError):
        read_value_range(data)
    assert time.process_time() - started < 1


def test_a_strip_that_expands_further_than_it_should_is_cut_off():
    pixels = np.zeros((1000, 1000, 5), np.uint8)
    data = patched(tiff(pixels, compression="zlib", rowsperstrip=1000), rows=10, strip=10)
    assert decode(data, DecodeConfig(), 5).shape == (10, 1000, 5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(17, 23), (61, 19)])
def test_resizing_is_pillows_channel_by_channel(interpolation, size):
    pixels = values("u2", 5).astype(np.float32) / 257
    found = resize(pixels, Size(*size), interpolation)
    kernel = getattr(Image.Resampling, interpolation.upper())
    for channel in range(5):
        plane = Image.fromarray(np.ascontiguousarray(pixels[:, :, channel]))
        np.testing.assert_allclose(
            found[:, :, channel], np.asarray(plane.resize(size[::-1], kernel)), atol=2e-4, rtol=1e-5
        )


def test_lanczos_in_eight_bits_is_pillows():
    pixels = np.random.default_rng(0).integers(256, size=(67, 45, 3), dtype=np.uint8)
    for size in ((30, 21), (90, 101)):
        expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(resize(pixels, Size(*size), "lanczos", precise=True) - expected).max() <= 1
    with pytest.raises(ConfigError, match="lanczos needs"):
        resize(pixels, Size(9, 9), "lanczos", antialias=False)


@pytest.mark.parametrize("crop", ["inception", "pad", "window", "eval"])
def test_augmenting_keeps_the_depth(crop):
    pixels = values("u2", 5)
    preprocess = PreprocessConfig(size=(24, 32), mode=5, crop=0.9)
    config = AugmentConfig(crop=crop, crop_fill="black", erase=0.0)
    found = augment(tiff(pixels), config, preprocess, DecodeConfig(), np.random.default_rng(1))
    assert found.shape == (24, 32, 5)
    assert found.dtype == np.float32
    assert np.abs(found - np.rint(found)).max() > 0.2
    mixed, share = mixup(found, found[::-1].copy(), 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(mixed, share * found + (1 - share) * found[::-1], rtol=1e-5, atol=1e-5)


def test_extreme_shapes_and_borders():
    long = values("u2", 5, (4, 3000))
    assert preprocess_image(tiff(long), DecodeConfig(), PreprocessConfig(size=(16, 16), mode=5, crop=0.1)).shape == (
        16,
        16,
        5,
    )
    bordered = PreprocessConfig(size=(16, 16), mode=5, crop=1.0, resize="border", mean=(0.1, 0.2, 0.3, 0.4, 0.51))
    found = preprocess_image(tiff(long), DecodeConfig(), bordered)
    np.testing.assert_allclose(found[0, 0], [25.5, 51, 76.5, 102, 130.05], rtol=1e-6)


def test_pictures_show_three_chosen_channels_and_say_so():
    pixels = values("u2", 5).astype(np.float32) / 16
    config = PreprocessConfig(mode=5, colours=(3, 2, 0))
    np.testing.assert_array_equal(select_visible(pixels, config), np.rint(np.clip(pixels[:, :, [3, 2, 0]], 0, 255)))
    assert "channels 3, 2, 0 (counted from 0) of 5" in describe_colours(config)
    assert describe_colours(PreprocessConfig()) == ""
    with pytest.raises(ConfigError, match="must be 0 to 4"):
        PreprocessConfig(mode=5, colours=(3, 2, 5))
    with pytest.raises(ConfigError, match="RGB, L, or 1 to"):
        PreprocessConfig(mode=0)
