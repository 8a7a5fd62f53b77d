"""Charts: their axes show what can be, and all that is drawn."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.drawing.charts import Series, line_chart, percent, share_range


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_an_axis_of_shares_holds_them_all_and_nothing_that_is_no_share(values):
    low, high = share_range(values)
    assert 0 <= low <= min(values)
    assert max(values) <= high <= 1
    assert high - low >= 0.1 - 1e-9


@pytest.mark.parametrize("value", [0.0, 0.004, 0.5, 0.9833, 1.0])
def test_equal_shares_get_an_axis_without_impossible_ones(value):
    drawing = line_chart([Series("held-out", [(0.0, value), (1.0, value)])], "Accuracy", "l2", percent)
    marked = [float(number) for number in re.findall(r">([-\d.]+)%<", drawing)]
    assert len(marked) >= 2
    assert min(marked) >= 0
    assert max(marked) <= 100


@pytest.mark.parametrize(("xs", "between"), [((0, 1, 2), False), ((0, 0.5, 2), True)])
def test_what_is_counted_is_numbered_by_whole_numbers(xs, between):
    drawing = line_chart([Series("heads", [(float(x), 3.0) for x in xs])], "Distance", "layer", lambda _: "y")
    marked = [float(number) for number in re.findall(r">([\d.]+)<", drawing)]
    assert {0.0, 1.0, 2.0} <= set(marked)
    assert (0.5 in marked) == between
