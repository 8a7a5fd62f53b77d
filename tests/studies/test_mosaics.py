"""Small pictures side by side, as SVG files: every cell is there, in its colour."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from vitreous.drawing.images import map_colours
from vitreous.studies.engine.mosaics import draw_filters, draw_places

SVG = "{http://www.w3.org/2000/svg}"


def pictures(drawn):
    found = [one.get("href") for one in ET.fromstring(drawn).iter(f"{SVG}image")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.split(",")[1])))) for one in found]


def test_places_show_every_cell():
    tiles = np.random.default_rng(0).uniform(-1, 1, (20, 3, 2, 3))
    places, scale = pictures(draw_places(tiles, "label", "words"))
    times = 4
    assert places.shape == (20 * (2 * times + 1) - 1, 3 * (3 * times + 1) - 1, 4)
    for row, col, r, c in np.ndindex(*tiles.shape):
        shown = places[row * (2 * times + 1) + r * times + 1, col * (3 * times + 1) + c * times + 1]
        assert shown.tolist() == [*map_colours((tiles[row, col, r, c].reshape(1, 1) + 1) / 2)[0, 0].tolist(), 255]
    assert (places[..., 3] == 0).any(), "clear between"
    assert scale.shape == (1, 200, 3)


def test_filters_show_every_cell_of_their_own_range():
    components = np.random.default_rng(0).normal(size=(9, 3, 2, 2))
    drawn = draw_filters(components, [0.1] * 9, "label", "words & <more>")
    for made, component in zip(pictures(drawn), components, strict=True):
        assert (made.min(), made.max()) == (0, 255)
        wanted = 255 * (component - component.min()) / (component.max() - component.min())
        np.testing.assert_allclose(made, wanted.transpose(1, 2, 0), atol=0.51)
    assert drawn.count("10.0%") == 9
    assert len(pictures(draw_filters(components[:, :1], [0.1] * 9, "label", "words"))[0].shape) == 2
