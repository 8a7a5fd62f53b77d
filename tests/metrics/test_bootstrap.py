"""Bootstrap intervals: the vectorised statistics, their coverage, and what can't be resampled."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from vitreous.errors import ConfigError
from vitreous.metrics import bootstrap as room
from vitreous.metrics.bootstrap import (
    auroc_statistic,
    average_precision_statistic,
    bootstrap,
    difference_statistic,
    index_statistic,
    macro_f1_statistic,
    mean_statistic,
    recall_statistic,
)


def drawn(seed, examples=40, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=examples), rng.integers(classes, size=examples), rng.random(examples)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_statistic_equals_the_metric_of_the_images_drawn(seed):
    labels, predicted, confidence = drawn(seed)
    right = labels == predicted

    pairs = [
        (mean_statistic(right), lambda chosen: right[chosen].mean()),
        (recall_statistic(labels, right), lambda chosen: reference.recall_score(
            labels[chosen], predicted[chosen], labels=np.unique(labels[chosen]), average="macro", zero_division=0)),
        (macro_f1_statistic(labels, predicted), lambda chosen: reference.f1_score(
            labels[chosen], predicted[chosen], labels=np.unique(labels[chosen]), average="macro", zero_division=0)),
        (auroc_statistic(confidence, right), lambda chosen: reference.roc_auc_score(right[chosen], confidence[chosen])),
        (average_precision_statistic(confidence, right),
         lambda chosen: reference.average_precision_score(right[chosen], confidence[chosen])),
    ]  # fmt: skip
    weights = next(room._resample(len(labels), 3, seed))
    for fast, metric in pairs:
        if any(len(np.unique(right[row > 0])) < 2 for row in weights):
            continue
        np.testing.assert_allclose(fast(weights), index_statistic(metric)(weights), atol=1e-12)


def test_the_whole_and_its_interval_agree_with_theory():
    """The bootstrap's spread of a mean is the standard error; scipy's own bootstrap finds the same ends.

    An end of 20,000 resamples scatters by 0.019 standard errors.
    """
    values = np.random.default_rng(3).random(500)
    found = bootstrap(mean_statistic(values), 500, resamples=20_000)
    error = values.std() / math.sqrt(500)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.05)
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=0)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.1 * error)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.1 * error)


def test_intervals_cover_what_they_should():
    rng = np.random.default_rng(4)
    inside = 0
    for seed in range(200):
        found = bootstrap(mean_statistic(rng.random(150) < 0.7), 150, resamples=300, seed=seed)
        inside += found.low <= 0.7 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_the_same_seed_and_any_portion(monkeypatch):
    labels, predicted, _ = drawn(0)
    statistic = recall_statistic(labels, labels == predicted)
    whole = bootstrap(statistic, 40, resamples=50, seed=7)
    assert bootstrap(statistic, 40, resamples=50, seed=7) == whole
    assert bootstrap(statistic, 40, resamples=50, seed=8) != whole
    monkeypatch.setattr(room, "CELLS", 100)
    assert bootstrap(statistic, 40, resamples=50, seed=7) == whole


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(5)
    first = rng.random(1000) < 0.8
    second = np.where(rng.random(1000) < 0.03, ~first, first)
    one, other = mean_statistic(first), mean_statistic(second)
    paired = bootstrap(difference_statistic(one, other), 1000)
    assert paired.value == pytest.approx(second.mean() - first.mean())
    single = bootstrap(one, 1000)
    assert paired.high - paired.low < 0.6 * (single.high - single.low)
    nothing = bootstrap(difference_statistic(one, one), 1000)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_not_defined():
    found = bootstrap(auroc_statistic(np.arange(5.0), np.ones(5, bool)), 5)
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    rare = np.array([True, False, False])
    found = bootstrap(auroc_statistic(np.arange(3.0), rare), 3)  # often no positive is drawn
    assert (found.value, found.low) == (0, 0)


@pytest.mark.parametrize("wrong", [{"examples": 0}, {"resamples": 0}, {"level": 1.0}])
def test_what_cannot_be(wrong):
    with pytest.raises(ConfigError, match="can't bootstrap"):
        bootstrap(mean_statistic(np.ones(3)), **{"examples": 3, **wrong})
