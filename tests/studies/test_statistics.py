"""Intervals and tests against scipy's closed forms, and what may be concluded from them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitreous.studies.statistics import average, compare, differences, interval, judged, judged_same, within

VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(VALUES)
def test_the_interval_is_scipys(values):
    found = interval(values)
    if np.std(values) == 0:
        assert found.low == found.mean == found.high
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-12)


@given(VALUES)
def test_a_difference_is_called_when_the_t_test_rejects(values):
    if np.std(values) < 1e-9:
        return
    probability = stats.ttest_1samp(values, 0).pvalue
    if abs(probability - 0.05) > 1e-6:
        assert (compare(values) != "open") == (probability < 0.05)


@given(VALUES, st.sampled_from([0.05, 0.2, 0.7]))
def test_sameness_is_two_one_sided_tests(values, margin):
    if np.std(values) < 1e-9:
        return
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    if abs(max(above, below) - 0.05) > 1e-6:
        assert (within(values, margin) == "same") == (max(above, below) < 0.05)


def test_one_seed_concludes_nothing():
    assert compare([0.3]) == within([0.0], 0.1) == "open"
    assert math.isinf(interval([0.3]).low)
    assert interval([0.3]).points() == "+30.0 (one seed)"
    assert interval([]).percent() == "–"
    assert judged([0.3], "more") == judged([], "more") == "can't be told"


UP, DOWN, FLAT, WIDE = [0.02, 0.021, 0.019], [-0.02, -0.021, -0.019], [0.001, -0.001, 0.0], [0.3, -0.3, 0.02]


@pytest.mark.parametrize(
    ("found", "expected", "margin", "seen"),
    [
        (UP, "more", None, "seen"),
        (UP, "less", None, "not seen"),
        (DOWN, "less", None, "seen"),
        (WIDE, "more", 0.01, "can't be told"),
        (FLAT, "more", None, "can't be told"),
        (FLAT, "more", 0.01, "not seen"),
    ],
)
def test_verdicts_on_differences(found, expected, margin, seen):
    assert judged(found, expected, margin) == seen


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        ([FLAT, FLAT], "seen"),
        ([FLAT, UP], "not seen"),
        ([FLAT, WIDE], "can't be told"),
        ([WIDE, DOWN], "not seen"),
        ([], "can't be told"),
    ],
)
def test_verdicts_on_sameness(found, seen):
    assert judged_same(found, 0.01) == seen


def test_seeds_are_paired():
    assert differences({0: 1.0, 1: 2.0, 3: 9.0}, {1: 0.5, 0: 0.25, 2: 7.0}) == [0.75, 1.5]
    assert average([{0: 1.0, 1: 2.0}, {1: 4.0, 2: 5.0}]) == {1: 3.0}
    assert average([]) == {}
