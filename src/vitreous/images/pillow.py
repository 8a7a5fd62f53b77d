"""Open a format with Pillow's one reader for it, within the limits, and interpret its modes."""

import io
import threading
import warnings
from functools import cache

from PIL import Image, ImageFile

from vitreous.images.config import DecodeConfig
from vitreous.images.containers.exif import read_orientation
from vitreous.images.containers.survey import Survey
from vitreous.images.formats import is_extra_installed
from vitreous.images.limits import check_limits
from vitreous.shapes import Size

_guard = threading.Lock()
"""Held while Pillow's own limit is disabled."""


def open_limited(kind: str, survey: Survey, length: int, config: DecodeConfig) -> Image.Image:
    """Open with Pillow's reader for the format, header only, within the limits."""
    if survey.size is not None:
        check_limits(survey.size, survey, length, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = open_unguarded(survey.data, kind)
    check_limits(Size(image.size[1], image.size[0]), survey, length, config)
    return image


def open_unguarded(data: bytes, kind: str) -> Image.Image:
    """Let Pillow read the header. The configured limit, checked right after, replaces its own guard against bombs."""
    register_extra()
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError:
        with _guard:
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
    or similar."""
    raw = image.tile[0].args if kind == "PNG" and image.tile else ""
    return {"RGB;16B": "3;16", "RGBA;16B": "4;16", "LA;16B": "2;16"}.get(str(raw), image.mode)


def count_mode_channels(mode: str) -> int:
    """Return the number of channels of a mode; for a palette, that of its colours."""
    number, apart, _ = mode.partition(";")
    if apart and number.isdigit():
        return int(number)
    return {"L": 1, "1": 1, "I": 1, "F": 1, "LA": 2, "La": 2, "RGBA": 4, "RGBX": 4, "CMYK": 4, "RGBa": 4}.get(number, 3)


ImageFile.LOAD_TRUNCATED_IMAGES = False
