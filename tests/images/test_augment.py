import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import ConfigError
from vitreous.images.augment import (
    augment,
    crop,
    cutmix,
    draw_inception_box,
    draw_scaled_box,
    erase,
    find_window_whole,
    mirror_indices,
    mixup,
    pad_crop,
)
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import convert_to_pixels, preprocess_image
from vitreous.images.randaugment import FULL, OPERATIONS, randaugment
from vitreous.images.tensors import resize
from vitreous.shapes import Size

EVERYTHING = AugmentConfig(randaugment=(2, 5.0), erase=1.0)
SMALL = PreprocessConfig(size=(16, 24), crop=1.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(rows: int = 40, cols: int = 60, channels: int = 3, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, 256, (rows, cols, channels), dtype=np.uint8)


def jpeg(rows: int = 400, cols: int = 600) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(8, 12)).resize((cols, rows), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@given(st.integers(0, 10**6), st.sampled_from(["inception", "pad", "eval"]))
def test_equal_generators_give_equal_pixels(seed: int, crop: str) -> None:
    config = AugmentConfig(crop=crop, randaugment=(2, 5.0), erase=0.5)
    data = jpeg(60, 80)
    first, second = (augment(data, config, SMALL, DecodeConfig(), rng(seed)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (16, 24, 3)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10**6))
def test_inception_boxes_lie_inside_and_have_the_ranges(rows: int, cols: int, seed: int) -> None:
    config = AugmentConfig(crop_area=(0.2, 0.9))
    box = draw_inception_box(Size(rows, cols), config, rng(seed))
    assert 0 <= box.top <= rows - box.rows
    assert 0 <= box.left <= cols - box.cols
    assert box.rows >= 1
    assert box.cols >= 1


def test_inception_areas_and_aspects_are_spread_over_their_ranges() -> None:
    generator, size = rng(), Size(500, 500)
    boxes = [draw_inception_box(size, AugmentConfig(crop_area=(0.1, 0.6)), generator) for _ in range(4000)]
    areas = np.array([box.rows * box.cols / 250_000 for box in boxes])
    aspects = np.log([box.cols / box.rows for box in boxes])
    assert abs(areas.mean() - 0.35) < 0.01
    assert areas.min() > 0.09
    assert areas.max() < 0.61
    assert abs(aspects.mean()) < 0.01
    assert np.abs(aspects).max() < np.log(4 / 3) + 0.02


def test_a_crop_of_a_reduced_jpeg_is_the_crop_of_the_whole_snapped_to_its_pixels() -> None:
    data, config = jpeg(800, 1200), AugmentConfig(flip=False, crop_area=(0.5, 1.0))
    whole, full, reduced = np.asarray(Image.open(io.BytesIO(data))), Size(800, 1200), Size(100, 150)
    for seed in range(5):
        box = draw_scaled_box(draw_inception_box(full, config, rng(seed)), full, reduced)
        top, left, rows, cols = (8 * value for value in box)
        exact = resize(whole[top : top + rows, left : left + cols], Size(*SMALL.size))
        ours = augment(data, config, SMALL, DecodeConfig(), rng(seed))
        assert np.abs(ours.astype(int) - exact).mean() < 1.0


def test_flip_mirrors_half_of_the_images() -> None:
    image = noise(16, 24)
    config = AugmentConfig(crop="eval", flip=True)
    results = [augment(image, config, SMALL, DecodeConfig(), rng(seed)) for seed in range(200)]
    flipped = [np.array_equal(result, image[:, ::-1]) for result in results]
    assert all(flip or np.array_equal(result, image) for flip, result in zip(flipped, results, strict=True))
    assert 70 < sum(flipped) < 130


def test_window_crop_is_a_window_of_the_larger_image() -> None:
    config, preprocess = (
        AugmentConfig(crop="window", crop_window=0.8, flip=False),
        PreprocessConfig((8, 16), resize="squash"),
    )
    image = noise(37, 29)
    large = convert_to_pixels(image, PreprocessConfig((10, 20), resize="squash", crop=1.0))
    seen = set()
    for seed in range(200):
        result = augment(image, config, preprocess, DecodeConfig(), rng(seed))
        places = [
            (top, left)
            for top in range(3)
            for left in range(5)
            if np.array_equal(large[top : top + 8, left : left + 16], result)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 15, "every window comes up"


@pytest.mark.parametrize("fill", ["reflect", "black"])
def test_pad_crop_is_a_window_of_the_padded_image(fill: str) -> None:
    image = noise(10, 12)
    mode = "reflect" if fill == "reflect" else "constant"
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=mode)
    windows = [padded[t : t + 10, left : left + 12] for t in range(7) for left in range(7)]
    seen = set()
    for seed in range(300):
        result = pad_crop(image, AugmentConfig(crop_pad=3, crop_fill=fill), rng(seed))
        seen.add(next(i for i, window in enumerate(windows) if np.array_equal(window, result)))
    assert len(seen) > 40


def test_reflection() -> None:
    assert mirror_indices(-2, 4).tolist() == [2, 1, 0, 1]
    assert mirror_indices(2, 4).tolist() == [2, 3, 2, 1]


def test_a_pad_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop_pad"):
        pad_crop(noise(4, 4), AugmentConfig(crop_pad=4), rng())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_every_operation_works_on_grey_and_on_colour(index: int, channels: int) -> None:
    image = noise(16, 16, channels)
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    for strength in (0.0, 0.5, 1.0, 2.0):
        changed = OPERATIONS[index](picture, strength, -1.0)
        assert (changed.size, changed.mode) == (picture.size, picture.mode)
    assert randaugment(image, 3, FULL, rng()).shape == image.shape


@given(st.integers(0, 10**6))
def test_erasing_changes_one_rectangle(seed: int) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    changed = np.argwhere(erase(image, rng(seed)).any(axis=2))
    if len(changed):
        (top, left), (bottom, right) = changed.min(0), changed.max(0)
        share = (bottom - top + 1) * (right - left + 1) / 2000
        assert 0.005 < share < 0.4


@given(st.integers(0, 10**6), st.floats(0.1, 3.0))
def test_cutmix_says_exactly_how_much_it_left(seed: int, alpha: float) -> None:
    zeros, ones = np.zeros((13, 17, 1), np.uint8), np.ones((13, 17, 1), np.uint8)
    pixels, weight = cutmix(zeros, ones, alpha, rng(seed))
    assert weight == pytest.approx(1 - pixels.mean())


@given(st.integers(0, 10**6))
def test_mixup_is_the_rounded_blend(seed: int) -> None:
    first, second = noise(5, 6, seed=1), noise(5, 6, seed=2)
    pixels, share = mixup(first, second, 0.4, rng(seed))
    exact = first.astype(float) * share + second.astype(float) * (1 - share)
    assert np.abs(pixels - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("settings", [{"crop": "eval"}, {"crop": "pad", "crop_pad": 4}, {"crop": "window"}])
def test_whole_images_at_reduced_scale_are_those_of_evaluation(settings: dict[str, Any]) -> None:
    """A JPEG's size at 1/4 or 1/8 is rounded up; the pixels that are lacking aren't stretched into the picture."""
    smooth = Image.fromarray(rng().integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (403, 301), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    decoding = DecodeConfig(at_least=(64, 64))
    config, preprocess = AugmentConfig(flip=False, **settings), PreprocessConfig(size=(32, 32))
    seen = preprocess
    if config.crop == "window":
        seen = replace(preprocess, size=tuple(find_window_whole(config, preprocess)), crop=1.0)
    whole = preprocess_image(file.getvalue(), decoding, seen)
    found = crop(file.getvalue(), config, preprocess, decoding, np.random.default_rng(1), "a.jpg")
    if config.crop == "pad":
        expected = pad_crop(whole, config, np.random.default_rng(1))
    else:
        draws = np.random.default_rng(1)
        top, left = (int(draws.integers(side - 31)) for side in whole.shape[:2])
        expected = whole[top : top + 32, left : left + 32]
    assert np.array_equal(found, expected)
    exact = preprocess_image(file.getvalue(), DecodeConfig(), seen)
    assert np.abs(whole.astype(int) - exact).mean() < 2
