"""A head by logistic regression, held against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from vitreous.errors import DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.logistic import divide, fit_logistic_head


def features(count=90, width=12, classes=3, spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = rng.normal(size=(classes, width))
    scales = 10.0 ** rng.uniform(-2, 2, width)  # as features of networks have them, of very different sizes
    vectors = ((centres[labels] + spread * rng.normal(size=(count, width))) * scales + 3 * scales).astype(np.float32)
    return Features(vectors, labels, tuple(f"{index}.png" for index in range(count)), tuple("abcdefg"[:classes]))


def fit_by_scikit_learn(train, l2):
    scaler = StandardScaler().fit(train.vectors.astype(np.float64))
    inputs = scaler.transform(train.vectors.astype(np.float64))
    strength = len(train) * l2 / (2 if len(set(train.labels)) == 2 else 1)
    return scaler, LogisticRegression(C=1 / strength, tol=1e-8, max_iter=10_000).fit(inputs, train.labels)


def softmax(logits):
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return logits / logits.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("l2", [0.003, 0.3])
def test_probabilities_are_scikit_learns(classes, l2):
    everything = features(count=180, classes=classes)
    train, new = everything.take(np.arange(90)), everything.vectors[90:]
    head = fit_logistic_head([train], grid=(l2,))
    scaler, reference = fit_by_scikit_learn(train, l2)
    expected = reference.predict_proba(scaler.transform(new.astype(np.float64)))
    np.testing.assert_allclose(softmax(new @ head.weight.T + head.bias), expected, atol=2e-4)


def test_views_are_learned_from_together_and_the_images_alone_are_predicted():
    train = features()
    rng = np.random.default_rng(5)
    view = Features(
        train.vectors * rng.uniform(0.8, 1.2, train.vectors.shape).astype(np.float32),
        train.labels,
        train.names,
        train.classes,
    )
    head = fit_logistic_head([train, view], grid=(0.1,), seed=2)
    both = Features(
        np.concatenate([train.vectors, view.vectors]), np.tile(train.labels, 2), train.names * 2, train.classes
    )
    scaler, reference = fit_by_scikit_learn(both, 0.1)
    expected = reference.predict_proba(scaler.transform(train.vectors.astype(np.float64)))
    np.testing.assert_allclose(softmax(train.vectors @ head.weight.T + head.bias), expected, atol=2e-4)
    fold = divide(train, 5, 2)
    for number in range(5):  # no view of a held-out image is learned from
        scaler, reference = fit_by_scikit_learn(both.take(np.flatnonzero(np.tile(fold, 2) != number)), 0.1)
        held = train.vectors[fold == number]
        expected = reference.predict_proba(scaler.transform(held.astype(np.float64)))
        np.testing.assert_allclose(softmax(head.logits[fold == number]), expected, atol=3e-3)
    assert head.accuracy == np.mean(head.logits.argmax(1) == train.labels)
    assert head.interval[0] < head.accuracy < head.interval[1]


def test_the_strength_is_the_best_on_images_that_were_not_seen():
    train, grid = features(count=60, width=40, spread=4.0), (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    head = fit_logistic_head([train], grid=grid)
    fold, losses = divide(train, 5, 0), {}
    for l2 in grid:
        found = np.zeros((len(train), 3))
        for number in range(5):
            scaler, reference = fit_by_scikit_learn(train.take(np.flatnonzero(fold != number)), l2)
            found[fold == number] = reference.predict_proba(scaler.transform(train.vectors[fold == number]))
        losses[l2] = log_loss(train.labels, found)
    assert head.l2 == min(losses, key=losses.__getitem__)
    assert head.l2 not in (min(grid), max(grid))
    for l2, loss in head.tried:
        assert loss == pytest.approx(losses[l2], rel=5e-3)
    assert len(head.tried) < len(grid)  # weaker ones than the two that did worse are not tried


@pytest.mark.parametrize("counts", [(17, 3, 2), (5, 5, 5), (1, 9, 4), (2, 1, 1)])
def test_folds_are_as_even_as_can_be_class_by_class(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    part = Features(np.zeros((len(labels), 1), np.float32), labels, ("",) * len(labels), tuple("abc"))
    fold = divide(part, 5, 3)
    assert set(fold) == set(range(min(5, len(labels))))
    for label in range(len(counts)):
        own = np.bincount(fold[labels == label], minlength=5)
        assert own.max() - own.min() <= 1
    assert np.ptp(np.bincount(fold)) <= 1
    np.testing.assert_array_equal(fold, divide(part, 5, 3))


def test_a_class_of_one_image_is_learned_and_one_class_alone_refused():
    train = features(count=40)
    labels = np.where(np.arange(40) == 0, 2, np.minimum(train.labels, 1))
    lone = Features(train.vectors, labels, train.names, train.classes)
    head = fit_logistic_head([lone], grid=(0.01,))
    assert (train.vectors[:1] @ head.weight.T + head.bias).argmax() == 2
    with pytest.raises(DataError, match="at least two classes"):
        fit_logistic_head([Features(train.vectors, np.zeros(40, np.int64), train.names, train.classes)])
