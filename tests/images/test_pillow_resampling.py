"""Resizing without torch against torch: at most a grey level apart."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.images.pillow_resampling import resize_without_torch
from vitreous.images.preprocess import convert_to_pixels
from vitreous.images.tensors import resize
from vitreous.shapes import Size

STRETCHED = Size(31, 200)
SIZES = [Size(97, 60), STRETCHED, Size(150, 150), Size(1, 7)]
KERNELS = [
    *itertools.product(("nearest", "bilinear", "bicubic"), (True, False)),
    ("lanczos", True),
]


def photograph(channels, dtype):
    image = np.asarray(load_sample_image("flower.jpg"))[60:170, 200:360]
    image = np.concatenate([image, image[::-1, ::-1]], axis=2)[:, :, :channels]
    return np.ascontiguousarray(image).astype(dtype)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("kernel", "antialias"), KERNELS)
def test_pixels_are_torchs_but_for_a_grey_level(kernel, antialias, size):
    image = photograph(3, np.uint8)
    own = resize_without_torch(image, size, kernel, antialias=antialias)
    torchs = resize(image, size, kernel, antialias=antialias, precise=True)
    away = np.abs(own.astype(int) - torchs)
    assert own.dtype == np.uint8
    assert away.mean() < 0.2
    assert (away > 1).mean() < (
        2e-3 if size == STRETCHED else 1e-9
    )  # overshoot is clipped after each pass, or rounded too


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("kernel", "antialias"), KERNELS)
def test_channels_as_they_are_come_out_the_same(kernel, antialias, size):
    image = photograph(5, np.float32) * 1.7 - 60
    own = resize_without_torch(image, size, kernel, antialias=antialias)
    torchs = resize(image, size, kernel, antialias=antialias)
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, torchs, atol=5e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rounding", ["nearest", "timm", "torchvision", "tensorflow"])
@pytest.mark.parametrize("rule", ["short", "squash", "border"])
def test_the_whole_transform_is_torchs_but_for_a_grey_level(rule, rounding, channels):
    config = PreprocessConfig((48, 64), resize=rule, rounding=rounding, crop=0.9, antialias=rounding != "tensorflow")
    image = photograph(channels, np.uint8)
    own, torchs = (convert_to_pixels(image, config, by) for by in ("pillow", "torch"))
    away = np.abs(own.astype(int) - torchs)
    assert away.max() <= (2 if rounding == "nearest" else 1)
    assert (away > 1).mean() < 0.01


def test_what_torch_refuses_is_refused():
    with pytest.raises(ConfigError, match=r"needs preprocess\.antialias"):
        resize_without_torch(photograph(3, np.uint8), Size(9, 9), "lanczos", antialias=False)
