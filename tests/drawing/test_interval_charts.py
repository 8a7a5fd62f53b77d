"""Charts place what they are given, escape their words, and stand alone."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from vitreous.drawing.interval_charts import Axis, Curve, Row, curves, dots, log_ticks
from vitreous.metrics.seeds import interval
from vitreous.studies.engine.mosaics import filters_mosaic, places_mosaic

SVG = "{http://www.w3.org/2000/svg}"


def places(svg, kind):
    root = ET.fromstring(svg)
    circles = [
        one for one in root.iter(f"{SVG}circle") if kind in one.get("class").split() and float(one.get("cy")) > 24
    ]
    return [(float(one.get("cx")), float(one.get("cy"))) for one in circles]


def test_dots_lie_in_the_order_of_their_values():
    rows = [
        Row("a <b> & c", [0.1, 0.3], interval([0.1, 0.3]), 1),
        Row("unmeasured", [], interval([])),
        Row("z", [0.2], interval([0.2]), 2),
    ]
    drawn = dots(rows, "what & why", "accuracy", band=(0.0, 0.1))
    (seed_one, _), (seed_two, _), (mean, _) = places(drawn, "s1")
    assert seed_one < mean < seed_two
    assert mean == pytest.approx((seed_one + seed_two) / 2, abs=0.1)
    assert places(drawn, "s2")[-1][0] == pytest.approx(mean, abs=0.1)
    assert "a &lt;b&gt; &amp; c" in drawn
    assert "unmeasured" not in drawn
    assert "prefers-color-scheme:dark" in drawn


def test_logarithmic_curves_are_evenly_spaced():
    points = [(10.0**power, interval([0.1 * power])) for power in (0, 1, 2)]
    drawn = curves([Curve("one", points), Curve("empty", [])], "label", Axis("x", log=True))
    xs = [x for x, _ in places(drawn, "s1")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert 'class="zero"' not in drawn
    assert "empty" not in drawn


def test_conditions_at_the_same_x_stand_side_by_side():
    here, there = ([(0.0, interval(values)), (1.0, interval(values))] for values in ([0.1, 0.2], [0.15, 0.25]))
    drawn = curves([Curve("one", here), Curve("other", there, 2)], "label", Axis("x"))
    (one, _), (other, _) = (places(drawn, kind)[-1] for kind in ("s1", "s2"))
    assert other - one == pytest.approx(6, abs=0.2)
    drawn = curves([Curve("one", here), Curve("same", here, 2)], "label", Axis("x"))
    assert places(drawn, "s1")[-1] == places(drawn, "s2")[-1], "what is the same stays in one place"


def test_log_ticks_are_round_numbers():
    assert [round(10**value, 9) for value in log_ticks(-0.1, 1.1)] == [1, 2, 5, 10]
    assert log_ticks(0, 4) == [0, 1, 2, 3, 4]
    assert all(math.isfinite(value) for value in log_ticks(-3.7, -1.2))


def test_whole_axes_have_whole_numbers():
    assert Axis("layer", whole=True).marks(0.9, 2.1) == [1, 2]


def test_nothing_measured_is_said():
    assert "nothing measured yet" in dots([], "label", "x")
    assert "nothing measured yet" in curves([], "label", Axis("x"))


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
