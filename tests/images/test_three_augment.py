"""3-Augment and colour jitter against Pillow and torchvision's definitions, and what of them an image gets."""

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from vitreous.images.three_augment import jitter_colours, three_augment

PIXELS = np.random.default_rng(0).integers(256, size=(12, 17, 3), dtype=np.uint8)


def test_each_image_is_grey_solarised_or_blurred_a_third_of_the_time() -> None:
    """The authors' augment.py: RandomChoice of Grayscale(3), ImageOps.solarize and GaussianBlur of radius 0.1 to 2."""
    counts = {"grey": 0, "solarised": 0, "blurred": 0}
    image, solarised = Image.fromarray(PIXELS), np.asarray(ImageOps.solarize(Image.fromarray(PIXELS)))
    grey = np.asarray(image.convert("L"))[:, :, None].repeat(3, 2)
    least, most = (
        np.abs(np.asarray(image.filter(ImageFilter.GaussianBlur(radius))).astype(int) - PIXELS).mean()
        for radius in (0.1, 2.0)
    )
    for seed in range(300):
        found = three_augment(PIXELS, np.random.default_rng(seed))
        assert found.shape == PIXELS.shape and found.dtype == np.uint8
        if np.array_equal(found, grey):
            counts["grey"] += 1
        elif np.array_equal(found, solarised):
            counts["solarised"] += 1
        else:
            assert least <= np.abs(found.astype(int) - PIXELS).mean() <= most
            counts["blurred"] += 1
    assert min(counts.values()) > 75, counts


def blend(pixels: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """Image.blend, as ImageEnhance uses it: other + factor (pixels - other), cut off at 0 and 255."""
    return np.clip(other + factor * (pixels.astype(np.float64) - other), 0, 255)


@pytest.mark.parametrize("seed", range(6))
def test_colour_jitter_is_brightness_contrast_and_saturation_in_a_random_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = PIXELS
    for kind in rng.permutation(3):
        factor = rng.uniform(0.7, 1.3)
        grey = np.asarray(Image.fromarray(expected).convert("L"))
        other = [0.0, float(int(grey.mean() + 0.5)), grey[:, :, None]][kind]
        expected = blend(expected, other, factor).astype(np.uint8)
    found = jitter_colours(PIXELS, 0.3, np.random.default_rng(seed))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_grey_images_stay_grey() -> None:
    grey = PIXELS[:, :, :1]
    for seed in range(6):
        assert three_augment(grey, np.random.default_rng(seed)).shape == grey.shape
        assert jitter_colours(grey, 0.5, np.random.default_rng(seed)).shape == grey.shape
