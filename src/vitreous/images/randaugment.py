"""RandAugment (1909.13719): n random operations of one magnitude. Works on RGB and on grey images.

Magnitudes are on the field's scale: 10 is the papers' full strength, and values above extrapolate. At each magnitude
the operations are those of timm's increasing set (`rand-m15-mmax30-inc1`; without mmax timm stops at 10), with the same
pixels, except for posterize, which keeps 8 down to 4 bits like torchvision's (timm: 4 down to 0). Translations, and
solarize_add between whole magnitudes, round in another order and are within one grey level of timm's. Every operation
that is drawn is applied, as in the paper and Google's code; timm applies each with probability 0.5. In Google's own code,
used by AugReg, posterize, solarize and the enhancers behave differently: their effect is smallest in the middle of the
scale or at its end.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vitreous.shapes import UInt8

FULL = 10
"""The magnitude of full strength (timm's _LEVEL_DENOM, Google's _MAX_LEVEL)."""
LEAST_FACTOR = 0.1
"""Smallest factor of enhancers, at any strength (timm)."""
GREY = 128
"""Fills the area that a moved image leaves empty."""

Operation = Callable[[Image.Image, float, float], Image.Image]
"""(image, strength: 0 none, 1 full, above 1 more; sign -1 or 1) -> image"""


def randaugment(
    pixels: UInt8[np.ndarray, "row col channel"], layers: int, magnitude: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "row col channel"]:
    """Apply `layers` operations, drawn from OPERATIONS, at `magnitude` (0 or more; FULL is full strength) with a
    random sign."""
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    for _ in range(layers):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        image = operation(image, magnitude / FULL, 1.0 if rng.random() < 0.5 else -1.0)
    result = np.array(image)
    return result[:, :, None] if grey else result


def apply_affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Apply an affine map (output to input coordinates)."""
    fill = GREY if image.mode == "L" else (GREY,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill)


def rotate(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Rotate by 30 degrees at full strength."""
    fill = GREY if image.mode == "L" else (GREY,) * 3
    return image.rotate(30 * strength * sign, Image.Resampling.BILINEAR, fillcolor=fill)


def shear_x(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Shear along the columns by 0.3 at full strength."""
    return apply_affine(image, (1.0, 0.3 * strength * sign, 0.0, 0.0, 1.0, 0.0))


def shear_y(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Shear along the rows by 0.3 at full strength."""
    return apply_affine(image, (1.0, 0.0, 0.0, 0.3 * strength * sign, 1.0, 0.0))


def translate_x(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Move by 45% of the width at full strength."""
    return apply_affine(image, (1.0, 0.0, 0.45 * image.width * strength * sign, 0.0, 1.0, 0.0))


def translate_y(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Move by 45% of the height at full strength."""
    return apply_affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, 0.45 * image.height * strength * sign))


def posterize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Keep 8 down to 4 bits at full strength, and beyond it down to 1 (Pillow keeps no fewer)."""
    return ImageOps.posterize(image, max(1, 8 - round(4 * strength)))


def solarize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Invert values at or above a threshold that falls from 256 to 0 at full strength."""
    return ImageOps.solarize(image, max(0, 256 - int(256 * strength)))


def solarize_add(image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Brighten values below 128 by 110 at full strength, and at most by 128."""
    shift = min(128, round(110 * strength))
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


def make_enhancer(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Make an operation of one of Pillow's enhancers: a factor of 1 - 0.9 or 1 + 0.9 at full strength."""

    def operation(image: Image.Image, strength: float, sign: float) -> Image.Image:
        return kind(image).enhance(max(LEAST_FACTOR, 1 + 0.9 * strength * sign))

    return operation


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    invert,
    rotate,
    posterize,
    solarize,
    solarize_add,
    make_enhancer(ImageEnhance.Color),
    make_enhancer(ImageEnhance.Contrast),
    make_enhancer(ImageEnhance.Brightness),
    make_enhancer(ImageEnhance.Sharpness),
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
