"""Image files of every format that is read, and of many that aren't: described as `inspect` does, decoded as training does."""

import io
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from vitreous.api.inspection import inspect_image as describe
from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import decode, read
from vitreous.shapes import Size

COUNT = 20_000
PNG_START = b"\x89PNG\r\n\x1a\n"


def seeds(folder: Path) -> list[Path]:
    """Write a few pictures in many formats and modes, with metadata, frames and compressions."""
    made = {}
    for name, (picture, kind, options) in variants().items():
        file = io.BytesIO()
        picture.save(file, kind, **options)
        made[name] = file.getvalue()
    made["rle.bmp"] = rle_bmp()
    made |= {
        "planar.tif": deep_tiff(planarconfig="separate"),
        "tiles.tif": deep_tiff(tile=(16, 16), compression="zlib"),
    }
    paths = [folder / name for name in sorted(made)]
    for path in paths:
        path.write_bytes(made[path.name])
    return paths


def attempt(path: Path) -> None:
    """Describe the file; decode it to grey and, as training may, reduced."""
    config = DecodeConfig()
    try:
        described: ImageError | None = None
        describe(path)
    except ImageError as error:
        described = error
    decode(read(path, config), config, "L", at_least=Size(8, 8), name=path.name)
    if described is not None:
        raise described


def mend(name: str, data: bytes, chance: Random) -> bytes:
    """Correct the checksums of a PNG's chunks as far as its lengths lead."""
    if not data.startswith(PNG_START):
        return data
    mended, place = bytearray(data), len(PNG_START)
    while place + 12 <= len(mended):
        end = place + 8 + int.from_bytes(mended[place : place + 4])
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(mended)


def picture(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Draw a smooth picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def exif() -> Image.Exif:
    """Make EXIF with an orientation, a text and a nested directory."""
    made = Image.Exif()
    made[0x0112], made[0x010F] = 6, "camera" * 10
    made.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    return made


def variants() -> dict[str, tuple[Image.Image, str, dict]]:
    """Return what to save: file name -> (picture, format, options)."""
    about = {"exif": exif(), "icc_profile": b"profile" * 50}
    frames = [picture("P", seed) for seed in range(3)]
    several = {"save_all": True, "append_images": frames[1:], "duration": 50}
    deep = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    found: dict[str, tuple[Image.Image, str, dict]] = {
        "plain.jpg": (picture(), "JPEG", {"comment": b"text", **about}),
        "progressive.jpg": (picture(size=(64, 48)), "JPEG", {"progressive": True}),
        "grey.jpg": (picture("L"), "JPEG", {"restart_marker_blocks": 2}),
        "cmyk.jpg": (picture("CMYK"), "JPEG", {}),
        "frames.mpo": (picture(), "MPO", {"save_all": True, "append_images": [picture(seed=1), picture(seed=2)]}),
        "about.png": (picture(), "PNG", about),
        "animated.png": (frames[0], "PNG", several),
        "deep.png": (deep, "PNG", {}),
        "keyed.png": (picture("P"), "PNG", {"transparency": 3}),
        "animated.gif": (frames[0], "GIF", {**several, "loop": 0, "comment": b"text", "transparency": 1}),
        "plain.gif": (picture("L"), "GIF", {}),
        "about.webp": (picture("RGBA"), "WEBP", about),
        "lossless.webp": (picture(), "WEBP", {"lossless": True}),
        "animated.webp": (picture(), "WEBP", {"save_all": True, "append_images": [picture(seed=1)]}),
        "about.avif": (picture(), "AVIF", {"exif": exif()}),
        "animated.avif": (picture("RGBA"), "AVIF", {"save_all": True, "append_images": [picture("RGBA", 1)]}),
        "pages.tif": (picture(), "TIFF", {"save_all": True, "append_images": [picture(seed=1), picture("L")], **about}),
        "deep.tif": (deep, "TIFF", {"compression": "tiff_lzw"}),
    }
    for mode in ("1", "LA", "RGBA"):
        found[f"{mode}.png"] = (picture("L" if mode == "LA" else "RGB").convert(mode), "PNG", {})
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        found[f"{compression}.tif"] = (picture(), "TIFF", {"compression": compression})
    for compression in ("group3", "group4", "tiff_ccitt"):
        found[f"{compression}.tif"] = (picture("1"), "TIFF", {"compression": compression})
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        found[f"{mode}.bmp"] = (picture(mode), "BMP", {})
    return found


def deep_tiff(**how: Any) -> bytes:
    """Return colours of 16 bits, as Pillow can't write them."""
    file, pixels = io.BytesIO(), np.arange(3600, dtype=np.uint16).reshape(30, 40, 3) * 17
    stored = pixels.transpose(2, 0, 1) if how.get("planarconfig") == "separate" else pixels
    tifffile.imwrite(file, stored, photometric="rgb", predictor="compression" in how, **how)
    return file.getvalue()


def rle_bmp() -> bytes:
    """Lay out an 8-bit BMP in run-length encoding: 4 rows of 8 in runs, literals and a skip."""
    body = b"\x08\x05\0\0" + b"\x04\x01\0\x04\1\2\3\4\0\0" + b"\0\x02\x02\0\x06\x07\0\0" + b"\x08\x09\0\x01"
    palette = bytes(value for index in range(256) for value in (index, 255 - index, index, 0))
    start = 14 + 40 + len(palette)
    header = b"".join(
        number.to_bytes(width, "little")
        for number, width in (
            (40, 4),
            (8, 4),
            (4, 4),
            (1, 2),
            (8, 2),
            (1, 4),
            (len(body), 4),
            (0, 4),
            (0, 4),
            (256, 4),
            (0, 4),
        )
    )
    return (
        b"BM"
        + (start + len(body)).to_bytes(4, "little")
        + bytes(4)
        + start.to_bytes(4, "little")
        + header
        + palette
        + body
    )
