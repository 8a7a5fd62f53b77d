"""Bytes to pixels: limits checked before work, orientation applied, every mode converted to RGB or grey.

The format is recognised by content, never by a file's extension. A survey of the container (`containers`) comes first.
Then simplejpeg (libjpeg-turbo) decodes JPEG, numpy Netpbm, and Pillow's reader for exactly that format all others.
"""

import math
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from vitreous.errors import ImageError
from vitreous.images import bands
from vitreous.images.config import DecodeConfig, Mode
from vitreous.images.containers import bmp, gif, jpeg, png, ppm, tiff, webp
from vitreous.images.containers.survey import Survey, apply_orientation, check_limits, sniff_format, turn_size
from vitreous.images.formats import EXTRA, READ, REMEDY, SAVE, is_extra_installed, list_formats
from vitreous.images.pillow import (
    DEEP,
    convert_from_pillow,
    find_remaining_orientation,
    name_mode,
    open_limited,
    read_channels,
)
from vitreous.images.pixels import UNKNOWN, WHITE, convert_grey, keep_scale, scale_to_bytes
from vitreous.shapes import Float32, Num, Pixels, Size, UInt8, UInt16
from vitreous.storage.signatures import explain_start

SURVEYS: dict[str, Callable[[bytes], Survey]] = {
    "JPEG": jpeg.survey_jpeg,
    "PNG": png.survey_png,
    "GIF": gif.survey_gif,
    "TIFF": tiff.survey_tiff,
    "WEBP": webp.survey_webp,
    "BMP": bmp.survey_bmp,
    "PPM": ppm.survey_ppm,
}
MEDIA = 20
"""Bytes per pixel for AVIF or HEIF: their decoders hold planes, references and a copy."""
REDUCTIONS = (8, 4, 2)
"""Scales 1/8, 1/4 and 1/2 are cheap to read from a JPEG's DCT blocks; those in between cost more than they save."""
ENDING = b"\xff\xd9"
"""The last bytes of a JPEG."""


@dataclass(frozen=True)
class ImageInfo:
    """The facts in an image's header."""

    format: str
    """One of `list_formats()`."""
    size: Size
    """Rows and columns after the orientation is applied."""
    mode: str
    """The file's own colour mode, by Pillow's name; if there is none, channels and bits, such as 5;16 (F: floats)."""
    orientation: int
    """Orientation by EXIF or XMP, 1 (upright) to 8."""
    frames: int
    """Frames of an animation, or pages of a document; only the first is decoded."""
    complete: bool = True
    """Whether a JPEG has its last bytes."""
    reduction: int = 1
    """Divisor of its size in decoding: 2, 4 or 8 for a large JPEG if `DecodeConfig.at_least` allows it, otherwise 1."""

    @property
    def extent(self) -> tuple[float, float]:
        """Rows and columns of the decoded pixels that show the image, without the filling at their end."""
        if self.orientation not in (1, 5):  # turned: the filling is not at the end, and is counted
            return math.ceil(self.size.rows / self.reduction), math.ceil(self.size.cols / self.reduction)
        return self.size.rows / self.reduction, self.size.cols / self.reduction


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
    """Read only an image's header; raises ImageError if it is not an image or over the limits."""
    kind = None
    try:
        kind, survey = _survey(data, config)
        return _describe(kind, survey, len(data), config)
    except Exception as error:
        raise _explain_broken(error, name, kind) from error


def _describe(kind: str, survey: Survey, length: int, config: DecodeConfig) -> ImageInfo:
    """Read the header's facts beyond the survey, within the limits."""
    turned = survey.orientation
    if kind == "PPM":
        told = ppm.read_header(survey.data)
        check_limits(told.size, survey, length, config)
        mode = "RGB" if told.channels == 3 else "I;16" if told.top > 255 else "1" if told.top == 1 else "L"
        return ImageInfo(kind, told.size, mode, turned, survey.frames)
    if kind == "JPEG" and (header := _read_jpeg_header(survey.data)) is not None:
        size, space = header
        check_limits(size, survey, length, config)
        upright = turn_size(*size, turned)
        mode, reduction = "L" if space == "Gray" else "RGB", _choose_reduction(upright, config.at_least)
        return ImageInfo(kind, upright, mode, turned, 1, _is_complete(survey.data), reduction)
    if (how := _find_band_layout(kind, survey, length, config)) is not None:
        return ImageInfo(kind, turn_size(how.rows, how.cols, turned), how.name, turned, survey.frames)
    with open_limited(kind, survey, length, config) as image:
        turned = find_remaining_orientation(image, kind, survey)
        cols, rows = image.size
        upright = survey.size or turn_size(rows, cols, turned)
        frames = survey.frames if kind in SURVEYS else getattr(image, "n_frames", 1)
        whole = kind != "JPEG" or _is_complete(survey.data)
        return ImageInfo(kind, upright, name_mode(image, kind), turned, frames, whole)


