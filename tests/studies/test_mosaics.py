"""Small pictures side by side, as SVG files: every cell is there."""

import xml.etree.ElementTree as ET

import numpy as np

from vitreous.studies.engine.mosaics import filters_mosaic, places_mosaic

SVG = "{http://www.w3.org/2000/svg}"


def test_mosaics_show_every_cell():
    tiles = np.random.default_rng(0).uniform(-1, 1, (2, 3, 2, 3))
    drawn = places_mosaic(tiles, "label", "words")
    ET.fromstring(drawn)
    assert sum(path.get("d").count("z") for path in ET.fromstring(drawn).iter(f"{SVG}path")) == 36
    filters = filters_mosaic(np.random.default_rng(0).normal(size=(3, 1, 2, 2)), [0.5, 0.3, 0.2], "label", "words")
    cells = [one for one in ET.fromstring(filters).iter(f"{SVG}rect") if one.get("fill")]
    assert len(cells) == 12
    assert {one.get("fill") for one in cells} >= {"#000000", "#ffffff"}
    assert "50.0%" in filters
