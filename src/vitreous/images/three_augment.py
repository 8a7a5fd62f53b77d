"""3-Augment (DeiT-III, 2204.07118, section 3.3): one of three strong changes of colour or sharpness; and colour jitter.

The pixels are those of the authors' code, which uses Pillow and torchvision's transforms of Pillow images; which of them an image
gets depends on the generator alone.
"""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitreous.shapes import UInt8

RADII = (0.1, 2.0)
"""Smallest and largest radius of the blur, in pixels."""
JITTERED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
"""What colour jitter changes."""


def three_augment(pixels: UInt8[np.ndarray, "row col channel"], rng: np.random.Generator) -> np.ndarray:
    """Make the image grey, solarise it (values from 128 on are inverted) or blur it, each with equal probability."""
    image = make_image(pixels)
    kind = int(rng.integers(3))
    if kind == 0:
        image = image.convert("L").convert(image.mode)
    elif kind == 1:
        image = ImageOps.solarize(image)
    else:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(*RADII)))
    return make_pixels(image)


def jitter_colours(pixels: UInt8[np.ndarray, "row col channel"], amount: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply brightness, contrast and saturation, in a random order, by factors from max(0, 1 - amount) to 1 + amount."""
    image = make_image(pixels)
    for kind in rng.permutation(len(JITTERED)):
        image = JITTERED[kind](image).enhance(rng.uniform(max(0.0, 1 - amount), 1 + amount))
    return make_pixels(image)


def make_image(pixels: UInt8[np.ndarray, "row col channel"]) -> Image.Image:
    """Return grey or colours as Pillow's image."""
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def make_pixels(image: Image.Image) -> UInt8[np.ndarray, "row col channel"]:
    """Return Pillow's image as an array of three axes."""
    result = np.array(image)
    return result[:, :, None] if result.ndim == 2 else result
