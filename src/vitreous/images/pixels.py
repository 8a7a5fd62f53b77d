"""Convert decoded values of any mode and depth to uint8 pixels of the requested mode, in bands to save memory."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image

from vitreous.errors import ConfigError, ImageError
from vitreous.images.config import DecodeConfig, Mode, PreprocessConfig
from vitreous.shapes import Pixels

BAND = 2**21
"""Pixels that are converted at a time."""
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of more than 8 bits."""
WHITE = 65_535
"""The default value of white for whole numbers."""
UNKNOWN = "floating-point pixels have no known range; give the values of black and white, such as --decode.levels 0 1"


def convert_from_pillow(image: Image.Image, mode: Mode, config: DecodeConfig) -> UInt8[np.ndarray, "row col channel"]:
    """Convert any of Pillow's modes: more than 8 bits are scaled, transparency is composited, colours are kept.

    Raises:
        ImageError: floating-point pixels without configured levels.
    """
    if image.mode in DEEP:
        return convert_grey(_scale_in_bands(image, config), mode)

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
    for top, bottom in _split_bands(rows, cols):
        out[top:bottom] = np.asarray(convert(image.crop((0, top, cols, bottom)))).reshape(bottom - top, cols, channels)
    return out


def _split_bands(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    step = max(1, BAND // cols)
    return ((top, min(rows, top + step)) for top in range(0, rows, step))


def _scale_in_bands(image: Image.Image, config: DecodeConfig) -> UInt8[np.ndarray, "row col 1"]:
    """Scale an image with more than 8 bits a channel."""
    if image.mode == "F" and config.levels is None:
        raise ImageError(UNKNOWN)
    return _convert_in_bands(image, 1, lambda band: Image.fromarray(scale_to_bytes(np.asarray(band), WHITE, config)))


def scale_to_bytes(values: Num[np.ndarray, "..."], white: int, config: DecodeConfig) -> UInt8[np.ndarray, "..."]:
    """Scale values to 0..255, from the configured levels or else from 0..white, and clip.

    Raises:
        ImageError: not a number.
        ConfigError: the levels of black and white are the same.
    """
    if config.levels is None:
        if white == 255 and values.dtype == np.uint8:
            return values
        return np.clip((values.astype(np.int64) * 255 + white // 2) // white, 0, 255).astype(np.uint8)
    black, light = config.levels
    if black == light:
        raise ConfigError(f"decode.levels are {black:g} and {light:g}; black and white must differ")
    scaled = (values.astype(np.float64) - black) * (255 / (light - black))
    if np.isnan(scaled).any():
        raise ImageError("some pixels are not a number (NaN)")
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def keep_scale(
    values: Num[np.ndarray, "row col channel"], config: DecodeConfig
) -> Float32[np.ndarray, "row col channel"]:
    """Scale values to 0 to 255 without rounding or clipping: 8 bits stay as they are, others use the levels.

    Without configured levels, whole numbers are scaled from 0..65535, as in `scale_to_bytes`.

    Raises:
        ImageError: not a number, or infinite; floating-point values without configured levels.
    """
    out = values.astype(np.float32)
    if values.dtype in (np.uint8, np.bool_):
        return out
    if config.levels is None and values.dtype.kind == "f":
        raise ImageError(UNKNOWN)
    black, light = config.levels or (0.0, float(WHITE))
    if black == light:
        raise ConfigError(f"decode.levels are {black:g} and {light:g}; black and white must differ")
    if black:
        out -= np.float32(black)
    out *= np.float32(255 / (light - black))
    if not np.isfinite(out).all():
        raise ImageError("some pixels are not a number (NaN), or infinite")
    return out


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


def select_visible(
    pixels: Pixels[np.ndarray, "row col channel"], config: PreprocessConfig
) -> UInt8[np.ndarray, "row col channel2"]:
    """Return the 8-bit picture of a model's input for people: of many channels, the configured three in false colours.

    Two channels are shown as their mean, in grey.
    """
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        return pixels
    if pixels.shape[2] == 2:
        pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float32)
    elif pixels.shape[2] > 3:
        pixels = pixels[:, :, list(config.colours)]
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def describe_colours(config: PreprocessConfig) -> str:
    """Say which of many channels pictures show; "" if they show all."""
    if config.channels <= 3:
        return "" if config.channels != 2 else "Pictures show the mean of the 2 channels."
    shown = ", ".join(map(str, config.colours))
    return (
        f"Pictures are in false colours: red, green and blue are channels {shown} (counted from 0) of {config.channels}; "
        "preprocess.colours chooses others."
    )


def convert_grey(grey: UInt8[np.ndarray, "row col 1"], mode: Mode) -> UInt8[np.ndarray, "row col channel"]:
    """Repeat grey into RGB, if that is the mode."""
    return np.repeat(grey, 3, axis=2) if mode == "RGB" else grey
