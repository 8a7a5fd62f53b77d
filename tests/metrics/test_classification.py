"""Metrics against scikit-learn and closed forms."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vitreous.errors import ConfigError, DataError
from vitreous.metrics.classification import Judged, evaluate_logits, judge, measure, top_k, wilson_interval


def names(count):
    return tuple(f"class {index}" for index in range(count))


def drawn(seed, examples, classes, scale=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, classes)) * scale, rng.integers(classes, size=examples)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 60), classes=st.integers(2, 9))
def test_equal_to_scikit_learn(seed, examples, classes):
    logits, labels = drawn(seed, examples, classes)
    found = evaluate_logits(logits, labels, names(classes))
    predicted, every = logits.argmax(1), list(range(classes))
    assert found.top1 == pytest.approx(reference.accuracy_score(labels, predicted))
    np.testing.assert_array_equal(found.confusion, reference.confusion_matrix(labels, predicted, labels=every))
    table = reference.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    ours = [(one.precision, one.recall, one.f1, one.support) for one in found.per_class]
    np.testing.assert_allclose(ours, np.transpose(table), atol=1e-12)
    assert found.balanced == pytest.approx(np.mean([one.recall for one in found.per_class if one.support]))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    kept = np.unique(labels)
    expected = reference.f1_score(labels, predicted, labels=kept, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected)
    for k in range(1, classes):
        if classes > 2:
            expected = reference.top_k_accuracy_score(labels, logits, k=k, labels=every)
            assert top_k(logits, labels, k) == pytest.approx(expected)
    assert top_k(logits, labels, classes) == top_k(logits, labels, 10**6) == 1
    assert found.nll == pytest.approx(reference.log_loss(labels, probability, labels=every))
    if classes > 5:
        assert found.top5 == pytest.approx(reference.top_k_accuracy_score(labels, logits, k=5, labels=every))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 60), classes=st.integers(2, 9))
def test_properties(seed, examples, classes):
    logits, labels = drawn(seed, examples, classes)
    found = evaluate_logits(logits, labels, names(classes))
    assert 0 <= found.interval[0] <= found.top1 <= found.interval[1] <= 1
    assert (found.top5 is None) == (classes <= 5)
    assert classes <= 5 or found.top1 <= found.top5 <= 1
    assert 0 <= found.ece <= 1
    assert sum(one.count for one in found.reliability) == examples == np.sum(found.confusion)
    shifted = evaluate_logits(logits + 700, labels, names(classes))
    assert shifted.nll == pytest.approx(found.nll)
    order = np.random.default_rng(seed).permutation(examples)
    assert evaluate_logits(logits[order], labels[order], names(classes)).confusion == found.confusion


def test_calibration_by_hand():
    # Four predictions of probability 0.75 for class 0, of which two are right: |0.5 - 0.75|.
    logits = np.log(np.array([[0.75, 0.25]] * 4))
    assert evaluate_logits(logits, np.array([0, 0, 1, 1]), names(2)).ece == pytest.approx(0.25)


def test_uniform_outputs():
    found = evaluate_logits(np.zeros((6, 3)), np.array([0, 0, 1, 1, 2, 2]), names(3))
    assert found.top1 == pytest.approx(1 / 3)  # of equal logits the first class counts
    assert found.nll == pytest.approx(math.log(3))
    assert found.ece == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top_five_is_told_of_more_than_five_classes(classes):
    found = evaluate_logits(np.eye(classes), np.arange(classes), names(classes))
    assert found.top5 == (1 if classes > 5 else None)
    assert ("top-5" in str(found)) == (classes > 5)
    assert found.to_dict()["top5"] == found.top5


def test_of_equal_logits_the_first_five_count():
    found = evaluate_logits(np.zeros((8, 8)), np.arange(8), names(8))
    assert found.top5 == pytest.approx(5 / 8)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), count=st.integers(1, 10_000))
def test_wilson_solves_its_equation(data, count):
    """Both ends p satisfy (share - p)^2 = z^2 p (1 - p) / count."""
    hits = data.draw(st.integers(0, count))
    low, high = wilson_interval(hits, count)
    for end in (low, high):
        assert (hits / count - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / count, abs=1e-9)


def test_extreme_logits_stay_finite():
    found = evaluate_logits(np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0]), names(2))
    assert found.nll == pytest.approx(1e4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers(bad):
    with pytest.raises(DataError, match="1 of 2 outputs"):
        evaluate_logits(np.array([[0.0, bad], [0.0, 1.0]]), np.array([0, 1]), names(2))


def test_no_examples():
    with pytest.raises(DataError, match="no examples"):
        evaluate_logits(np.zeros((0, 2)), np.zeros(0, np.int64), names(2))


@pytest.mark.parametrize("classes", [2, 30])
def test_for_people_and_for_programs(classes):
    logits, labels = drawn(0, 50, classes)
    found = evaluate_logits(logits, labels, names(classes))
    assert "top-1" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["examples"] == 50


def test_names_are_shown_without_control_characters():
    logits, labels = drawn(0, 50, 2)
    found = evaluate_logits(logits, labels, ("c\x1b[31mat", "\u202edog"))
    assert "\x1b" not in str(found) and "\u202e" not in str(found)
    assert "c\ufffd[31mat  " in str(found)
    assert [one.name for one in found.per_class] == ["c\x1b[31mat", "\u202edog"]


def test_top_k_of_nothing():
    with pytest.raises(ConfigError, match="k is 0; top-k accuracy needs at least 1"):
        top_k(np.zeros((2, 2)), np.zeros(2, np.int64), 0)


def test_a_class_without_examples_has_no_say():
    logits, labels = drawn(3, 40, 4)
    labels = labels % 3
    found = evaluate_logits(logits, labels, names(4))
    assert found.per_class[3].support == 0
    assert found.macro_f1 == pytest.approx(np.mean([one.f1 for one in found.per_class[:3]]))
    assert found.balanced == pytest.approx(np.mean([one.recall for one in found.per_class[:3]]))


def test_batches_judged_apart_make_the_same_metrics():
    logits, labels = drawn(3, 100, 7)
    parts = [judge(logits[first : first + 32], labels[first : first + 32]) for first in range(0, 100, 32)]
    assert measure(Judged.join(parts), names(7)) == evaluate_logits(logits, labels, names(7))


def test_many_classes_take_no_matrix():
    logits, labels = drawn(0, 30, 30_000)
    found = evaluate_logits(logits, labels, names(30_000))
    assert sum(count for *_, count in found.confusions) == 30
    assert found.to_dict()["confusion"] is None
    assert evaluate_logits(logits[:, :10], labels % 10, names(10)).to_dict()["confusion"]
