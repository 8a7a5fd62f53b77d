"""RandAugment's operations beside timm's, at magnitudes of the field's scale."""

from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from vitreous.images.randaugment import FULL, GREY, OPERATIONS

NAMES = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
"""timm's names of our operations, in our order: `rand-m..-inc1`."""
BITS = {1: (8, 4), 5: (6, 2), 10: (4, 0), 15: (2, 0), 20: (1, 0)}
"""What posterize keeps, here (as torchvision) and in timm."""


def pictures() -> Iterator[Image.Image]:
    """A smooth picture with every grey level, in colour and in grey."""
    rows, cols = np.mgrid[0:64, 0:96]
    waves = [128 + 127 * np.sin(rows / a + cols / b) for a, b in ((9, 31), (23, 7), (11, 17))]
    pixels = np.stack(waves, axis=2).round().astype(np.uint8)
    yield Image.fromarray(pixels)
    yield Image.fromarray(pixels[:, :, 0])


@pytest.mark.parametrize("magnitude", [0, 1, 3, 5, 9, 10, 15, 20, 30])
@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_each_operation_is_timms_at_each_magnitude(index: int, magnitude: int) -> None:
    from timm.data.auto_augment import AugmentOp

    if NAMES[index].startswith("Posterize"):
        pytest.skip("of another family; see below")
    for image in pictures():
        fill = GREY if image.mode == "L" else (GREY,) * 3
        settings = {"img_mean": fill, "interpolation": Image.Resampling.BILINEAR, "magnitude_max": 30}
        theirs = AugmentOp(NAMES[index], prob=1.0, magnitude=magnitude, hparams=settings)
        for sign, drawn in ((1.0, 0.0), (-1.0, 1.0)):
            with mock.patch("random.random", return_value=drawn):
                expected = np.asarray(theirs(image))
            assert np.array_equal(np.asarray(OPERATIONS[index](image, magnitude / FULL, sign)), expected)


@pytest.mark.parametrize("size", [(37, 53), (224, 224), (5, 3)])
def test_operations_at_odd_magnitudes_and_sizes_are_timms_within_one_grey_level(size: tuple[int, int]) -> None:
    from timm.data.auto_augment import AugmentOp

    rounded = ("SolarizeAdd", "TranslateXRel", "TranslateYRel")
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    settings = {"img_mean": (GREY,) * 3, "interpolation": Image.Resampling.BILINEAR, "magnitude_max": 30}
    for index, name in enumerate(NAMES):
        for magnitude in () if name.startswith("Posterize") else (0.5, 3.7, 7, 9.99, 11.3, 17):
            theirs = AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=settings)
            with mock.patch("random.random", return_value=0.0):
                expected = np.asarray(theirs(image)).astype(int)
            difference = np.abs(np.asarray(OPERATIONS[index](image, magnitude / FULL, 1.0)) - expected)
            assert difference.max() <= (name in rounded), (name, magnitude)


@pytest.mark.parametrize("magnitude", BITS)
def test_posterize_keeps_as_many_bits_as_torchvisions(magnitude: int) -> None:
    """timm's keeps four fewer, nothing at full strength; torchvision's table ends at full strength."""
    from timm.data.auto_augment import LEVEL_TO_ARG
    from torchvision.transforms.autoaugment import RandAugment

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    posterize = OPERATIONS[NAMES.index("PosterizeIncreasing")]
    ours = len(np.unique(np.asarray(posterize(ramp, magnitude / FULL, 1.0))))
    bits, timms = BITS[magnitude]
    assert ours == 2**bits
    assert max(0, LEVEL_TO_ARG["PosterizeIncreasing"](magnitude, {})[0]) == timms
    if magnitude <= FULL:
        table = RandAugment()._augmentation_space(FULL + 1, (224, 224))["Posterize"][0]
        assert int(table[magnitude]) == bits