def decode(
    data: bytes,
    config: DecodeConfig = DecodeConfig(),
    mode: Mode = "RGB",
    *,
    at_least: tuple[int, int] | None = None,
    name: str = "image",
) -> Pixels[np.ndarray, "row col channel"]:
    """Decode an image, upright, in the requested mode.

    Args:
        data: the file's bytes.
        config: limits, and the colour that transparency is composited over.
        mode: RGB (3 channels) or L (1 channel) in uint8; or a number of channels, which are kept as they are, in
            float32:
            0 to 255 from the file's least to its largest value (or the levels), neither rounded nor clipped.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if that still covers this size; None: as config says.
        name: what error messages call the image.

    Raises:
        ImageError: not an image of a known format, damaged, truncated, over the limits, or with another number of
            channels.
    """
    kind, at_least = None, at_least or config.at_least
    try:
        kind, survey = _survey(data, config)
        if isinstance(mode, int):
            return _decode_kept(kind, survey, len(data), config, mode, at_least)
        if kind == "PPM":
            check_limits(ppm.read_header(data).size, survey, len(data), config)
            return _decode_ppm(data, config, mode)
        if kind == "JPEG" and (header := _read_jpeg_header(survey.data)) is not None:
            check_limits(header[0], survey, len(data), config)
            return _decode_jpeg(survey, header[0], config, mode, at_least)
        return _decode_pillow(kind, survey, len(data), config, mode)
    except MemoryError as error:
        raise ImageError(f"{name}: too little memory to decode it") from error
    except Exception as error:
        raise _explain_broken(error, name, kind) from error


def read_value_range(data: bytes, config: DecodeConfig = DecodeConfig()) -> tuple[float, float] | None:
    """Return the smallest and largest value of an image with more than 8 bits a channel; None for others; raises
    ImageError."""
    try:
        kind, survey = _survey(data, config)
        if (how := _find_band_layout(kind, survey, len(data), config)) is not None and how.dtype.itemsize > 1:
            found = bands.read_values(survey.data, how)
            return float(found.min()), float(found.max())
        if kind in ("JPEG", "PPM"):  # eight bits, or a header that states white
            return None
        with open_limited(kind, survey, len(data), config) as image:
            name = name_mode(image, kind)
            if name.endswith(";16") and name[0].isdigit():
                found = _decode_pillow_kept(kind, survey, len(data), config)
                return float(found.min()), float(found.max())
            if image.mode not in DEEP:
                return None
            image.load()
            low, high = image.getextrema()
            return float(low), float(high)
    except Exception as error:
        raise _explain_broken(error, "image", None) from error


def _survey(data: bytes, config: DecodeConfig) -> tuple[str, Survey]:
    """Recognise a file's format by content and survey its container, within the limits; raises ImageError."""
    if not data:
        raise ImageError("it is empty (0 bytes)")
    if len(data) > config.max_bytes:
        raise ImageError(f"it has {len(data):,} bytes, more than the limit of {config.max_bytes:,}")
    kind = sniff_format(data)
    if kind is None:
        told = explain_start(data[:1024])
        raise ImageError(told or f"it is not an image of a known format ({', '.join(list_formats())})")
    if kind not in READ and not (kind in EXTRA and is_extra_installed(kind)):
        raise ImageError(f"it is {kind}: {REMEDY if kind in EXTRA else SAVE}")
    return kind, SURVEYS[kind](data) if kind in SURVEYS else Survey(data, working=MEDIA)


def _decode_ppm(data: bytes, config: DecodeConfig, mode: Mode) -> UInt8[np.ndarray, "row col channel"]:
    told = ppm.read_header(data)
    deep = replace(config, levels=None) if told.top <= 255 else config
    pixels = scale_to_bytes(ppm.read_values(data, told), told.top, deep)
    return _convert_mode(pixels, mode)


def _convert_mode(pixels: UInt8[np.ndarray, "row col channel"], mode: Mode) -> UInt8[np.ndarray, "row col channel2"]:
    """Convert grey or RGB to the mode, as Pillow does."""
    if pixels.shape[2] == 1:
        return convert_grey(pixels, mode)
    return pixels if mode == "RGB" else np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


