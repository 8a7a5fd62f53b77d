"""Wrong labels, outliers and folds, on features whose mistakes are planted."""

import tracemalloc

import numpy as np
from sklearn.linear_model import LogisticRegression

from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.logistic import divide
from vitreous.evaluation.review import labels as checks

CLASSES = ("ant", "bee", "cat", "dog", "elk")


def planted(seed, wrong=10, count=500, noise=2.2):
    """Return features of five overlapping classes, some labels of which are wrong, and which those are."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, count)
    vectors = (rng.normal(0, 1, (5, 48))[true] + rng.normal(0, noise / 2, (count, 48))).astype(np.float32)
    bad, given = rng.choice(count, wrong, replace=False), true.copy()
    given[bad] = (true[bad] + rng.integers(1, 5, wrong)) % 5
    return Features(vectors, given.astype(np.int64), tuple(map(str, range(count))), CLASSES), true, set(bad.tolist())


def test_planted_mistakes_are_among_the_first_twenty():
    found, true, bad = planted(1)
    listed = checks.find_wrong_labels(checks.out_of_fold(found), found.labels)
    first = listed[:20]
    assert sum(one.index in bad for one in first) >= 9
    assert [one.confidence for one in listed] == sorted(one.confidence for one in listed)
    assert sum(one.confident for one in first if one.index in bad) >= 3
    assert all(one.other == true[one.index] for one in first if one.index in bad)


def test_probabilities_are_those_of_a_regression_that_has_not_seen_the_image(monkeypatch):
    monkeypatch.setattr(checks, "GRID", (1e-2,))
    found, _, _ = planted(3, count=200)
    mine, expected = checks.out_of_fold(found), np.zeros((200, 5))
    for division in range(checks.REPEATS):
        folds = divide(found, checks.FOLDS, division)
        for fold in range(checks.FOLDS):
            learned, asked = folds != fold, folds == fold
            mean, std = found.vectors[learned].mean(0), found.vectors[learned].std(0)
            white = (found.vectors - mean) / std
            theirs = LogisticRegression(C=1 / (1e-2 * learned.sum()), tol=1e-9, max_iter=5000)
            theirs.fit(white[learned], found.labels[learned])
            expected[asked] += theirs.predict_proba(white[asked]) / checks.REPEATS
    assert np.abs(mine - expected).max() < 1e-3
    assert np.allclose(mine.sum(1), 1)


def test_the_only_image_of_a_class_is_no_wrong_label():
    labels = np.array([0, 0, 1, 2, 2])
    probabilities = np.full((5, 3), 0.1)
    probabilities[np.arange(5), [0, 1, 0, 2, 2]] = 0.8
    assert [one.index for one in checks.find_wrong_labels(probabilities, labels)] == [1]


def test_images_of_one_class_are_all_its_own():
    found = Features(
        np.random.default_rng(0).random((9, 4), np.float32), np.zeros(9, np.int64), tuple("abcdefghi"), ("ant",)
    )
    assert np.array_equal(checks.out_of_fold(found), np.ones((9, 1)))


def test_an_image_far_from_its_class_is_an_outlier():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 40)
    vectors = rng.normal(0, 0.1, (80, 16)) + np.where(labels[:, None], 1.0, -1.0) * np.linspace(1, 2, 16)
    vectors[17] = rng.normal(0, 3, 16)
    found = Features(vectors.astype(np.float32), labels.astype(np.int64), tuple(map(str, range(80))), ("a", "b"))
    assert checks.outliers(found)[0][1] == 17
    assert len(checks.outliers(found)) <= 4


def test_copies_of_an_image_make_no_outliers_of_the_others(monkeypatch):
    """Nor do classes of a single image: neither says how far apart images of a class lie."""
    rng = np.random.default_rng(0)
    same, ordinary = (
        np.tile(rng.normal(size=(1, 8)), (60, 1)),
        rng.normal(size=(1, 8)) + 0.05 * rng.normal(size=(40, 8)),
    )
    vectors, names = np.concatenate([same, ordinary]).astype(np.float32), tuple(map(str, range(100)))
    found = Features(vectors, np.repeat([0, 1], [60, 40]), names, ("a", "b"))
    assert len(checks.outliers(found)) < 4
    alone = Features(rng.normal(size=(100, 8)).astype(np.float32), np.minimum(np.arange(100), 60), names, names[:61])
    assert len(checks.outliers(alone)) < 4
    assert checks.outliers(found.take(np.arange(60))) == []
    whole, _, _ = planted(1)
    expected = checks.outliers(whole)
    monkeypatch.setattr(checks, "BLOCK", 7)
    np.testing.assert_allclose(checks.outliers(whole), expected, rtol=1e-5)


def test_outliers_of_a_large_class_take_little_memory():
    vectors = np.random.default_rng(0).normal(size=(6000, 16)).astype(np.float32)
    found = Features(vectors, np.zeros(6000, np.int64), tuple(map(str, range(6000))), ("a",))
    tracemalloc.start()
    checks.outliers(found)
    assert tracemalloc.get_traced_memory()[1] < 80e6  # all pairs at once are 144 MB
    tracemalloc.stop()
