"""Intervals and tests against scipy's closed forms, and what may be concluded from them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitreous.metrics.seeds import (
    Evidence,
    Seen,
    Verdict,
    average_groups,
    combine_evidence,
    correct_holm,
    find_equivalence_probability,
    find_interval,
    pair_differences,
    settle_verdicts,
    weigh_above,
    weigh_claim,
    weigh_equivalence,
)
from vitreous.metrics.seeds_and_images import Scores


def decided(*evidence: Evidence) -> list[Seen]:
    """Return what is called of claims with this evidence, as the only ones of a study."""
    return [one.seen for one in settle_verdicts([Verdict("", one, "") for one in evidence])]


VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(VALUES)
def test_the_interval_is_scipys(values):
    found = find_interval(values)
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
        assert (decided(weigh_claim(values, "more")) != ["can't be told"]) == (probability < 0.05)


@given(VALUES, st.sampled_from([0.05, 0.2, 0.7]))
def test_sameness_is_two_one_sided_tests(values, margin):
    if np.std(values) < 1e-9:
        return
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert find_equivalence_probability(values, margin) == pytest.approx(max(above, below), abs=1e-9)


def test_one_seed_concludes_nothing():
    assert find_equivalence_probability([0.0], 0.1) == 1.0
    assert math.isinf(find_interval([0.3]).low)
    assert find_interval([0.3]).points() == "+30.0 (one seed)"
    assert find_interval([]).percent() == "–"
    assert decided(weigh_claim([0.3], "more"), weigh_claim([], "more"), weigh_above([0.3])) == ["can't be told"] * 3


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
    assert decided(weigh_claim(found, expected, margin)) == [seen]


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
    assert decided(weigh_equivalence(found, 0.01)) == [seen]


def test_seeds_are_paired():
    assert pair_differences({0: 1.0, 1: 2.0, 3: 9.0}, {1: 0.5, 0: 0.25, 2: 7.0}) == [0.75, 1.5]
    assert average_groups([{0: 1.0, 1: 2.0}, {1: 4.0, 2: 5.0}]) == {1: 3.0}
    assert average_groups([]) == {}


def test_intervals_hold_images_where_they_are_known():
    rng = np.random.default_rng(0)
    hard = rng.random(100) < 0.5  # the same images are right under every seed
    scores = [Scores(hard ^ (rng.random(100) < 0.01)) for _ in range(4)]
    seeds_alone, both = find_interval([float(one) for one in scores]), find_interval(scores)
    assert seeds_alone.mean == both.mean
    assert both.high - both.low > 5 * (seeds_alone.high - seeds_alone.low)
    assert (
        pair_differences({0: scores[0]}, {0: scores[1]})[0].each.tolist() == (scores[0].each - scores[1].each).tolist()
    )
    assert average_groups([{0: scores[0]}, {0: scores[1]}])[0].each.max() <= 1.0


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(chances):
    corrected = correct_holm(chances)
    by_size = sorted(range(len(chances)), key=chances.__getitem__)
    expected = [
        min(1.0, max((len(chances) - k) * chances[by_size[k]] for k in range(rank + 1))) for rank in range(len(chances))
    ]
    assert [corrected[index] for index in by_size] == pytest.approx(expected)


def test_claims_of_a_study_are_corrected_for_their_number():
    weak, strong = Evidence(0.03, 1.0), Evidence(0.004, 1.0)
    assert decided(weak) == ["seen"]
    assert decided(weak, weak) == ["can't be told", "can't be told"]
    assert decided(weak, strong, Evidence(1.0, 0.001)) == ["seen", "seen", "not seen"]
    told = settle_verdicts([Verdict("", None, ""), Verdict("", weak, "")])
    assert [(one.seen, one.chance) for one in told] == [("can't be told", 1.0), ("seen", 0.03)]


def test_with_nothing_to_see_a_study_of_ten_claims_seldom_errs():
    rng = np.random.default_rng(1)
    called = [
        any(
            seen != "can't be told"
            for seen in decided(*(weigh_claim(list(rng.standard_normal(5)), "more") for _ in range(10)))
        )
        for _ in range(150)
    ]
    assert np.mean(called) < 0.09


def test_all_claims_together_are_as_weak_as_the_weakest():
    assert decided(combine_evidence([Evidence(0.01, 1.0), Evidence(0.2, 1.0)])) == ["can't be told"]
    assert decided(combine_evidence([])) == ["can't be told"]
