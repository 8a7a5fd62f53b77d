import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import decode, probe, read, turn
from vitreous.images.formats import formats
from vitreous.shapes import Size


def picture(rows: int = 20, cols: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth picture, so that lossy formats stay near it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return small.resize((cols, rows), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", formats())
def test_every_format_is_what_pillow_reads(kind: str) -> None:
    data = encoded(picture(), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    info = probe(data)
    assert (info.format, info.size) == (kind, Size(20, 30))
    assert np.abs(decode(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert probe(data).size == Size(upright.height, upright.width)
    assert np.abs(decode(data).astype(int) - np.asarray(upright)).max() <= 1


def test_turning_equals_pillows() -> None:
    from PIL import ImageOps

    for orientation in range(1, 9):
        image = picture(3, 5)
        exif = image.getexif()
        exif[0x0112] = orientation
        assert np.array_equal(turn(np.array(image), orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encoded(Image.fromarray(ramp), kind), mode="L")[:, :, 0]
        assert np.abs(pixels.reshape(-1).astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_modes_become_rgb_and_grey(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(picture(mode=mode), kind)
    expected = Image.open(io.BytesIO(data))
    assert np.abs(decode(data).astype(int) - np.asarray(expected.convert("RGB"))).max() <= 1
    assert decode(data, mode="L").shape == (20, 30, 1)


def test_transparency_is_composited_over_the_background() -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((0, 0), (200, 0, 0, 255))
    for kind in ("PNG", "WEBP"):
        pixels = decode(encoded(image, kind, lossless=True), DecodeConfig(background=(1, 2, 3)))
        assert tuple(pixels[3, 3]) == (1, 2, 3)
        assert tuple(pixels[0, 0]) == (200, 0, 0)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9, 50, 60, 70])
    assert tuple(decode(encoded(palette, "PNG", transparency=0))[0, 0]) == (255, 255, 255)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [picture(seed=seed).quantize() for seed in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert probe(data).frames == 3
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_wrong_extension_does_not_matter(tmp_path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(picture()))
    assert decode(read(path)).shape == (20, 30, 3)


def test_reduced_jpegs_still_cover_what_is_asked_for() -> None:
    data = encoded(picture(400, 600), "JPEG", quality=95)
    whole = decode(data)
    for need, size in ((Size(100, 150), (100, 150)), (Size(101, 150), (200, 300)), (Size(399, 2), (400, 600))):
        assert decode(data, at_least=need).shape[:2] == size
    near = Image.fromarray(whole).resize((150, 100), Image.Resampling.BOX)
    assert np.abs(decode(data, at_least=Size(100, 150)).astype(int) - np.asarray(near)).mean() < 2


def png_header(cols: int, rows: int) -> bytes:
    body = struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + chunk + idat


def jpeg_with_size(rows: int, cols: int) -> bytes:
    data = bytearray(encoded(picture(), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", rows, cols)
    return bytes(data)


HOSTILE = {
    "empty": b"",
    "text": b"this is no image at all\n" * 10,
    "truncated jpeg": encoded(picture(200, 300), "JPEG")[:2000],
    "truncated png": encoded(picture(200, 300))[:3000],
    "truncated webp": encoded(picture(200, 300), "WEBP")[:200],
    "truncated tiff": encoded(picture(200, 300), "TIFF")[:900],
    "truncated gif": encoded(picture(200, 300), "GIF")[:900],
    "only a jpeg's start": b"\xff\xd8\xff\xe0",
    "huge png": png_header(50_000, 50_000),
    "huge jpeg": jpeg_with_size(50_000, 50_000),
    "float tiff": encoded(Image.new("F", (3, 3)), "TIFF"),
    "pdf": b"%PDF-1.4 ...",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_clear_line(name: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ImageError) as caught:
        warnings.simplefilter("error")
        decode(HOSTILE[name], name="holiday.jpg")
    assert "holiday.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_come_from_the_header() -> None:
    import tracemalloc

    tracemalloc.start()
    for name in ("huge png", "huge jpeg"):
        with pytest.raises(ImageError, match="limit of"):
            decode(HOSTILE[name])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    with pytest.raises(ImageError, match="limit of 599"):
        decode(encoded(picture()), DecodeConfig(max_pixels=599))


def test_the_limit_of_bytes_is_checked_before_reading(tmp_path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(encoded(picture()))
    with pytest.raises(ImageError, match="more than the limit"):
        read(path, DecodeConfig(max_bytes=10))
    with pytest.raises(ImageError, match="a folder"):
        read(tmp_path)
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "absent.png")


def test_broken_exif_is_no_reason_to_refuse() -> None:
    data = encoded(picture(), "JPEG")
    broken = data[:2] + b"\xff\xe1\x00\x10Exif\x00\x00garbage!" + data[2:]
    assert decode(broken).shape == (20, 30, 3)


def test_one_pixel() -> None:
    assert decode(encoded(Image.new("L", (1, 1), 7))).tolist() == [[[7, 7, 7]]]


@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]), st.integers(0, 200))
def test_no_bytes_raise_anything_else(noise: bytes, kind: str, place: int) -> None:
    data = bytearray(encoded(picture(), kind))
    data[place : place + len(noise)] = noise
    with contextlib.suppress(ImageError):
        decode(bytes(data), DecodeConfig(max_pixels=10**6))


def test_a_limit_above_pillows_own_holds() -> None:
    huge, guarded = HOSTILE["huge png"], Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=r"has 50000x50000 = 2,500,000,000 pixels, .*raise --decode.max-pixels"):
        probe(huge)
    assert probe(huge, DecodeConfig(max_pixels=3_000_000_000)).size == (50_000, 50_000)
    assert guarded == Image.MAX_IMAGE_PIXELS
