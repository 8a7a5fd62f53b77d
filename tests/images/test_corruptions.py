"""The fifteen corruptions: pure, of the right strength, and each what its definition says."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from vitreous.errors import ConfigError, UnknownName
from vitreous.images.corruptions import blur, digital, weather
from vitreous.images.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt

NAMES = tuple(CORRUPTIONS)


def scene(rows, cols, channels=3, seed=0):
    """Draw something with the spectrum of a photograph: smooth shapes, edges, texture."""
    rng = np.random.default_rng(seed)
    large = ndimage.gaussian_filter(rng.normal(size=(rows, cols, channels)), (rows / 8, cols / 8, 0))
    edges = np.sign(ndimage.gaussian_filter(rng.normal(size=(rows, cols, 1)), (rows / 6, cols / 6, 0)))
    fine = rng.normal(size=(rows, cols, channels))
    image = 120 + 45 * large / max(large.std(), 1e-6) * 0.6 + 40 * edges + 6 * fine
    return np.clip(image, 0, 255).astype(np.uint8)


PHOTO, SMALL = scene(120, 120), scene(32, 32)


def distance(one, other):
    return float(((one.astype(float) - other) ** 2).mean())


@pytest.mark.parametrize("name", NAMES)
def test_pure_and_of_the_same_kind(name):
    before = SMALL.copy()
    first = corrupt(SMALL, name, 3, seed=(1, 2))
    corrupt(SMALL, name, 5, seed=9)
    assert (first.dtype, first.shape) == (np.uint8, SMALL.shape)
    np.testing.assert_array_equal(corrupt(SMALL, name, 3, seed=(1, 2)), first)
    np.testing.assert_array_equal(SMALL, before)
    assert distance(first, SMALL) > 0.2


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - {"brightness", "contrast", "defocus_blur", "pixelate", "zoom_blur", "jpeg_compression"})
)
def test_another_seed_is_another_image(name):
    assert distance(corrupt(SMALL, name, 4, seed=1), corrupt(SMALL, name, 4, seed=2)) > 0.2


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"elastic_transform", "glass_blur"}))
@pytest.mark.parametrize("image", [PHOTO, SMALL], ids=["large", "small"])
def test_the_severest_does_more_than_the_mildest(name, image):
    """The two left out change in kind from severity to severity: they trade shifting pixels against smoothing them."""
    mild, severe = (np.mean([distance(corrupt(image, name, one, seed), image) for seed in range(4)]) for one in (1, 5))
    assert severe > 1.2 * mild


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES), severity=st.sampled_from(SEVERITIES), rows=st.integers(1, 40), cols=st.integers(1, 40),
    channels=st.sampled_from([1, 3]), level=st.sampled_from([None, 0, 255]),
)  # fmt: skip
def test_any_size_and_grey(name, severity, rows, cols, channels, level):
    image = np.full((rows, cols, channels), level, np.uint8) if level is not None else scene(rows, cols, channels)
    found = corrupt(image, name, severity, seed=5)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)


@pytest.mark.parametrize(("name", "sizes"), [("gaussian_noise", (0.08, 0.38)), ("impulse_noise", (0.03, 0.27))])
def test_noise_is_as_strong_as_its_table(name, sizes):
    middle = np.full((200, 200, 3), 128, np.uint8)
    for severity, size in zip((1, 5), sizes, strict=True):
        found = corrupt(middle, name, severity).astype(float) / 255
        if name == "impulse_noise":
            assert (np.isin(found, (0, 1)).mean(), (found == 1).mean()) == pytest.approx((size, size / 2), rel=0.03)
        elif severity == 1:
            assert found.std() == pytest.approx(size, rel=0.02)
    small = corrupt(np.full((32, 32, 3), 128, np.uint8), "gaussian_noise", 5).astype(float) / 255
    assert small.std() == pytest.approx(0.10, rel=0.05)


def test_shot_noise_is_poisson():
    level = 64
    found = corrupt(np.full((300, 300, 3), level, np.uint8), "shot_noise", 1).astype(float) / 255
    assert found.mean() == pytest.approx(level / 255, rel=0.01)
    assert found.var() == pytest.approx(level / 255 / 60, rel=0.03)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "pixelate", "contrast"])
def test_a_flat_image_stays_flat(name):
    flat = np.full((96, 96, 3), 77, np.uint8)
    for severity in (1, 5):
        np.testing.assert_array_equal(corrupt(flat, name, severity), flat)


def test_glass_blur_swaps_near_pixels_only():
    """Without its Gaussian it is a permutation, and of each swap the reach is bounded."""
    image = np.arange(40 * 40, dtype=float).reshape(40, 40, 1)
    found = blur.glass_blur(image, (1e-9, 2, 1), 1.0, np.random.default_rng(0))[:, :, 0].astype(int)
    np.testing.assert_array_equal(np.sort(found.reshape(-1)), image.reshape(-1))
    down, across = np.abs(np.array(np.divmod(found, 40)) - np.mgrid[:40, :40])
    far = np.maximum(down, across)
    assert (far > 0).mean() > 0.7
    assert np.percentile(far, 90) <= 6


def test_defocus_of_a_point_is_a_disk():
    point = np.zeros((81, 81, 1))
    point[40, 40] = 1
    found = blur.defocus_blur(point, (10, 0.5), 1.0, np.random.default_rng(0))[:, :, 0]
    down, across = np.mgrid[-40:41, -40:41]
    assert found.sum() == pytest.approx(1)
    far = np.hypot(down, across)
    np.testing.assert_allclose(found[far < 8], found[40, 40], rtol=1e-6)
    np.testing.assert_allclose(found[far > 13], 0, atol=1e-12)
    assert found[40, 40] == pytest.approx(1 / (np.pi * 100), rel=0.02)


def test_motion_of_a_point_is_half_a_gaussian_along_its_line():
    point = np.zeros((61, 61, 1))
    point[30, 30] = 1
    found = blur.smear(point, 10, 5, 0)[:, :, 0]
    expected = np.exp(-(np.arange(21) ** 2) / 50)
    np.testing.assert_allclose(found[30, 30:51], expected / expected.sum(), atol=1e-9)
    assert found.sum() == pytest.approx(1)
    turned = blur.smear(point, 10, 5, 90)[:, :, 0]
    np.testing.assert_allclose(turned, found.T, atol=1e-9)


def test_filtering_is_scipys_convolution():
    image, kernel = np.random.default_rng(0).random((20, 17, 3)), np.random.default_rng(1).random((5, 7))
    for border, mode in (("reflect", "mirror"), ("edge", "nearest")):
        found = blur.filter_channels(image, kernel, border)
        expected = [ndimage.convolve(image[:, :, one], kernel, mode=mode) for one in range(3)]
        np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-12)


def test_zooming_is_linear_interpolation_about_the_middle():
    image = np.random.default_rng(0).random((31, 24, 3))
    np.testing.assert_allclose(blur.zoom_in(image, 1.0), image)
    middle = (np.array(image.shape[:2]) - 1) / 2
    for layer in range(3):
        expected = ndimage.affine_transform(image[:, :, layer], [1 / 1.3] * 2, middle - middle / 1.3, order=1)
        np.testing.assert_allclose(blur.zoom_in(image, 1.3)[:, :, layer], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("table", "bounds"),
    [
        (CORRUPTIONS["zoom_blur"].large, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
        (CORRUPTIONS["zoom_blur"].small, ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))),
    ],
    ids=["ImageNet-C", "CIFAR-10-C"],
)
def test_zooms_are_those_of_the_authors_ranges(table, bounds):
    """They write arange(1, bound, step); by rounding some of these hold their bound."""
    image = np.random.default_rng(0).random((20, 20, 1))
    for setting, (bound, step) in zip(table, bounds, strict=True):
        zooms = np.arange(1, bound, step)
        expected = (image + sum(blur.zoom_in(image, zoom) for zoom in zooms)) / (len(zooms) + 1)
        found = blur.zoom_blur(image, setting, 1.0, np.random.default_rng(0))
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_brightness_keeps_hue_and_saturation():
    import colorsys

    image = np.random.default_rng(0).random((1, 40, 3))
    image[0, 0] = 0
    found = weather.brightness(image, (0.2,), 1.0, np.random.default_rng(0))
    for before, after in zip(image[0], found[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.2)), atol=1e-9)


def test_contrast_shrinks_towards_the_mean():
    found = corrupt(PHOTO, "contrast", 3).astype(float)
    assert found.std(axis=(0, 1)) == pytest.approx(PHOTO.std(axis=(0, 1)) * 0.2, rel=0.02)
    assert found.mean(axis=(0, 1)) == pytest.approx(PHOTO.mean(axis=(0, 1)), abs=0.5)


def test_jpeg_is_pillows():
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=15)
    np.testing.assert_array_equal(corrupt(PHOTO, "jpeg_compression", 3), np.asarray(Image.open(file)))


def test_pixelate_leaves_few_values():
    found = corrupt(scene(200, 200, 1), "pixelate", 5)[:, :, 0]
    assert len(np.unique(found, axis=0)) <= 50
    assert len(np.unique(found, axis=1).T) <= 50


def test_elastic_field_is_a_gaussian_of_noise():
    found = digital.draw_smooth_field(50, 40, 3.0, np.random.default_rng(2))
    noise = np.random.default_rng(2).uniform(-1, 1, size=(50, 40))
    np.testing.assert_allclose(found, ndimage.gaussian_filter(noise, 3.0, mode="reflect", truncate=8), atol=1e-6)


@pytest.mark.parametrize("severity", [2, 4])
def test_elastic_moves_by_the_same_share_of_any_side(severity, monkeypatch):
    """What grey ramps show of where pixels come from; the corners stay, so that only the field moves them."""
    setting = (*CORRUPTIONS["elastic_transform"].large[severity - 1][:2], 0)
    moved = []
    for side in (112, 224, 448):
        ramp = np.repeat(np.arange(side)[:, None] / side, side, axis=1)[:, :, None]
        inner = slice(side // 6, -side // 6)
        found = [
            digital.elastic_transform(ramp, setting, side / 224, np.random.default_rng(seed)) for seed in range(12)
        ]
        moved.append(np.sqrt(np.mean([(one - ramp)[inner, inner] ** 2 for one in found])))
    assert moved[1] > 1e-4
    np.testing.assert_allclose(moved, moved[1], rtol=0.25)


def test_elastic_without_strength_changes_nothing():
    image = PHOTO / 255
    found = digital.elastic_transform(image, (0, 1, 0), 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(found, image, atol=1e-9)


def test_plasma_is_rougher_the_slower_it_decays():
    clouds = [weather.draw_plasma(60, decay, np.random.default_rng(0)) for decay in (3.0, 1.4)]
    for cloud in clouds:
        assert cloud.shape == (64, 64)
        assert (cloud.min(), cloud.max()) == (0, 1)
    smooth, rough = (np.abs(np.diff(cloud, axis=0)).mean() for cloud in clouds)
    assert rough > 2 * smooth


def test_fog_and_frost_and_snow_lighten_the_dark():
    dark = np.full((96, 96, 3), 25, np.uint8)
    for name in ("frost", "snow"):
        assert corrupt(dark, name, 3).mean() > 50
    mixed = dark.copy()
    mixed[:48] = 230
    assert corrupt(mixed, "fog", 3)[60:].mean() > 50


def test_frost_is_as_bright_as_the_photographs():
    """Black under frost at severity 3 shows 0.7 of the ice, whose mean brightness lies between 0.5 and 0.8."""
    ice = np.stack([corrupt(np.zeros((96, 96, 3), np.uint8), "frost", 3, seed) for seed in range(12)]) / 255 / 0.7
    assert 0.5 <= ice.mean(axis=(1, 2, 3)).min() < ice.mean(axis=(1, 2, 3)).max() <= 0.82
    assert ice.mean() == pytest.approx(0.65, abs=0.05)
    assert ice.std(axis=(1, 2)).mean() == pytest.approx(0.11, abs=0.02)
    red, green, blue = ice.mean(axis=(0, 1, 2))
    assert red < green < blue


def test_crystals_have_mean_0_and_deviation_1():
    for rows, cols in ((50, 70), (8, 8)):
        found = weather.draw_crystals(rows, cols, np.random.default_rng(0))
        assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_the_same_draws_at_every_severity():
    """So that severity alone moves accuracy."""
    flat = np.full((120, 120, 1), 128, np.uint8)
    noises = [corrupt(flat, "gaussian_noise", severity, 3).astype(float).reshape(-1) - 128 for severity in (1, 2)]
    assert np.corrcoef(noises)[0, 1] > 0.999


def test_mistakes():
    with pytest.raises(UnknownName, match="did you mean 'fog'"):
        corrupt(SMALL, "fogg", 1)
    with pytest.raises(ConfigError, match="severity is 6; it must be 1 to 5"):
        corrupt(SMALL, "fog", 6)


def test_tables_are_complete():
    assert len(CORRUPTIONS) == 15
    for one in pickle.loads(pickle.dumps(CORRUPTIONS)).values():
        assert len(one.large) == len(one.small) == len(SEVERITIES)
        assert len({len(setting) for setting in one.large + one.small}) == 1
    assert {one.group for one in CORRUPTIONS.values()} == {"noise", "blur", "weather", "digital"}


def test_seeds_are_whole_numbers_from_0():
    image = np.zeros((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(corrupt(image, "fog", 3, np.int64(3)), corrupt(image, "fog", 3, 3))
    for seed in (-1, (0, -1)):
        with pytest.raises(ConfigError, match="it must be at least 0"):
            corrupt(image, "fog", 3, seed)
