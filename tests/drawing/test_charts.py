"""Charts: their axes show what can be, and all that is drawn."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.drawing.charts import Row, Series, draw_dots, draw_intervals, draw_lines, draw_reliability, thin_points
from vitreous.drawing.svg import Axis, choose_log_ticks, find_share_range, format_percent, shorten
from vitreous.metrics.seeds import find_interval


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_an_axis_of_shares_holds_them_all_and_nothing_that_is_no_share(values):
    low, high = find_share_range(values)
    assert 0 <= low <= min(values)
    assert max(values) <= high <= 1
    assert high - low >= 0.1 - 1e-9


@pytest.mark.parametrize("value", [0.0, 0.004, 0.5, 0.9833, 1.0])
def test_equal_shares_get_an_axis_without_impossible_ones(value):
    drawing = draw_lines(
        [Series("held-out", [(0.0, value), (1.0, value)])], "Accuracy", Axis("l2"), Axis("", format_percent)
    )
    marked = [float(number) for number in re.findall(r">([-\d.]+)%<", drawing)]
    assert len(marked) >= 2
    assert min(marked) >= 0
    assert max(marked) <= 100


@pytest.mark.parametrize(("xs", "between"), [((0, 1, 2), False), ((0, 0.5, 2), True)])
def test_what_is_counted_is_numbered_by_whole_numbers(xs, between):
    drawing = draw_lines(
        [Series("heads", [(float(x), 3.0) for x in xs])], "Distance", Axis("layer"), Axis("", lambda *_: "y")
    )
    marked = [float(number) for number in re.findall(r">([\d.]+)<", drawing)]
    assert {0.0, 1.0, 2.0} <= set(marked)
    assert (0.5 in marked) == between


SVG = "{http://www.w3.org/2000/svg}"


def places(svg, kind):
    root = ET.fromstring(svg)
    circles = [
        one for one in root.iter(f"{SVG}circle") if kind in one.get("class").split() and float(one.get("cy")) > 24
    ]
    return [(float(one.get("cx")), float(one.get("cy"))) for one in circles]


def test_dots_lie_in_the_order_of_their_values():
    rows = [
        Row("a <b> & c", [0.1, 0.3], find_interval([0.1, 0.3]), 1),
        Row("unmeasured", [], find_interval([])),
        Row("z", [0.2], find_interval([0.2]), 2),
    ]
    drawn = draw_dots(rows, "what & why", "accuracy")
    (seed_one, _), (seed_two, _), (mean, _) = places(drawn, "c1")
    assert seed_one < mean < seed_two
    assert mean == pytest.approx((seed_one + seed_two) / 2, abs=0.1)
    assert places(drawn, "c2")[-1][0] == pytest.approx(mean, abs=0.1)
    assert "a &lt;b&gt; &amp; c" in drawn
    assert "unmeasured" not in drawn
    assert "prefers-color-scheme:dark" in drawn


def test_logarithmic_curves_are_evenly_spaced():
    points = [(10.0**power, find_interval([0.1 * power])) for power in (0, 1, 2)]
    drawn = draw_intervals([Series("one", points), Series("empty", [])], "label", Axis("x", log=True))
    xs = [x for x, _ in places(drawn, "c1")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert 'class="ideal"' not in drawn
    assert "empty" not in drawn


def test_conditions_at_the_same_x_stand_side_by_side():
    here, there = (
        [(0.0, find_interval(values)), (1.0, find_interval(values))] for values in ([0.1, 0.2], [0.15, 0.25])
    )
    drawn = draw_intervals([Series("one", here), Series("other", there, 2)], "label", Axis("x"))
    (one, _), (other, _) = (places(drawn, kind)[-1] for kind in ("c1", "c2"))
    assert other - one == pytest.approx(6, abs=0.2)
    drawn = draw_intervals([Series("one", here), Series("same", here, 2)], "label", Axis("x"))
    assert places(drawn, "c1")[-1] == places(drawn, "c2")[-1], "what is the same stays in one place"


def test_log_ticks_are_round_numbers():
    assert [round(10**value, 9) for value in choose_log_ticks(-0.1, 1.1)] == [1, 2, 5, 10]
    assert choose_log_ticks(0, 4) == [0, 1, 2, 3, 4]
    assert all(math.isfinite(value) for value in choose_log_ticks(-3.7, -1.2))


def test_whole_axes_have_whole_numbers():
    assert Axis("layer", whole=True).marks(0.9, 2.1) == [1, 2]


def test_nothing_measured_is_said():
    assert "nothing measured yet" in draw_dots([], "label", "x")
    assert "nothing measured yet" in draw_intervals([], "label", Axis("x"))


def test_a_long_line_is_thinned_and_keeps_its_end():
    kept = thin_points([(n, n) for n in range(1001)], 100)
    assert len(kept) <= 101
    assert (kept[0], kept[-1]) == ((0, 0), (1000, 1000))


def test_what_is_not_finite_is_left_out():
    drawn = draw_lines(
        [Series("loss", [(0, 1.0), (1, math.inf), (2, math.nan), (3, 2.0)], dots=True)], "Loss", Axis("x")
    )
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn and "inf" not in drawn


def test_a_legend_of_many_names_takes_several_rows():
    lines = [Series(f"a name of some length, {n}", [(0.0, 1.0 * n), (1.0, 2.0 * n)], n) for n in range(1, 7)]
    for drawing, width in (
        (draw_lines(lines, "many", Axis("x")), 360),
        (draw_intervals(lines, "many", Axis("x")), 720),
    ):
        named = [one for one in ET.fromstring(drawing).iter() if (one.text or "").startswith("a name")]
        assert len({one.get("y") for one in named}) > 1
        assert all(float(one.get("x")) < 0.75 * width for one in named)


def test_a_reliability_diagram_says_each_bin():
    drawn = draw_reliability([(0.0, 0.5, 4, 0.4, 0.25), (0.5, 1.0, 0, 0.0, 0.0), (0.9, 1.0, 1200, 0.95, 1.0)], "a <b>")
    said = [one.text for one in ET.fromstring(drawn).iter("title")]
    assert said == [
        "a <b>",
        "4 predictions of 0% to 50%: confidence 40.0%, accuracy 25.0%",
        "1,200 predictions of 90% to 100%: confidence 95.0%, accuracy 100.0%",
    ]
    assert drawn.count('class="gap"') == drawn.count('class="spare"') == 1


UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


@given(st.floats(-1e12, 1e12), st.floats(1e-7, 1))
def test_an_axis_says_its_numbers_as_they_are(low, share):
    numbered = Axis("").number(low, low + share * max(1.0, abs(low)))
    step = min((high - low for (low, _), (high, _) in pairwise(numbered)), default=1.0)
    for value, said in numbered:
        read = float(said.rstrip("kMG")) * UNITS.get(said[-1], 1)
        assert read == pytest.approx(value, abs=0.01 * step + 1e-12)


def test_numbers_that_are_all_but_equal_have_an_axis_too():
    for values in ((1.0, 1.0 + 1e-14), (0.0, 1e-15), (0.0, 5e-324), (1e300, 2e300)):
        assert "<path" in draw_lines([Series("a", list(enumerate(values)))], "label", Axis("x"))


def test_numbers_are_short():
    assert [shorten(value) for value in (9.9e11, 1e12, -1e30)] == ["990G", "1e+12", "-1e+30"]
    assert [shorten(value) for value in (0.002, 12, 12_000, 1_500_000, 2e9)] == ["0.002", "12", "12k", "1.5M", "2G"]
    assert format_percent(0.125) == "12.5%"


def test_an_interval_without_bounds_is_a_point():
    one = find_interval([0.3])
    assert math.isinf(one.high)
    drawn = draw_intervals([Series("one seed", [(1.0, one), (2.0, one)], joined=False)], "label", Axis("x"))
    assert drawn.count('class="mark c1"') == 3, "two points, and one in the legend"
    assert 'class="line' not in drawn
    assert 'class="line c2' not in draw_dots([Row("a", [0.3], one, 2), Row("b", [0.4], one, 1)], "label", "x")
    assert 'class="line c2' in draw_dots([Row("a", [0.2, 0.4], find_interval([0.2, 0.4]), 2)], "label", "x")
