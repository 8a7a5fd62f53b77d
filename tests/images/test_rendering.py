"""Augmentation on the device: the CPU's draws, and its pixels within what docs/data.md states."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.stream.canvases import CanvasStream, render_batches
from vitreous.data.stream.loader import Batch, Share, TrainStream, load_train_batches
from vitreous.errors import ConfigError
from vitreous.images.augment import augment
from vitreous.images.batched_operations import BATCHED, apply_operations
from vitreous.images.canvas import VIEW, draw_view
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.randaugment import FULL, OPERATIONS
from vitreous.images.rendering import build_resampling, check_rendering, erase

DATA = DataConfig("formula:fractals?classes=4&images=20&size=48")
PREPROCESS = PreprocessConfig(size=(24, 32), crop=1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source():
    return open_dataset(DATA).train


def both(
    source, augment: AugmentConfig, preprocess: PreprocessConfig = PREPROCESS, count: int = 24
) -> tuple[Batch, Batch]:
    """Return a batch as the CPU and as the device augment it."""
    stream = TrainStream(source, 5, augment, preprocess, DecodeConfig())
    given = next(iter(load_train_batches(stream, 40, count, 40 + count)))
    return given, next(draw(stream, count))


def draw(stream: TrainStream, count: int, start: int = 40, stop: int = 64) -> Iterator[Batch]:
    canvases = load_train_batches(CanvasStream(**vars(stream)), start, count, stop)
    return render_batches(canvases, stream.augment, stream.preprocess, CPU)


def apart(given: Batch, found: Batch) -> np.ndarray:
    for name in ("labels", "partners", "weights", "indices"):
        assert torch.equal(getattr(given, name), getattr(found, name)), name
    assert found.draws is None and found.pixels.dtype == torch.float32
    return (given.pixels.float() - found.pixels).abs().numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": "pad", "crop_pad": 5},
        {"crop": "pad", "crop_pad": 5, "crop_fill": "black"},
        {"crop": "window", "crop_window": 0.75},
        {"crop": "eval"},
        {"crop": "window", "views": 3, "cutmix": 1.0, "mix_probability": 0.7},
    ],
)
def test_crops_that_move_whole_pixels_are_the_cpu_s_to_the_bit(source, settings: dict) -> None:
    given, found = both(source, AugmentConfig(**settings))
    assert apart(given, found).max() == 0
    assert 0 < (found.weights < 1).sum() < 24 or not settings.get("cutmix")


def test_mixup_is_not_rounded(source) -> None:
    given, found = both(source, AugmentConfig(crop="pad", mixup=0.8))
    assert 0 < apart(given, found).max() <= 0.5 + 1e-3
    given, found = both(source, AugmentConfig(crop="pad", mixup=0.8, cutmix=0.5))
    assert apart(given, found).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_inception_crop_of_a_canvas_of_the_image_s_size_is_the_cpu_s(source, interpolation: str) -> None:
    """Without another resize before, only rounding differs: torch's kernels for uint8 have weights of 16 bits."""
    preprocess = replace(PREPROCESS, size=(24, 24), interpolation=interpolation)
    given, found = both(source, AugmentConfig(crop="inception", canvas=2.0), preprocess)
    difference = apart(given, found)
    assert difference.max() <= 2 and difference.mean() < 0.2


def test_what_a_smaller_canvas_costs(source) -> None:
    """Of pictures full of fine lines; a crop shows the same part of the image, a little softer."""
    preprocess = replace(PREPROCESS, size=(24, 24))
    given, found = both(source, AugmentConfig(crop="inception", canvas=1.5))
    moved = np.roll(given.pixels.float().numpy(), 1, axis=3) - given.pixels.float().numpy()
    assert apart(given, found).mean() < 0.5 * np.abs(moved).mean()
    near = both(source, AugmentConfig(crop="inception", canvas=1.5, crop_area=(0.8, 1.0)), preprocess)
    far = both(source, AugmentConfig(crop="inception", canvas=1.0, crop_area=(0.05, 0.2)), preprocess)
    assert apart(*near).mean() < apart(*far).mean()


