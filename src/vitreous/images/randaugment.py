"""RandAugment (1909.13719): n random operations of one magnitude. Works on RGB and on grey images."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

LARGEST = 30
"""Magnitudes run from 0 to this."""
GREY = 128
"""What a moved image leaves open is filled with."""

Operation = Callable[[Image.Image, float, float], Image.Image]
"""(image, strength 0 to 1, sign -1 or 1) -> image"""


def randaugment(
    pixels: UInt8[np.ndarray, "row col channel"], layers: int, magnitude: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "row col channel"]:
    """Apply `layers` operations, each drawn from OPERATIONS, at `magnitude` (0 to 30) with a random sign."""
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    for _ in range(layers):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        image = operation(image, magnitude / LARGEST, 1.0 if rng.random() < 0.5 else -1.0)
    result = np.array(image)
    return result[:, :, None] if grey else result


def moved(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Apply an affine map (output to input coordinates)."""
    fill = GREY if image.mode == "L" else (GREY,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill)


def rotate(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Rotate by up to 30 degrees."""
    fill = GREY if image.mode == "L" else (GREY,) * 3
    return image.rotate(30 * strength * sign, Image.Resampling.BILINEAR, fillcolor=fill)


def shear_x(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Shear along the columns by up to 0.3."""
    return moved(image, (1.0, 0.3 * strength * sign, 0.0, 0.0, 1.0, 0.0))


def shear_y(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Shear along the rows by up to 0.3."""
    return moved(image, (1.0, 0.0, 0.0, 0.3 * strength * sign, 1.0, 0.0))


def translate_x(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Move by up to 45% of the width."""
    return moved(image, (1.0, 0.0, 0.45 * image.width * strength * sign, 0.0, 1.0, 0.0))


def translate_y(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Move by up to 45% of the height."""
    return moved(image, (1.0, 0.0, 0.0, 0.0, 1.0, 0.45 * image.height * strength * sign))


def posterize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Keep 8 down to 4 bits."""
    return ImageOps.posterize(image, 8 - round(4 * strength))


def solarize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Invert what is brighter than a threshold that falls from 256 to 0."""
    return ImageOps.solarize(image, round(256 * (1 - strength)))


def solarize_add(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Brighten what is darker than 128 by up to 110."""
    shift = round(110 * strength)
    return image.point(
        [min(255, value + shift) if value < 128 else value for value in range(256)] * len(image.getbands())
    )


def autocontrast(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Stretch the histogram of each channel."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Flatten the histogram of each channel."""
    return ImageOps.equalize(image)


def invert(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Take the negative."""
    return ImageOps.invert(image)


def enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Make an operation of one of Pillow's enhancers: factors from 1 - 0.9 to 1 + 0.9."""

    def operation(image: Image.Image, strength: float, sign: float) -> Image.Image:
        return kind(image).enhance(1 + 0.9 * strength * sign)

    return operation


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    invert,
    rotate,
    posterize,
    solarize,
    solarize_add,
    enhanced(ImageEnhance.Color),
    enhanced(ImageEnhance.Contrast),
    enhanced(ImageEnhance.Brightness),
    enhanced(ImageEnhance.Sharpness),
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
