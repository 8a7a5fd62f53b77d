import io

import numpy as np
import pytest
import torch
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig, PreprocessConfig, choose_decoding
from vitreous.images.preprocess import convert_mode, convert_to_pixels, preprocess_image
from vitreous.images.tensors import normalize, resize
from vitreous.shapes import Size

KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
sides = st.integers(1, 90)


def noise(rows: int, cols: int, channels: int = 3) -> np.ndarray:
    """Grey levels away from 0 and 255: between its two passes each implementation clips what bicubic overshoots."""
    return np.random.default_rng(rows * 97 + cols).integers(64, 192, (rows, cols, channels), dtype=np.uint8)


@also(9, 27, 18, 43, "bicubic")  # here one pixel of the white noise is two levels away
@given(sides, sides, sides, sides, st.sampled_from(sorted(KERNELS)))
def test_resize_is_pillows_but_for_rounding(rows: int, cols: int, to_rows: int, to_cols: int, kernel: str) -> None:
    """Both round to whole levels after each of two passes; the second pass weighs a difference of one by up to 1.5."""
    image = noise(rows, cols)
    ours = resize(image, Size(to_rows, to_cols), kernel)
    theirs = np.asarray(Image.fromarray(image).resize((to_cols, to_rows), KERNELS[kernel]))
    away = np.abs(ours.astype(int) - theirs)
    assert away.max() <= 2
    assert (away > 1).mean() < 0.01


@given(sides, sides, st.sampled_from(["short", "squash"]), st.floats(0.3, 1.0))
def test_every_size_comes_out_as_configured(rows: int, cols: int, rule: str, crop: float) -> None:
    config = PreprocessConfig(size=(24, 16), resize=rule, crop=crop)
    assert convert_to_pixels(noise(rows, cols), config).shape == (24, 16, 3)


def test_short_keeps_the_aspect_and_crops_the_centre() -> None:
    image = noise(60, 100)
    ours = convert_to_pixels(image, PreprocessConfig(size=(32, 32), crop=0.8))
    whole = np.asarray(Image.fromarray(image).resize((67, 40), Image.Resampling.BICUBIC))
    expected = whole[4:36, 17:49]
    assert np.abs(ours.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("config", [PreprocessConfig((32, 32)), PreprocessConfig((32, 48), crop=1, rounding="timm")])
@pytest.mark.parametrize(("rows", "cols"), [(349, 500), (500, 349), (384, 512), (351, 260), (1000, 270)])
def test_reduced_decoding_shows_the_same_crop(rows: int, cols: int, config: PreprocessConfig) -> None:
    """Half the size rounds to another scaled size: 349x500 to 37x53, 175x250 to 37x52."""
    down, across = np.mgrid[:rows, :cols]
    waves = 128 + 60 * np.sin(down / 23)[..., None] * np.sin(across[..., None] / np.array([17, 19, 23]))
    data = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(data, "JPEG", quality=95)
    exact, reduced = (
        preprocess_image(data.getvalue(), choose_decoding(DecodeConfig(), scale, config.size), config).astype(int)
        for scale in ("exact", "reduced")
    )
    assert 0 < np.abs(reduced - exact).mean() < 1.5


def test_extreme_shapes_stay_small_in_memory() -> None:
    import tracemalloc

    image = noise(2, 20_000)
    tracemalloc.start()
    assert convert_to_pixels(image, PreprocessConfig()).shape == (224, 224, 3)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_cutting_before_the_resize_changes_nothing() -> None:
    image = noise(20, 300)
    config = PreprocessConfig(size=(16, 16), crop=1.0)
    whole = resize(image, Size(16, 240))[:, 112:128]
    assert np.abs(convert_to_pixels(image, config).astype(int) - whole).max() <= 1


def test_normalize_leaves_channels_of_floats_as_they_are() -> None:
    pixels = torch.full((1, 5, 2, 2), 100.0)
    assert float(normalize(pixels, PreprocessConfig(mean=(0.5,), std=(0.25,), mode=5)).mean()) < 0
    assert (pixels == 100).all()


def test_normalize_is_the_closed_form() -> None:
    pixels = torch.from_numpy(noise(4, 5)).permute(2, 0, 1)[None].contiguous()
    config = PreprocessConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (pixels.double() / 255 - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(
        3, 1, 1
    )
    torch.testing.assert_close(normalize(pixels, config).double(), expected, rtol=0, atol=1e-6)


def test_a_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="channels"):
        normalize(torch.zeros(1, 4, 2, 2, dtype=torch.uint8), PreprocessConfig())


def test_grey_and_colour_follow_the_mode() -> None:
    colour = noise(3, 4)
    grey = convert_mode(colour, PreprocessConfig(mode="L"))
    assert np.array_equal(grey[:, :, 0], np.asarray(Image.fromarray(colour).convert("L")))
    assert convert_mode(grey, PreprocessConfig(mode="RGB")).shape == (3, 4, 3)


def test_files_and_arrays_take_the_same_path() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 50)).save(buffer, "PNG")
    config = PreprocessConfig(size=(32, 32))
    from_file = preprocess_image(buffer.getvalue(), DecodeConfig(), config)
    assert np.array_equal(from_file, preprocess_image(noise(40, 50), DecodeConfig(), config))


@pytest.mark.parametrize("shape", [(60, 60, 3), (600, 1, 3)])
def test_a_kernel_that_does_not_exist_is_refused_for_any_shape(shape):
    config = PreprocessConfig(size=(8, 12), interpolation="lanczos", antialias=False)
    for resizer in ("torch", "pillow"):
        with pytest.raises(ConfigError, match=r"lanczos needs preprocess\.antialias"):
            convert_to_pixels(np.zeros(shape, np.uint8), config, resizer)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("kind", ["uint8", "precise", "kept"])
def test_a_single_column_is_resized_as_a_single_row_is(interpolation: str, kind: str) -> None:
    """torch 2.13 fills it with its first value; Pillow is the reference."""
    ramp = np.repeat(np.linspace(0, 250, 80).astype(np.uint8)[:, None], 7, 1)
    given = ramp.astype(np.float32) if kind == "kept" else ramp
    found = resize(given[:, :, None], Size(10, 1), interpolation, precise=kind == "precise")[:, 0, 0]
    pillow = Image.fromarray(ramp).resize((1, 10), getattr(Image.Resampling, interpolation.upper()))
    assert np.abs(found.astype(float) - np.asarray(pillow)[:, 0].astype(float)).max() <= 1
    assert np.abs(found.astype(float) - resize(given.T[:, :, None], Size(1, 10), interpolation)[0, :, 0]).max() <= 1
