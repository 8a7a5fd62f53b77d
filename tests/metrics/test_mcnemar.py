"""McNemar's test against scipy and against simulation."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vitreous.metrics.mcnemar import FEW, compute_exact_p, mcnemar


def pair(both, one, other, neither):
    """Return the hits of two models with these counts."""
    counts = (both, one, other, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@settings(max_examples=80, deadline=None)
@given(one=st.integers(0, 200), other=st.integers(0, 200))
def test_exact_is_the_binomial_test(one, other):
    if one + other:
        assert compute_exact_p(one, other) == pytest.approx(stats.binomtest(one, one + other).pvalue)
    assert compute_exact_p(one, other) == compute_exact_p(other, one)


@settings(max_examples=60, deadline=None)
@given(one=st.integers(0, 120), other=st.integers(0, 120), both=st.integers(0, 5), neither=st.integers(0, 5))
def test_against_scipy(one, other, both, neither):
    found = mcnemar(*pair(both, one, other, neither))
    assert (found.both, found.only_first, found.only_second, found.neither) == (both, one, other, neither)
    count = one + other
    if count == 0:
        assert (found.p, found.method) == (1.0, "exact")
    elif count < FEW:
        assert (found.p, found.method) == (pytest.approx(stats.binomtest(one, count).pvalue), "exact")
    else:
        expected = stats.chi2.sf(max(0, abs(one - other) - 1) ** 2 / count, 1)
        assert (found.p, found.method) == (pytest.approx(expected), "chi-squared")
    assert 0 <= found.p <= 1
    assert mcnemar(*pair(both, other, one, neither)).p == found.p


@pytest.mark.parametrize(("one", "other"), [(20, 10), (35, 20), (60, 40)])
def test_the_two_methods_agree_where_they_meet(one, other):
    assert mcnemar(*pair(0, one, other, 0)).p == pytest.approx(compute_exact_p(one, other), abs=0.01)


def test_the_known_example():
    """Agresti, Categorical Data Analysis, table 10.1: 150 and 86 discordant, z^2 = 17.36 without correction."""
    found = mcnemar(*pair(794, 150, 86, 570))
    assert found.p == pytest.approx(stats.chi2.sf(63**2 / 236, 1))
    assert found.p < 1e-4
    assert json.loads(json.dumps(found.to_dict()))["only_first"] == 150


def test_no_more_false_alarms_than_promised():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        first = rng.random(300) < 0.8
        second = np.where(rng.random(300) < 0.15, rng.random(300) < 0.8, first)
        alarms += mcnemar(first, second).p < 0.05
    assert alarms / 400 <= 0.07