def test_resampling_is_torch_s() -> None:
    """A crop from one fraction of a pixel to another, against torch's antialiased interpolation of whole ones."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 40, 3, generator=generator, dtype=torch.float64)
    for first, length, outputs in ((0, 40, 11), (7, 20, 8), (3, 9, 30)):
        weights = build_resampling(torch.tensor([float(first)]), torch.tensor([float(length)]), 40, outputs, 2.0)
        expected = torch.nn.functional.interpolate(
            image[:, :, first : first + length], (outputs, 3), mode="bicubic", antialias=True
        )
        torch.testing.assert_close(weights[0].double() @ image[0, 0], expected[0, 0], rtol=1e-5, atol=1e-5)


TURNED = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
"""Sampled in fixed point by Pillow."""


@pytest.mark.parametrize("magnitude", [3.0, 10.0, 15.0])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_each_operation_is_pillow_s(source, number: int, channels: int, magnitude: float) -> None:
    pixels = np.stack([source.read(index)[:, :40, :channels] for index in range(4)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0])
    layers = torch.stack([torch.full((4,), float(number)), signs], 1)[:, None]
    found = apply_operations(images, layers, magnitude)
    for one, sign, result in zip(pixels, signs.tolist(), found, strict=True):
        image = Image.fromarray(one if channels == 3 else one[:, :, 0])
        expected = np.array(OPERATIONS[number](image, magnitude / FULL, sign)).reshape(one.shape)
        difference = np.abs(result.permute(1, 2, 0).numpy() - expected)
        name = BATCHED[number].__name__
        assert difference.mean() < 0.5, name
        assert np.quantile(difference, 0.98) <= (2 if name in TURNED else 1), name


def test_randaugment_draws_what_the_cpu_draws(source) -> None:
    given, found = both(source, AugmentConfig(crop="pad", randaugment=(2, 12.0)))
    difference = apart(given, found)
    assert difference.mean() < 1 and np.quantile(difference, 0.98) <= 3


def test_erasing_takes_the_cpu_s_box_and_noise_of_its_own(source) -> None:
    plain = AugmentConfig(crop="pad")
    given, found = both(source, replace(plain, erase=0.5))
    whole = both(source, plain)[0].pixels.float()
    for theirs, ours, before in zip(given.pixels.float(), found.pixels, whole, strict=True):
        box = (theirs != before).any(0)
        if not box.any():
            assert torch.equal(ours, before)
            continue
        rows, cols = (place.unique() for place in box.nonzero().unbind(1))
        changed = (ours != before).any(0).nonzero()
        assert changed[:, 0].min() >= rows.min() and changed[:, 0].max() <= rows.max()
        assert changed[:, 1].min() >= cols.min() and changed[:, 1].max() <= cols.max()
        assert len(changed) > 0.9 * len(rows) * len(cols)
    boxes = torch.tensor([[0.0, 0.0, 200.0, 200.0, 7.0], [0.0, 0.0, 200.0, 200.0, 8.0]])
    noise = erase(torch.zeros(2, 3, 200, 200), boxes)
    assert (noise[0] != noise[1]).float().mean() > 0.98
    assert torch.equal(erase(torch.zeros(1, 3, 200, 200), boxes[1:])[0], noise[1])
    counts = torch.bincount(noise.long().flatten(), minlength=256).double()
    assert len(counts) == 256 and float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 350  # chi-squared, 255


ALL = AugmentConfig(
    crop="inception", views=2, randaugment=(2, 10.0), erase=0.5, mixup=0.4, cutmix=0.6, mix_probability=0.8
)


@pytest.mark.parametrize("augment", [ALL, replace(ALL, crop="pad")], ids=["inception", "pad"])
def test_an_example_is_the_same_whatever_shares_its_batch(source, augment: AugmentConfig) -> None:
    stream = TrainStream(source, 5, augment, PREPROCESS, DecodeConfig())
    whole = next(draw(stream, 24)).pixels
    for size in (1, 5):
        parts = torch.cat([one.pixels for one in draw(stream, size)])
        assert torch.equal(parts, whole), size
    shares = [next(draw_share(stream, rank)).pixels for rank in (0, 1, 2)]
    assert torch.equal(torch.cat(shares), next(draw(stream, 24, 48, 72)).pixels)


def draw_share(stream: TrainStream, rank: int) -> Iterator[Batch]:
    """Yield one of three processes' part of the third batch of 24."""
    share = Share(CanvasStream(**vars(stream)), 24, rank, 3)
    return render_batches(load_train_batches(share, 16, 8, 24), stream.augment, stream.preprocess, CPU)


def test_workers_change_no_bit_of_a_canvas(source) -> None:
    stream = CanvasStream(source, 5, ALL, PREPROCESS, DecodeConfig())
    one, other = (list(load_train_batches(stream, 0, 8, 24, workers)) for workers in (0, 2))
    for left, right in zip(one, other, strict=True):
        assert torch.equal(left.pixels, right.pixels) and torch.equal(left.draws, right.draws)
        assert left.draws.shape == (8, 2 * (VIEW + 4) + 6) and left.pixels.shape == (8, 6, 36, 48)


def test_kernels_that_a_device_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"interpolation is lanczos, but crops on the device.*--augment.on cpu"):
        check_rendering(AugmentConfig(on="device"), PreprocessConfig(interpolation="lanczos"))
    with pytest.raises(
        ConfigError, match=r"antialias is off, but crops on the device are resized with it; set --augment\.on cpu"
    ):
        check_rendering(AugmentConfig(on="device"), replace(PREPROCESS, antialias=False))
    check_rendering(AugmentConfig(on="device", crop="pad"), replace(PREPROCESS, antialias=False))
    for settings in ({"three_augment": True}, {"colour_jitter": 0.3}):
        with pytest.raises(ConfigError, match=f"augment.{next(iter(settings))} is carried out on the CPU alone"):
            check_rendering(AugmentConfig(on="device", **settings), PREPROCESS)


def test_a_pad_as_large_as_the_image_is_refused_as_on_the_cpu() -> None:
    preprocess, config = PreprocessConfig(size=(8, 8), mode="L", crop=1.0), AugmentConfig(crop="pad", crop_pad=8)
    image, rng = np.zeros((8, 8, 1), np.uint8), np.random.default_rng(0)
    for augmented in (augment, draw_view):
        with pytest.raises(ConfigError, match="crop_pad is 8; it must be at least 0 and below the image's side, 8"):
            augmented(image, config, preprocess, DecodeConfig(), rng)


def test_windows_are_taken_from_the_same_size_as_on_the_cpu(source) -> None:
    config, preprocess = AugmentConfig(crop="window", crop_window=0.56), PreprocessConfig(size=(21, 49), crop=1.0)
    given, found = both(source, config, preprocess)
    assert not apart(given, found).any()


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.8}, {"crop": "window"}])
def test_the_bytes_of_a_canvas_are_known(settings, source) -> None:
    stream = CanvasStream(source, 5, AugmentConfig(**settings), PREPROCESS, DecodeConfig())
    assert stream.example_bytes == stream.example(0).pixels.nbytes == Share(stream, 8, 0, 2).example_bytes
