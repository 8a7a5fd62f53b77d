"""Temperature scaling: the fit against brute force, and never reported on what it was fitted on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataError
from vitreous.metrics.calibration import COLDEST, HOTTEST, cross_fit_temperature, fit_temperature, split_halves
from vitreous.metrics.classification import evaluate_logits, log_sum_exp


def sure(seed, factor, examples=400, classes=5):
    """Draw labels from the softmax of logits, then return logits that are `factor` times too large."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(examples, classes))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probability.cumsum(1) > rng.random((examples, 1))).argmax(1)
    return factor * logits, labels


def loss(logits, labels, temperature):
    scores = logits / temperature
    return float((log_sum_exp(scores)[:, 0] - scores[np.arange(len(labels)), labels]).mean())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.2, 8))
def test_no_temperature_is_better(seed, factor):
    logits, labels = sure(seed, factor, examples=60)
    found = fit_temperature(logits, labels)
    best = loss(logits, labels, found)
    assert all(best <= loss(logits, labels, other) + 1e-9 for other in found * np.geomspace(0.5, 2, 41))
    if COLDEST < found < HOTTEST:
        assert fit_temperature(3 * logits, labels) == pytest.approx(min(HOTTEST, 3 * found), rel=1e-6)


def test_finds_the_factor():
    logits, labels = sure(0, 3.0, examples=20_000)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.05)


def test_ends():
    right, labels = np.eye(3) * 5, np.arange(3)
    assert fit_temperature(right, labels) == COLDEST
    assert fit_temperature(right, (labels + 1) % 3) == HOTTEST
    assert fit_temperature(1e7 * right, (labels + 1) % 3) == HOTTEST
    assert fit_temperature(np.zeros((4, 3)), np.zeros(4, np.int64)) == 1.0


def test_each_half_is_scaled_by_the_other():
    logits, labels = sure(1, 4.0)
    found = cross_fit_temperature(logits, labels)
    first, second = split_halves(labels)
    assert found.temperatures == (
        fit_temperature(logits[first], labels[first]),
        fit_temperature(logits[second], labels[second]),
    )
    by_hand = np.empty_like(logits)
    by_hand[first], by_hand[second] = logits[first] / found.temperatures[1], logits[second] / found.temperatures[0]
    names = tuple("abcde")
    before, after = evaluate_logits(logits, labels, names), evaluate_logits(by_hand, labels, names)
    assert found.ece == pytest.approx((before.ece, after.ece))
    assert found.nll == pytest.approx((before.nll, after.nll))
    assert after.top1 == before.top1
    assert found.ece[1] < found.ece[0] / 2
    assert json.loads(json.dumps(found.to_dict()))["temperatures"] == list(found.temperatures)


def test_labels_of_one_half_do_not_touch_its_own_report():
    """Spoil the labels of one half: the temperature that is applied to it stays."""
    logits, labels = sure(2, 4.0)
    first, _ = split_halves(labels)
    before = cross_fit_temperature(logits, labels).temperatures
    spoiled = labels.copy()
    swapped = np.flatnonzero(first)
    spoiled[swapped] = labels[swapped][::-1]
    same = np.sort(spoiled[first]).tolist() == np.sort(labels[first]).tolist()
    assert same and split_halves(spoiled)[0].sum() == first.sum()
    second_only = fit_temperature(logits[~first], labels[~first])
    assert before[1] == second_only == fit_temperature(logits[~first], spoiled[~first])


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=60), seed=st.integers(0, 100))
def test_halves_are_even_in_every_class(labels, seed):
    labels = np.array(labels)
    first, second = split_halves(labels, seed)
    np.testing.assert_array_equal(first, ~second)
    assert abs(int(first.sum()) - int(second.sum())) <= 1
    for label in np.unique(labels):
        assert abs(int(first[labels == label].sum()) - int(second[labels == label].sum())) <= 1


def test_too_few():
    with pytest.raises(DataError, match="can't split 1 example"):
        cross_fit_temperature(np.zeros((1, 2)), np.zeros(1, np.int64))


def test_outputs_that_are_no_numbers():
    with pytest.raises(DataError, match="1 of 2 outputs"):
        fit_temperature(np.array([[0.0, np.nan], [0.0, 1.0]]), np.array([0, 1]))
