"""Pixels for pages: heat over pictures, tiles in grids, data URIs."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vitreous.drawing.images import TINY, draw_mosaic, draw_overlay, draw_sheet, draw_thumbnail, encode_png, map_colours


def decoded(uri):
    kind, _, text = uri.partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize(("grid", "size"), [((2, 3), (128, 192)), ((1, 4), (130, 256)), ((1, 1), (128, 128))])
def test_heat_is_interpolated_between_the_middles_of_its_cells(grid, size):
    heat = np.random.default_rng(0).normal(size=grid)
    grey = np.full((*size, 3), 100, np.uint8)
    shown = draw_overlay(grey, heat, strength=1.0)

    def along(count, wanted):
        return np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)

    low = (heat - heat.min()) / max(np.ptp(heat), 1e-12)
    rows = np.array([np.interp(along(grid[0], size[0]), np.arange(grid[0]), column) for column in low.T]).T
    wanted = np.array([np.interp(along(grid[1], size[1]), np.arange(grid[1]), row) for row in rows])
    np.testing.assert_allclose(shown.astype(int), map_colours(wanted).astype(int), atol=1)


def test_small_pictures_are_enlarged_under_heat():
    assert draw_overlay(np.zeros((8, 8, 1), np.uint8), np.eye(2)).shape == (128, 128, 3)


def test_a_large_mosaic_shows_every_nth():
    tiles = np.random.default_rng(0).uniform(-1, 1, (32, 20, 4, 5))
    assert draw_mosaic(tiles).shape == (16 * (4 * 2 + 1) - 1, 16 * (5 * 2 + 1) - 1, 4)


def test_a_sheet_is_grey_at_zero_and_clear_where_nothing_is():
    tiles = np.zeros((9, 24, 24, 5))
    tiles[0, 0, 0] = 3.0
    tiles[0, 0, 1] = -3.0
    made = draw_sheet(tiles, columns=7)
    assert made.shape == (2 * 24 + 2, 7 * 24 + 6 * 2, 4)
    assert made[0, 0].tolist() == [255, 255, 255, 255]
    assert made[0, 1].tolist() == [0, 0, 0, 255]
    assert made[1, 1].tolist() == [128, 128, 128, 255]
    assert made[26:, 2 * 26 :, 3].max() == 0
    assert made[:, 24:26, 3].max() == 0


def test_tiny_pictures_and_clear_ones_stay_exact():
    for shape in ((TINY, 3, 3), (5, TINY, 1), (300, 200, 4)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        kind, made = decoded(draw_thumbnail(pixels))
        assert kind == "data:image/png"
        np.testing.assert_array_equal(made.reshape(shape), pixels)
        assert encode_png(pixels) == base64.b64decode(draw_thumbnail(pixels).partition(",")[2])
    kind, made = decoded(draw_thumbnail(np.zeros((320, 160, 3), np.uint8)))
    assert (kind, made.shape) == ("data:image/jpeg", (160, 80, 3))
