"""Open a format with Pillow's one reader for it, within the limits; interpret and convert its modes, in bands to save
memory."""

import io
import os
import threading
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageFile

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig, Mode
from vitreous.images.containers.survey import Survey, check_limits, read_orientation, split_bands
from vitreous.images.formats import is_extra_installed
from vitreous.images.pixels import UNKNOWN, WHITE, convert_grey, scale_to_bytes
from vitreous.shapes import Num, Size, UInt8

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of more than 8 bits."""
SPREAD = {"L;2": 85, "L;4": 17}
"""Factors by which Pillow spreads the grey values of a PNG of 2 and 4 bits, but not its transparent value."""
_guard = threading.Lock()
"""Held while the process's warnings or Pillow's own limit are disabled, and by a thread that forks."""
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def open_limited(kind: str, survey: Survey, length: int, config: DecodeConfig) -> Image.Image:
    """Open with Pillow's reader for the format, header only, within the limits."""
    if survey.size is not None:
        check_limits(survey.size, survey, length, config)
    with _guard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = open_unguarded(survey.data, kind)
    check_limits(Size(image.size[1], image.size[0]), survey, length, config)
    if kind == "PNG" and image.tile and (step := SPREAD.get(str(image.tile[0].args))) and "transparency" in image.info:
        image.info["transparency"] *= step
    return image


def open_unguarded(data: bytes, kind: str) -> Image.Image:
    """Let Pillow read the header, with `_guard` held. The configured limit, checked right after, replaces its own guard
    against bombs."""
    register_extra()
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError:
        guarded = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = None
            return Image.open(io.BytesIO(data), formats=[kind])
        finally:
            Image.MAX_IMAGE_PIXELS = guarded


@cache
def register_extra() -> None:
    """Teach Pillow to read HEIF, where the extra is installed."""
    if is_extra_installed("HEIF"):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def find_remaining_orientation(image: Image.Image, kind: str, survey: Survey) -> int:
    """Return the orientation that is still to be applied; HEIF's decoder has already applied it, AVIF's gives it as
    EXIF."""
    return read_orientation(image.info.get("exif"), image.info.get("xmp")) if kind == "AVIF" else survey.orientation


def name_mode(image: Image.Image, kind: str) -> str:
    """Return a mode by Pillow's name; for a 16-bit PNG with several channels, which Pillow has no name for, "3;16"
    or similar; PA for a palette with transparency."""
    if image.mode == "P" and image.has_transparency_data:
        return "PA"
    raw = image.tile[0].args if kind == "PNG" and image.tile else ""
    return {"RGB;16B": "3;16", "RGBA;16B": "4;16", "LA;16B": "2;16"}.get(str(raw), image.mode)


def count_mode_channels(mode: str) -> int:
    """Return the number of channels of a mode; for a palette, that of its colours."""
    number, apart, _ = mode.partition(";")
    if apart and number.isdigit():
        return int(number)
    return {"L": 1, "1": 1, "I": 1, "F": 1, "LA": 2, "La": 2, "RGBA": 4, "RGBX": 4, "CMYK": 4, "RGBa": 4, "PA": 4}.get(
        number, 3
    )


def convert_from_pillow(image: Image.Image, mode: Mode, config: DecodeConfig) -> UInt8[np.ndarray, "row col channel"]:
    """Convert any of Pillow's modes: more than 8 bits are scaled, transparency is composited, colours are kept.

    Raises:
        ImageError: floating-point pixels without configured levels.
    """
    if image.mode in DEEP:
        grey = _scale_in_bands(image, config)
        if "transparency" not in image.info:
            return convert_grey(grey, mode)
        visible = (np.asarray(image) != image.info["transparency"])[:, :, None]
        image = Image.fromarray(np.concatenate([grey, visible * np.uint8(255)], axis=2))

    def convert(band: Image.Image) -> Image.Image:
        if transparent:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, (*config.background, 255)), band)
        return band.convert(mode)

    transparent = image.has_transparency_data
    return _convert_in_bands(image, 1 if mode == "L" else 3, convert)


def _convert_in_bands(
    image: Image.Image, channels: int, convert: Callable[[Image.Image], Image.Image]
) -> UInt8[np.ndarray, "row col channel"]:
    """Assemble an image from bands, each converted on its own."""
    cols, rows = image.size
    out = np.empty((rows, cols, channels), np.uint8)
    for band in split_bands(rows, cols):
        part = convert(image.crop((0, band.start, cols, band.stop)))
        out[band] = np.asarray(part).reshape(-1, cols, channels)
    return out


def _scale_in_bands(image: Image.Image, config: DecodeConfig) -> UInt8[np.ndarray, "row col 1"]:
    """Scale an image with more than 8 bits a channel."""
    if image.mode == "F" and config.levels is None:
        raise ImageError(UNKNOWN)
    return _convert_in_bands(image, 1, lambda band: Image.fromarray(scale_to_bytes(np.asarray(band), WHITE, config)))


def read_channels(image: Image.Image) -> Num[np.ndarray, "row col channel"]:
    """Return a Pillow image's values by channel, with a palette's colours, and alpha as one of the channels."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "YCbCr":
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    found = np.asarray(image)
    return found[:, :, None] if found.ndim == 2 else found


ImageFile.LOAD_TRUNCATED_IMAGES = False
