"""Decoded values of any depth as the pixels of a model's input, or of a picture for people."""

import numpy as np

from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig, Mode, PreprocessConfig
from vitreous.images.containers.survey import split_bands
from vitreous.shapes import Float32, Num, Pixels, UInt8

WHITE = 65_535
"""The default value of white for whole numbers."""
UNKNOWN = "floating-point pixels have no known range; give the values of black and white, such as --decode.levels 0 1"


def scale_to_bytes(values: Num[np.ndarray, "..."], white: int, config: DecodeConfig) -> UInt8[np.ndarray, "..."]:
    """Scale values to 0..255, from the configured levels or else from 0..white, and clip; in bands, to save memory.

    Raises:
        ImageError: not a number.
    """
    if config.levels is None and white == 255 and values.dtype == np.uint8:
        return values
    out = np.empty(values.shape, np.uint8)
    for rows in split_bands(len(values), values[0].size):
        out[rows] = _scale_band(values[rows], white, config.levels)
    return out


def _scale_band(
    values: Num[np.ndarray, "..."], white: int, levels: tuple[float, float] | None
) -> Num[np.ndarray, "..."]:
    """Return the values as whole numbers of 0..255, of any type; raises ImageError."""
    if levels is None:
        clipped = np.clip(values, 0, min(white, np.iinfo(values.dtype).max))
        return (clipped.astype(np.int64) * 255 + white // 2) // white
    black, light = levels
    scaled = (values.astype(np.float64) - black) * (255 / (light - black))
    if np.isnan(scaled).any():
        raise ImageError("some pixels are not a number (NaN)")
    return np.rint(np.clip(scaled, 0, 255))


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
    if black:
        out -= np.float32(black)
    out *= np.float32(255 / (light - black))
    if not np.isfinite(out).all():
        raise ImageError("some pixels are not a number (NaN), or infinite")
    return out


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