def _decode_kept(
    kind: str, survey: Survey, length: int, config: DecodeConfig, channels: int, at_least: tuple[int, int] | None
) -> Float32[np.ndarray, "row col channel"]:
    """Decode an image's channels as they are; raises ImageError if their number differs."""
    if kind == "JPEG" and (header := _read_jpeg_header(survey.data)) is not None:
        check_limits(header[0], replace(survey, working=16.0), length, config)
        colours: Mode = "L" if header[1] == "Gray" else "RGB"
        found = _decode_jpeg(survey, header[0], config, colours, at_least)
    elif kind == "PPM":
        told = ppm.read_header(survey.data)
        check_limits(told.size, replace(survey, working=survey.working + 12), length, config)
        found = ppm.read_values(survey.data, told)
        if told.top <= 255 or config.levels is None:  # the header states white
            found = found.astype(np.float32) * np.float32(255 / told.top)
            check_channels(found.shape[2], channels)
            return found
    elif kind == "TIFF" and (how := bands.read_layout(survey.data)) is not None:
        check_channels(how.channels, channels)
        check_limits(Size(how.rows, how.cols), replace(survey, working=how.working), length, config)
        found, config = apply_orientation(bands.read_values(survey.data, how), survey.orientation), _invert(config, how)
    else:
        found = _decode_pillow_kept(kind, survey, length, config)
    check_channels(found.shape[2], channels)
    return keep_scale(found, config)


def check_channels(found: int, wanted: int) -> None:
    """Raise ImageError unless the image has as many channels as the model's input."""
    if found != wanted:
        raise ImageError(f"it has {found} channel{'s'[: found > 1]}, but {wanted} are expected (preprocess.mode)")


def _decode_pillow_kept(
    kind: str, survey: Survey, length: int, config: DecodeConfig
) -> Num[np.ndarray, "row col channel"]:
    """Decode with Pillow, upright; a 16-bit PNG is unpacked once for the high and once for the low bytes."""

    def load(mode: str = "", raw: str = "") -> Num[np.ndarray, "row col channel"]:
        with open_limited(kind, replace(survey, working=survey.working + 16), length, config) as image:
            if raw:
                image.tile, image._mode = [image.tile[0]._replace(args=raw)], mode
            turned = 1 if kind == "TIFF" else find_remaining_orientation(image, kind, survey)
            image.load()
            return apply_orientation(read_channels(image), turned)

    with open_limited(kind, survey, length, config) as image:
        name = name_mode(image, kind)
    if name == "2;16":  # grey and alpha, as four bytes
        return np.ascontiguousarray(load("RGBA", "RGBA")).view(">u2").astype(np.uint16)
    if name in ("3;16", "4;16"):
        colours = {"3": "RGB", "4": "RGBA"}[name[0]]
        high = load(colours, f"{colours};16B").astype(np.uint16)
        return high << 8 | load(colours, f"{colours};16L")
    return load()


def _find_band_layout(kind: str, survey: Survey, length: int, config: DecodeConfig) -> bands.Layout | None:
    """Return the pixel layout of a TIFF that Pillow has no mode for; raises ImageError if it is over the limits."""
    how = bands.read_layout(survey.data) if kind == "TIFF" else None
    if how is None or how.is_pillows:
        return None
    check_limits(Size(how.rows, how.cols), replace(survey, working=how.working), length, config)
    return how


def _decode_bands(
    how: bands.Layout, survey: Survey, config: DecodeConfig, mode: Mode
) -> UInt8[np.ndarray, "row col channel"]:
    """Convert a TIFF that Pillow has no mode for to 8 bits of RGB or grey. A fourth channel is composited if it is
    alpha, and otherwise ignored, as in Pillow."""
    if how.channels not in (1, 3) and (how.channels, how.photometric) != (bands.MANY, bands.COLOURS):
        raise ImageError(
            f"it has {how.channels} channels, which are not colours; --channels {how.channels} keeps them as they are"
        )
    pixels = apply_orientation(bands.read_values(survey.data, how), survey.orientation)
    if pixels.dtype.kind == "f" and config.levels is None:
        raise ImageError(UNKNOWN)
    alpha = {bands.PREMULTIPLIED: "RGBa", bands.STRAIGHT: "RGBA"}.get(how.extra) if how.channels == bands.MANY else None
    if alpha is None:
        pixels = pixels[:, :, :3]
    if pixels.dtype != np.uint8:
        pixels = scale_to_bytes(pixels, WHITE, _invert(config, how))
    if alpha is not None:
        rows, cols = pixels.shape[:2]
        return convert_from_pillow(Image.frombuffer(alpha, (cols, rows), pixels, "raw", alpha, 0, 1), mode, config)
    return _convert_mode(pixels, mode)


