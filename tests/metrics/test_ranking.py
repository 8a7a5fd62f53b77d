"""AUROC, average precision and several labels an image, against scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vitreous.errors import DataError
from vitreous.metrics.multilabel import evaluate_labels
from vitreous.metrics.ranking import auroc, average_precision, rank_classes

SEEDS = st.integers(0, 2**32 - 1)


def scored(seed, examples, levels=None):
    """Draw scores, of which some tie if there are few levels, and labels with at least one of each."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=examples) if levels is None else rng.integers(levels, size=examples) / levels
    positive = rng.random(examples) < 0.3
    positive[:2] = True, False
    return scores, positive


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, examples=st.integers(2, 80), levels=st.sampled_from([None, 1, 2, 5]))
def test_equal_to_scikit_learn(seed, examples, levels):
    scores, positive = scored(seed, examples, levels)
    assert float(auroc(scores, positive)) == pytest.approx(reference.roc_auc_score(positive, scores), abs=1e-12)
    expected = reference.average_precision_score(positive, scores)
    assert float(average_precision(scores, positive)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, examples=st.integers(2, 40))
def test_weights_count_as_repetitions(seed, examples):
    scores, positive = scored(seed, examples, 6)
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, examples)).astype(np.float64)
    for measure in (auroc, average_precision):
        found = measure(scores, positive, weights)
        for row, value in zip(weights.astype(int), found, strict=True):
            expected = measure(np.repeat(scores, row), np.repeat(positive, row)) if row.sum() else np.nan
            np.testing.assert_allclose(value, expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, examples=st.integers(2, 60))
def test_auroc_is_a_probability_of_pairs(seed, examples):
    scores, positive = scored(seed, examples, 7)
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    assert float(auroc(scores, positive)) == pytest.approx(np.where(pairs == 0, 0.5, pairs > 0).mean())
    assert float(auroc(-scores, positive)) == pytest.approx(1 - float(auroc(scores, positive)))
    assert float(auroc(np.exp(scores), positive)) == pytest.approx(float(auroc(scores, positive)))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, examples=st.integers(2, 40), size=st.sampled_from([1.0, 60.0]))
def test_both_of_two_classes_have_the_binary_auroc(seed, examples, size):
    scores, positive = scored(seed, examples, 9)
    logits = np.stack([size * np.ones(examples), size * (2 + scores)], 1)
    found = rank_classes(logits, positive.astype(int), ("no", "yes"))
    assert [one.auroc for one in found.per_class] == [pytest.approx(float(auroc(scores, positive)))] * 2


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([1.0, 60.0, 1000.0]))
def test_a_third_class_that_never_comes_changes_nothing(seed, size):
    """Probabilities that are rounded to 1 are told apart, as with two classes."""
    rng = np.random.default_rng(seed)
    labels, gap = rng.integers(2, size=60), size * rng.normal(size=60)
    logits = np.stack([np.zeros(60), gap + size * labels, np.full(60, -1e4)], 1)
    if len(set(labels)) == 2:
        found = rank_classes(logits, labels, ("no", "yes", "never"))
        sides = ((logits[:, 0] - logits[:, 1], labels == 0), (logits[:, 1] - logits[:, 0], labels == 1))
        for one, (score, positive) in zip(found.per_class, sides, strict=False):
            assert one.auroc == pytest.approx(reference.roc_auc_score(positive, score))
            assert one.average_precision == pytest.approx(reference.average_precision_score(positive, score))


def test_one_side_only():
    scores = np.array([0.1, 0.2, 0.3])
    every, none = np.ones(3, bool), np.zeros(3, bool)
    assert math.isnan(auroc(scores, every)) and math.isnan(auroc(scores, none))
    assert float(average_precision(scores, every)) == 1
    assert math.isnan(average_precision(scores, none))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, classes=st.integers(3, 6))
