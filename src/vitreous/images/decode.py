"""Bytes to pixels: limits checked before work, orientation applied, every mode brought to RGB or grey.

The format is told by content, never by a file's extension. A survey of the container (`containers`) comes first; then
JPEG goes through simplejpeg (libjpeg-turbo), Netpbm through numpy, the other formats through the one reader of Pillow's
that is for them.
"""

import io
import stat
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig, Mode
from vitreous.images.containers import bmp, gif, jpeg, png, ppm, tiff, webp
from vitreous.images.containers.exif import orientation
from vitreous.images.containers.survey import Survey, turned_size
from vitreous.images.formats import EXTRA, REMEDY, SAVE, extra_installed, formats, sniff
from vitreous.images.limits import check
from vitreous.images.pixels import DEEP, from_pillow, grey_to, scale
from vitreous.shapes import Size

SURVEYS: dict[str, Callable[[bytes], Survey]] = {
    "JPEG": jpeg.survey,
    "PNG": png.survey,
    "GIF": gif.survey,
    "TIFF": tiff.survey,
    "WEBP": webp.survey,
    "BMP": bmp.survey,
    "PPM": ppm.survey,
}
MEDIA = 20
"""Bytes that a pixel of AVIF or HEIF takes: their decoders hold planes, references and a copy."""
REDUCTIONS = (8, 4, 2)
"""Scales 1/8, 1/4 and 1/2 are read off a JPEG's DCT blocks at less cost; the odd ones in between cost more than they save."""
ENDING = b"\xff\xd9"
"""Of a JPEG."""

_guard = threading.Lock()
"""Held while Pillow's limit is out of force."""


@dataclass(frozen=True)
class ImageInfo:
    """What an image's header says."""

    format: str
    """One of `formats()`."""
    size: Size
    """Rows and columns after the orientation is applied."""
    mode: str
    """The file's own colour mode, as Pillow names it."""
    orientation: int
    """Orientation by EXIF or XMP, 1 (upright) to 8."""
    frames: int
    """Frames of an animation, pages of a document; only the first is decoded."""
    complete: bool = True
    """Whether a JPEG has its last bytes."""


def read(path: Path, config: DecodeConfig = DecodeConfig()) -> bytes:
    """Return a file's bytes; raises ImageError if it is missing, unreadable, empty or larger than the limit."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, not an image file")
        if status.st_size > config.max_bytes:
            raise ImageError(f"{path} has {status.st_size:,} bytes, more than the limit of {config.max_bytes:,}")
        return path.read_bytes()
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"can't read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a NUL
        raise ImageError(f"can't read {path}: {error}") from error


def probe(data: bytes, config: DecodeConfig = DecodeConfig(), name: str = "image") -> ImageInfo:
    """Read an image's header alone; raises ImageError if it is no image or over the limits."""
    kind = None
    try:
        kind, survey = _surveyed(data, config)
        return _info(kind, survey, len(data), config)
    except Exception as error:
        raise _broken(error, name, kind) from error


def _info(kind: str, survey: Survey, length: int, config: DecodeConfig) -> ImageInfo:
    """Read what a header says beyond the survey, within the limits."""
    turned = survey.orientation
    if kind == "PPM":
        told = ppm.header(survey.data)
        check(told.size, survey, length, config)
        mode = "RGB" if told.channels == 3 else "I;16" if told.top > 255 else "1" if told.top == 1 else "L"
        return ImageInfo(kind, told.size, mode, turned, survey.frames)
    if kind == "JPEG" and (header := _jpeg_header(survey.data)) is not None:
        size, space = header
        check(size, survey, length, config)
        upright = turned_size(*size, turned)
        return ImageInfo(kind, upright, "L" if space == "Gray" else "RGB", turned, 1, ENDING in survey.data)
    with _opened(kind, survey, length, config) as image:
        turned = _orientation(image, kind, survey)
        cols, rows = image.size
        upright = survey.size or turned_size(rows, cols, turned)
        frames = survey.frames if kind in SURVEYS else getattr(image, "n_frames", 1)
        return ImageInfo(kind, upright, image.mode, turned, frames)


def decode(
    data: bytes,
    config: DecodeConfig = DecodeConfig(),
    mode: Mode = "RGB",
    *,
    at_least: Size | None = None,
    name: str = "image",
) -> UInt8[np.ndarray, "row col channel"]:
    """Decode an image, upright, in the wanted mode.

    Args:
        data: the file's bytes.
        config: limits, and the colour that transparency is composited over.
        mode: RGB (3 channels) or L (1 channel).
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if that still covers this size (training only).
        name: what error messages call the image.

    Raises:
        ImageError: not an image of a known format, damaged, truncated, or over the limits.
    """
    kind = None
    try:
        kind, survey = _surveyed(data, config)
        if kind == "PPM":
            check(ppm.header(data).size, survey, len(data), config)
            return _decode_ppm(data, config, mode)
        if kind == "JPEG" and (header := _jpeg_header(survey.data)) is not None:
            check(header[0], survey, len(data), config)
            return _decode_jpeg(survey, header[0], config, mode, at_least)
        return _decode_pillow(kind, survey, len(data), config, mode)
    except MemoryError as error:
        raise ImageError(f"{name}: too little memory to decode it") from error
    except Exception as error:
        raise _broken(error, name, kind) from error