def _invert(config: DecodeConfig, how: bands.Layout) -> DecodeConfig:
    """Return the levels of pixels whose 0 is white, unless the caller states others."""
    return replace(config, levels=(WHITE, 0)) if how.is_negative and config.levels is None else config


def _decode_pillow(
    kind: str, survey: Survey, length: int, config: DecodeConfig, mode: Mode
) -> UInt8[np.ndarray, "row col channel"]:
    """Decode with Pillow's reader for the format, or with `bands` for a TIFF that Pillow has no mode for."""
    if (how := _find_band_layout(kind, survey, length, config)) is not None:
        return _decode_bands(how, survey, config, mode)
    with open_limited(kind, survey, length, config) as image:
        key = image.info.get("transparency") if name_mode(image, kind) == "3;16" else None
        if key is not None:
            return _decode_transparent_colour(_decode_pillow_kept(kind, survey, length, config), key, mode, config)
        turned = find_remaining_orientation(image, kind, survey)
        image.load()
        pixels = convert_from_pillow(image, mode, config)
    del image  # before turning takes as much again
    return pixels if kind == "TIFF" else apply_orientation(pixels, turned)  # Pillow turns TIFF itself, while loading


def _decode_transparent_colour(
    values: UInt16[np.ndarray, "row col 3"], key: tuple[int, int, int], mode: Mode, config: DecodeConfig
) -> UInt8[np.ndarray, "row col channel"]:
    """Convert colours of 16 bits of which one is transparent, to its last bit, as Pillow does those without: by their upper 8 bits."""
    visible = (values != np.array(key, np.uint16)).any(axis=2)
    pixels = np.dstack([(values >> 8).astype(np.uint8), visible * np.uint8(255)])
    return convert_from_pillow(Image.fromarray(pixels), mode, config)


def _decode_jpeg(
    survey: Survey, size: Size, config: DecodeConfig, mode: Mode, at_least: tuple[int, int] | None
) -> UInt8[np.ndarray, "row col channel"]:
    """Decode a JPEG of one or three colour planes."""
    whole = _is_complete(survey.data)
    if not whole and config.truncated == "refuse":
        raise ImageError(
            "it is a damaged JPEG image: it lacks its last bytes; a model trained with --decode.truncated fill takes such images, and sees them grey"
        )
    factor = 1 if at_least is None else _choose_reduction(turn_size(*size, survey.orientation), at_least)
    pixels = simplejpeg.decode_jpeg(
        survey.data,
        "GRAY" if mode == "L" else "RGB",
        min_factor=factor,
        min_height=-(-size.rows // factor) if factor > 1 else 0,
        min_width=-(-size.cols // factor) if factor > 1 else 0,
        strict=whole,
    )
    return apply_orientation(pixels, survey.orientation)


def _is_complete(data: bytes) -> bool:
    """Return whether a JPEG has its last bytes, which most files end with; others are searched."""
    return data.endswith(ENDING) or ENDING in data


def _read_jpeg_header(data: bytes) -> tuple[Size, str] | None:
    """Return the size as stored and the colour space; None for CMYK and for headers that libjpeg refuses."""
    try:
        rows, cols, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (Size(rows, cols), space) if space in ("YCbCr", "Gray", "RGB") else None


def _choose_reduction(upright: Size, at_least: tuple[int, int] | None) -> int:
    """Return the largest cheap divisor that leaves at least these rows and columns; 1 if the image is wanted whole."""
    rows, cols = at_least or upright
    fitting = (one for one in REDUCTIONS if upright.rows // one >= rows and upright.cols // one >= cols)
    return next(fitting, 1)


def _explain_broken(error: Exception, name: str, kind: str | None) -> ImageError:
    """Say in one line why an image can't be decoded."""
    said = str(error).strip()
    if isinstance(error, ImageError):
        return ImageError(f"{name} {said[3:]}" if said.startswith("it ") else f"{name}: {said}")
    reason = said.splitlines()[0] if said else type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its message is an address in memory
        reason = "its header can't be read"
    return ImageError(f"{name} is a damaged {kind + ' ' if kind else ''}image: {reason}")