def test_one_against_the_rest(seed, classes):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(50, classes)), np.r_[np.arange(classes), rng.integers(classes, size=50 - classes)]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = rank_classes(logits, labels, tuple(map(str, range(classes))))
    assert found.auroc == pytest.approx(reference.roc_auc_score(labels, probability, multi_class="ovr"))
    each = reference.average_precision_score(np.eye(classes)[labels], probability, average=None)
    np.testing.assert_allclose([one.average_precision for one in found.per_class], each)
    assert found.mean_average_precision == pytest.approx(each.mean())


def test_two_classes_have_the_binary_auroc():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 2)), rng.integers(2, size=40)
    found = rank_classes(logits, labels, ("no", "yes"))
    expected = reference.roc_auc_score(labels, logits[:, 1] - logits[:, 0])
    assert found.auroc == pytest.approx(expected)
    assert [one.auroc for one in found.per_class] == pytest.approx([expected] * 2)


def test_a_class_without_examples_has_no_say():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(30, 3)), rng.integers(2, size=30)
    found = rank_classes(logits, labels, ("a", "b", "never"))
    assert found.per_class[2].auroc is None and found.per_class[2].average_precision is None
    assert found.auroc == pytest.approx(np.mean([one.auroc for one in found.per_class[:2]]))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["per_class"][2]["auroc"] is None


def test_one_class_only():
    found = rank_classes(np.zeros((4, 2)), np.zeros(4, np.int64), ("a", "b"))
    assert found.auroc is None
    assert found.mean_average_precision == 1


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, examples=st.integers(1, 40), labels=st.integers(2, 6))
def test_several_labels_equal_to_scikit_learn(seed, examples, labels):
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(examples, labels)), rng.integers(2, size=(examples, labels))
    targets[0] = 1
    found = evaluate_labels(logits, targets, tuple(map(str, range(labels))))
    claimed = (logits >= 0).astype(int)
    assert found.mean_average_precision == pytest.approx(reference.average_precision_score(targets, logits))
    micro = reference.average_precision_score(targets, logits, average="micro")
    assert found.micro_average_precision == pytest.approx(micro)
    for kind in ("macro", "micro"):
        expected = reference.f1_score(targets, claimed, average=kind, zero_division=0)
        assert getattr(found, f"{kind}_f1") == pytest.approx(expected)
    assert found.exact == pytest.approx(reference.accuracy_score(targets, claimed))
    assert found.hamming == pytest.approx(reference.hamming_loss(targets, claimed))
    probability = 1 / (1 + np.exp(-logits))
    expected = -np.mean(targets * np.log(probability) + (1 - targets) * np.log(1 - probability))
    assert found.nll == pytest.approx(expected)
    table = reference.precision_recall_fscore_support(targets, claimed, zero_division=0)
    ours = [(one.precision, one.recall, one.f1, one.support) for one in found.per_label]
    np.testing.assert_allclose(ours, np.transpose(table), atol=1e-12)


def test_images_without_labels_and_labels_without_images():
    found = evaluate_labels(np.array([[2.0, -1.0], [-1.0, -2.0]]), np.zeros((2, 2), int), ("a", "b"))
    assert (found.mean_average_precision, found.auroc, found.micro_average_precision) == (None, None, None)
    assert (found.macro_f1, found.exact, found.hamming) == (0.0, 0.5, 0.25)


def test_targets_that_are_no_labels():
    with pytest.raises(DataError, match="target of example 1, label 0 is 2; it must be 0 or 1"):
        evaluate_labels(np.zeros((2, 2)), np.array([[0, 1], [2, 0]]), ("a", "b"))


def test_outputs_that_are_no_numbers():
    with pytest.raises(DataError, match="1 of 2 outputs"):
        evaluate_labels(np.array([[0.0, np.nan], [0.0, 1.0]]), np.zeros((2, 2), int), ("a", "b"))
    with pytest.raises(DataError, match="1 of 2 outputs"):
        rank_classes(np.array([[0.0, np.inf], [0.0, 1.0]]), np.array([0, 1]), ("a", "b"))
