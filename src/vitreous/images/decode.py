"""Bytes to pixels: limits checked from the header, orientation applied, every mode brought to RGB or grey.

JPEG goes through simplejpeg (libjpeg-turbo), the other formats through Pillow. The format is told by content, never by
a file's extension.
"""

import io
import stat
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig, Mode
from vitreous.images.formats import extra_installed, formats
from vitreous.shapes import Size

ORIENTATION = 0x0112
"""The EXIF tag."""
JPEG_START = b"\xff\xd8\xff"
REDUCTIONS = (8, 4, 2)
"""Scales 1/8, 1/4 and 1/2 are read off a JPEG's DCT blocks at less cost; the odd ones in between cost more than they save."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
BROKEN = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, AttributeError)
"""What Pillow's readers raise on broken files, beside struct.error and zlib.error, which have no common base."""

_guard = threading.Lock()
"""Held while Pillow's limit is out of force."""


@dataclass(frozen=True)
class ImageInfo:
    """What an image's header says."""

    format: str
    """One of `formats()`."""
    size: Size
    """Rows and columns after the EXIF orientation is applied."""
    mode: str
    """The file's own colour mode, as Pillow names it."""
    orientation: int
    """EXIF orientation, 1 (upright) to 8."""
    frames: int
    """Frames of an animation; only the first is decoded."""


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
    if data[:3] == JPEG_START:
        header = _jpeg_header(data)
        if header is not None:
            size, space = header
            _check_size(size, config, name)
            orientation = _jpeg_orientation(data)
            upright = Size(size.cols, size.rows) if orientation >= 5 else size
            return ImageInfo("JPEG", upright, "L" if space == "Gray" else "RGB", orientation, frames=1)
    with _opened(data, config, name) as image:
        return _info(image)


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
    if data[:3] == JPEG_START:
        pixels = _decode_jpeg(data, config, mode, at_least, name)
        if pixels is not None:
            return pixels
    with _opened(data, config, name) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
            return _to_mode(upright, mode, config)
        except MemoryError as error:
            raise ImageError(f"{name}: too little memory to decode {image.size[1]}x{image.size[0]} pixels") from error
        except Exception as error:
            raise _broken(error, name, image.format) from error


def _decode_jpeg(
    data: bytes, config: DecodeConfig, mode: Mode, at_least: Size | None, name: str
) -> UInt8[np.ndarray, "row col channel"] | None:
    """Decode a JPEG of one or three colour planes; None leaves it (CMYK, or what libjpeg refuses) to Pillow."""
    header = _jpeg_header(data)
    if header is None:
        return None
    size, _ = header
    _check_size(size, config, name)
    orientation = _jpeg_orientation(data)
    factor = 1 if at_least is None else _reduction(size, at_least, orientation)
    try:
        pixels = simplejpeg.decode_jpeg(
            data,
            "GRAY" if mode == "L" else "RGB",
            min_factor=factor,
            min_height=-(-size.rows // factor) if factor > 1 else 0,
            min_width=-(-size.cols // factor) if factor > 1 else 0,
        )
    except ValueError as error:
        raise _broken(error, name, "JPEG") from error
    return turn(pixels, orientation)


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


def _jpeg_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG: looked for only where an EXIF segment stands among the first segments."""
    if data.find(b"Exif\x00\x00", 0, 64 * 1024) < 0:
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return _orientation(image)
    except Exception:
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


def _opened(data: bytes, config: DecodeConfig, name: str) -> Image.Image:
    """Open with Pillow, header only, within the limits."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)")
    if len(data) > config.max_bytes:
        raise ImageError(f"{name} has {len(data):,} bytes, more than the limit of {config.max_bytes:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _open_unguarded(data)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of a known format ({', '.join(formats())})") from error
    except Exception as error:
        raise _broken(error, name, None) from error
    _check_size(Size(image.size[1], image.size[0]), config, name)
    return image


def _open_unguarded(data: bytes) -> Image.Image:
    """Let Pillow read the header. Its own guard against bombs gives way to the configured limit, checked right after."""
    _register_extra()
    try:
        return Image.open(io.BytesIO(data), formats=formats())
    except Image.DecompressionBombError:
        with _guard:
            guarded = Image.MAX_IMAGE_PIXELS
            try:
                Image.MAX_IMAGE_PIXELS = None
                return Image.open(io.BytesIO(data), formats=formats())
            finally:
                Image.MAX_IMAGE_PIXELS = guarded


@cache
def _register_extra() -> None:
    """Teach Pillow to read HEIF, where the extra is installed."""
    if extra_installed("HEIF"):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check_size(size: Size, config: DecodeConfig, name: str) -> None:
    """Refuse images with more pixels than the limit, from the header alone."""
    if size.rows < 1 or size.cols < 1:
        raise ImageError(f"{name} says it has {size} pixels")
    if size.rows * size.cols > config.max_pixels:
        raise ImageError(
            f"{name} has {size} = {size.rows * size.cols:,} pixels, more than the limit of {config.max_pixels:,}; "
            "make it smaller, or raise --decode.max-pixels"
        )


def _info(image: Image.Image) -> ImageInfo:
    orientation = _orientation(image)
    cols, rows = image.size
    swapped = orientation >= 5 and image.format != "TIFF"  # Pillow turns TIFF itself, its size included
    size = Size(cols, rows) if swapped else Size(rows, cols)
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception:
        frames = 1
    return ImageInfo(image.format or "", size, image.mode, orientation, frames)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; broken EXIF counts as upright."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        return int(value) if int(value) in range(1, 9) else 1
    except Exception:
        return 1


def _to_mode(image: Image.Image, mode: Mode, config: DecodeConfig) -> UInt8[np.ndarray, "row col channel"]:
    """Convert any of Pillow's modes: 16 bits are scaled, transparency is composited, colours are kept."""
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip((values * 255 + 32767) // 65535, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ImageError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*config.background, 255))
        image = Image.alpha_composite(backdrop, image)
    pixels = np.array(image.convert(mode))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _broken(error: Exception, name: str, kind: str | None) -> ImageError:
    """Say in one line that an image can't be decoded, and why."""
    if isinstance(error, ImageError):
        return ImageError(f"{name}: {error}")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ImageError(f"{name} is a damaged {kind + ' ' if kind else ''}image: {reason}")


ImageFile.LOAD_TRUNCATED_IMAGES = False
