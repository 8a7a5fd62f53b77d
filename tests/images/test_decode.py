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

from vitreous.errors import ConfigError, ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.containers.survey import apply_orientation
from vitreous.images.decode import decode, probe, read
from vitreous.images.formats import list_formats
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


@pytest.mark.parametrize("kind", list_formats())
def test_every_format_is_what_pillow_reads(kind: str) -> None:
    data = encoded(picture(), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    info = probe(data)
    assert (info.format, info.size) == (kind, Size(20, 30))
    assert np.abs(decode(data).astype(int) - expected).max() <= 1


def with_exif(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    return encoded(picture(), kind, exif=exif)


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def after_other_segments(orientation: int) -> bytes:
    """A JPEG whose EXIF comes after 100 KB of other segments."""
    data = with_exif("JPEG", orientation)
    place = data.index(b"\xff\xe1")
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
    other = (b"\xff\xe2\xff\xff" + bytes(65_533)) * 2
    return data[:place] + other + data[place:end] + data[end:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif_after_the_pixels(orientation: int) -> bytes:
    data = with_exif("PNG", orientation)
    place = data.index(b"eXIf") - 4
    end = place + 12 + int.from_bytes(data[place : place + 4])
    return data[:place] + data[end:-12] + data[place:end] + data[-12:]


def raw_profile(orientation: int, kind: bytes = b"zTXt") -> bytes:
    """A PNG with EXIF as ImageMagick writes it: hexadecimal digits in a text."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = exif.tobytes()
    text = f"\nexif\n{len(body):8}\n{body.hex()}\n".encode()
    text = b"Raw profile type exif\0" + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text)
    data = encoded(picture())
    return data[:33] + png_chunk(kind, text) + data[33:]


def xmp_in_png(orientation: int) -> bytes:
    data = encoded(picture())
    return data[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation)) + data[33:]


ORIENTED = {
    **{kind: lambda turned, kind=kind: with_exif(kind, turned) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")},
    "JPEG, far behind": after_other_segments,
    "JPEG, CMYK": lambda turned: encoded(
        picture(mode="CMYK"),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([turned, 0, 0, 0, 0, 0, 0]),
    ),
    "JPEG, XMP": lambda turned: encoded(picture(), "JPEG", xmp=xmp(turned)),
    "PNG, behind the pixels": exif_after_the_pixels,
    "PNG, raw profile": raw_profile,
    "PNG, raw profile in plain text": lambda turned: raw_profile(turned, b"tEXt"),
    "PNG, XMP": xmp_in_png,
    "WEBP, XMP": lambda turned: encoded(picture(), "WEBP", xmp=xmp(turned)),
    "TIFF, LZW": lambda turned: encoded(picture(), "TIFF", compression="tiff_lzw", tiffinfo={0x0112: turned}),
    "TIFF, XMP": lambda turned: encoded(picture(), "TIFF", tiffinfo={700: xmp(turned)}),
}
"""Orientation wherever it may lie."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("where", ORIENTED)
def test_exif_orientation_is_applied(where: str, orientation: int) -> None:
    from PIL import ImageOps

    data = ORIENTED[where](orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert probe(data).orientation == orientation
    assert probe(data).size == Size(upright.height, upright.width)
    assert np.abs(decode(data).astype(int) - np.asarray(upright)).max() <= 1
    assert upright.width == (20 if orientation >= 5 else 30)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heif_is_upright(orientation: int) -> None:
    import pillow_heif
    from PIL import ImageOps

    pillow_heif.register_heif_opener()
    data = with_exif("HEIF", orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert probe(data).size == Size(upright.height, upright.width)
    assert np.array_equal(decode(data), np.asarray(upright))


def test_turning_equals_pillows() -> None:
    from PIL import ImageOps

    for orientation in range(1, 9):
        image = picture(3, 5)
        exif = image.getexif()
        exif[0x0112] = orientation
        assert np.array_equal(
            apply_orientation(np.array(image), orientation), np.asarray(ImageOps.exif_transpose(image))
        )


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


@pytest.mark.parametrize(
    ("least", "reduction"), [((50, 75), 8), ((51, 75), 4), ((100, 151), 2), ((201, 300), 1), (None, 1)]
)
def test_settings_let_large_jpegs_be_decoded_as_pillows_draft_does(least, reduction) -> None:
    data = encoded(picture(400, 600), "JPEG", quality=95)
    config = DecodeConfig(at_least=least)
    assert (probe(data, config).reduction, probe(data, config).size) == (reduction, Size(400, 600))
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (600 // reduction, 400 // reduction))
        expected = np.asarray(image)
    assert decode(data, config).shape == expected.shape
    assert np.abs(decode(data, config).astype(int) - expected).max() <= 2
    assert decode(data, config, at_least=Size(400, 600)).shape == (400, 600, 3)  # what a crop needs goes before


def test_no_image_of_nothing_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"decode\.at_least is \(0, 9\); expected rows and columns of at least 1"):
        DecodeConfig(at_least=(0, 9))


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_sides_are_those_of_the_upright_image(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(400, 600), "JPEG", exif=exif)
    upright = (400, 600) if orientation == 1 else (600, 400)
    config = DecodeConfig(at_least=(upright[0] // 4, upright[1] // 4))
    assert (probe(data, config).size, probe(data, config).reduction) == (upright, 4)
    assert decode(data, config).shape == (upright[0] // 4, upright[1] // 4, 3)


@pytest.mark.parametrize("kind", ["PNG", "CMYK"])
def test_only_jpegs_of_grey_or_colours_are_reduced(kind: str) -> None:
    data = encoded(picture(400, 600, kind), "JPEG") if kind == "CMYK" else encoded(picture(400, 600))
    config = DecodeConfig(at_least=(50, 75))
    assert probe(data, config).reduction == 1
    assert decode(data, config).shape == (400, 600, 3)


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
    allowed = DecodeConfig(max_pixels=3_000_000_000, max_expansion=10**9)
    assert probe(huge, allowed).size == (50_000, 50_000)
    assert guarded == Image.MAX_IMAGE_PIXELS


def netpbm(kind: int, maximum: int, rows: int = 3, cols: int = 11, seed: int = 0) -> tuple[bytes, np.ndarray]:
    """A Netpbm file of a kind (1 to 6) and its values, 0..maximum."""
    channels = 3 if kind in (3, 6) else 1
    values = np.random.default_rng(seed).integers(0, maximum + 1, (rows, cols, channels), dtype=np.uint16)
    head = f"P{kind} # a comment\n{cols}\n# another 3 4\n {rows}" + (f" {maximum}" if kind not in (1, 4) else "") + "\n"
    if kind in (1, 4):
        ink = 1 - values[..., 0].astype(np.uint8)
        body = np.packbits(ink, axis=1).tobytes() if kind == 4 else "".join(map(str, ink.reshape(-1))).encode()
    elif kind < 4:
        body = b"# more\n" + " ".join(map(str, values.reshape(-1))).encode() + b"\n"
    else:
        body = values.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    return head.encode() + body, values


@pytest.mark.parametrize(("kind", "maximum"), [(1, 1), (2, 255), (2, 9), (2, 4095), (3, 255), (3, 1000)])
@pytest.mark.parametrize("binary", [False, True])
def test_netpbm_of_any_depth_is_scaled_by_its_own_white(kind: int, maximum: int, binary: bool) -> None:
    data, values = netpbm(kind + 3 * binary, maximum)
    expected = values.astype(np.float64) * 255 / maximum
    pixels = decode(data)
    assert probe(data).format == "PPM"
    assert np.abs(pixels - np.broadcast_to(expected, pixels.shape)).max() <= 0.5 + 1e-9
    if maximum in (1, 255):
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])


def test_levels_scale_what_has_more_than_eight_bits() -> None:
    twelve = (np.arange(16 * 16).reshape(16, 16) * 16).astype(np.uint16)  # 0 to 4080 of 4095
    for data in (encoded(Image.fromarray(twelve)), encoded(Image.fromarray(twelve), "TIFF", compression="tiff_lzw")):
        assert decode(data, mode="L").max() == 16  # unreadably dark without
        pixels = decode(data, DecodeConfig(levels=(0, 4095)), mode="L")[..., 0]
        assert np.abs(pixels - twelve.astype(float) * 255 / 4095).max() <= 0.5
    for wide in (np.arange(256).reshape(16, 16).astype(np.int32), np.arange(256).reshape(16, 16).astype(np.float32)):
        data = encoded(Image.fromarray(wide), "TIFF")
        assert np.array_equal(decode(data, DecodeConfig(levels=(0, 255)), mode="L")[..., 0], wide)
        assert np.array_equal(decode(data, DecodeConfig(levels=(255, 0)), mode="L")[..., 0], 255 - wide)
    eight = encoded(picture(mode="L"))
    assert np.array_equal(decode(eight, DecodeConfig(levels=(0, 4095))), decode(eight))


def test_levels_that_say_nothing_are_refused() -> None:
    nothing = encoded(Image.fromarray(np.array([[np.nan, 1]], np.float32)), "TIFF")
    with pytest.raises(ImageError, match=r"--decode\.levels 0 1"):
        decode(nothing)
    with pytest.raises(ImageError, match="not a number"):
        decode(nothing, DecodeConfig(levels=(0, 1)))


def test_a_jpeg_without_its_last_bytes_is_filled_if_that_is_asked_for() -> None:
    whole = encoded(picture(200, 300), "JPEG", quality=95)
    cut = whole[: len(whole) * 2 // 3]
    assert (probe(whole).complete, probe(cut).complete) == (True, False)
    with pytest.raises(ImageError, match=r"lacks its last bytes; a model trained with --decode\.truncated fill"):
        decode(cut)
    filled = decode(cut, DecodeConfig(truncated="fill"))
    assert np.array_equal(filled[:80], decode(whole)[:80])
    assert filled.shape == (200, 300, 3)
    assert np.ptp(filled[-8:, -8:].astype(int)) == 0
    with pytest.raises(ImageError, match="damaged JPEG"):  # it has its end, so that isn't what was asked for
        decode(cut + whole[-2:], DecodeConfig(truncated="fill"))


def test_large_pictures_are_converted_as_small_ones(monkeypatch) -> None:
    import vitreous.images.containers.survey

    for mode in ("P", "RGBA", "CMYK", "LA"):
        image = picture(40, 30, "RGB" if mode == "LA" else mode)
        data = encoded(image.convert("LA") if mode == "LA" else image, "JPEG" if mode == "CMYK" else "PNG")
        whole = decode(data)
        with monkeypatch.context() as patch:
            patch.setattr(vitreous.images.containers.survey, "BAND", 70)
            assert np.array_equal(decode(data), whole)