def value_range(data: bytes, config: DecodeConfig = DecodeConfig()) -> tuple[float, float] | None:
    """Return the smallest and the largest value of an image of more than 8 bits a channel, None for others; ImageError."""
    try:
        kind, survey = _surveyed(data, config)
        if kind in ("JPEG", "PPM"):  # eight bits, or a header that says what white is
            return None
        with _opened(kind, survey, len(data), config) as image:
            if image.mode not in DEEP:
                return None
            image.load()
            low, high = image.getextrema()
            return float(low), float(high)
    except Exception as error:
        raise _broken(error, "image", None) from error


def _surveyed(data: bytes, config: DecodeConfig) -> tuple[str, Survey]:
    """Tell a file's format by its content and survey its container, within the limits; raises ImageError."""
    if not data:
        raise ImageError("it is empty (0 bytes)")
    if len(data) > config.max_bytes:
        raise ImageError(f"it has {len(data):,} bytes, more than the limit of {config.max_bytes:,}")
    kind = sniff(data)
    if kind is None:
        raise ImageError(f"it is not an image of a known format ({', '.join(formats())})")
    if kind not in formats():
        raise ImageError(f"it is {kind}: {REMEDY if kind in EXTRA else SAVE}")
    return kind, SURVEYS[kind](data) if kind in SURVEYS else Survey(data, working=MEDIA)


def _decode_ppm(data: bytes, config: DecodeConfig, mode: Mode) -> UInt8[np.ndarray, "row col channel"]:
    told = ppm.header(data)
    deep = replace(config, levels=None) if told.top <= 255 else config
    pixels = scale(ppm.values(data, told), told.top, deep)
    return _to_grey_or_rgb(pixels, mode)


def _to_grey_or_rgb(pixels: UInt8[np.ndarray, "row col channel"], mode: Mode) -> UInt8[np.ndarray, "row col channel2"]:
    """Bring grey or RGB to the mode, as Pillow does."""
    if pixels.shape[2] == 1:
        return grey_to(pixels, mode)
    return pixels if mode == "RGB" else np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _decode_pillow(
    kind: str, survey: Survey, length: int, config: DecodeConfig, mode: Mode
) -> UInt8[np.ndarray, "row col channel"]:
    """Decode with Pillow's reader for the format."""
    with _opened(kind, survey, length, config) as image:
        turned = _orientation(image, kind, survey)
        image.load()
        pixels = from_pillow(image, mode, config)
    del image  # before turning takes as much again
    return pixels if kind == "TIFF" else turn(pixels, turned)  # Pillow turns TIFF itself, while loading


def _decode_jpeg(
    survey: Survey, size: Size, config: DecodeConfig, mode: Mode, at_least: Size | None
) -> UInt8[np.ndarray, "row col channel"]:
    """Decode a JPEG of one or three colour planes."""
    whole = ENDING in survey.data
    if not whole and config.truncated == "refuse":
        raise ImageError("it is a damaged JPEG image: it lacks its last bytes; --decode.truncated fill makes them grey")
    factor = 1 if at_least is None else _reduction(size, at_least, survey.orientation)
    pixels = simplejpeg.decode_jpeg(
        survey.data,
        "GRAY" if mode == "L" else "RGB",
        min_factor=factor,
        min_height=-(-size.rows // factor) if factor > 1 else 0,
        min_width=-(-size.cols // factor) if factor > 1 else 0,
        strict=whole,
    )
    return turn(pixels, survey.orientation)


def _jpeg_header(data: bytes) -> tuple[Size, str] | None:
    """Return the size as stored and the colour space; None for CMYK and for headers that libjpeg refuses."""
    try:
        rows, cols, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (Size(rows, cols), space) if space in ("YCbCr", "Gray", "RGB") else None


def _reduction(size: Size, at_least: Size, orientation: int) -> int:
    """Return the largest of the cheap divisors that leaves at least this size."""
    wanted = Size(at_least.cols, at_least.rows) if orientation >= 5 else at_least
    for factor in REDUCTIONS:
        if size.rows // factor >= wanted.rows and size.cols // factor >= wanted.cols:
            return factor
    return 1


def turn(pixels: UInt8[np.ndarray, "row col channel"], orientation: int) -> UInt8[np.ndarray, "row2 col2 channel"]:
    """Bring pixels upright from an EXIF orientation of 1 to 8."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _opened(kind: str, survey: Survey, length: int, config: DecodeConfig) -> Image.Image:
    """Open with Pillow's reader for the format, header only, within the limits."""
    if survey.size is not None:
        check(survey.size, survey, length, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open_unguarded(survey.data, kind)
    check(Size(image.size[1], image.size[0]), survey, length, config)
    return image


def _open_unguarded(data: bytes, kind: str) -> Image.Image:
    """Let Pillow read the header. Its own guard against bombs gives way to the configured limit, checked right after."""
    _register_extra()
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
def _register_extra() -> None:
    """Teach Pillow to read HEIF, where the extra is installed."""
    if extra_installed("HEIF"):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _orientation(image: Image.Image, kind: str, survey: Survey) -> int:
    """Return the orientation that is still to be applied; HEIF's decoder has applied it, AVIF's gives it as EXIF."""
    return orientation(image.info.get("exif"), image.info.get("xmp")) if kind == "AVIF" else survey.orientation


def _broken(error: Exception, name: str, kind: str | None) -> ImageError:
    """Say in one line that an image can't be decoded, and why."""
    said = str(error).strip()
    if isinstance(error, ImageError):
        return ImageError(f"{name} {said[3:]}" if said.startswith("it ") else f"{name}: {said}")
    reason = said.splitlines()[0] if said else type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # whose message is an address in memory
        reason = "its header can't be read"
    return ImageError(f"{name} is a damaged {kind + ' ' if kind else ''}image: {reason}")


ImageFile.LOAD_TRUNCATED_IMAGES = False
