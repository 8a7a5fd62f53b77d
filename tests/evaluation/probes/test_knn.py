"""k nearest neighbours against scikit-learn's, and votes by temperature against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from tests.support.features import clouds

from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.knn import KNNOptions, knn, neighbours
from vitreous.metrics.classification import wilson_interval


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.probes.knn.QUERIES", 7)
    monkeypatch.setattr("vitreous.evaluation.probes.knn.KEYS", 13)


@pytest.mark.parametrize(("metric", "theirs"), [("cosine", "cosine"), ("euclid", "euclidean")])
def test_equal_to_scikit_learn(metric, theirs, small_chunks):
    train, test = clouds(seed=1), clouds(seed=2)
    for k in (1, 3, 20, 120):
        found = knn(train, test, KNNOptions(ks=(k,), metric=metric, votes="uniform"))
        other = KNeighborsClassifier(k, metric=theirs, algorithm="brute").fit(train.vectors.astype(float), train.labels)
        np.testing.assert_array_equal(found.predicted, other.predict(test.vectors.astype(float)))
        assert found.accuracy == (found.predicted == test.labels).mean()
        assert found.interval == wilson_interval(int((found.predicted == test.labels).sum()), len(test))


@given(
    st.integers(2, 40),
    st.integers(1, 30),
    st.integers(1, 6),
    st.integers(0, 10**6),
    st.sampled_from(["cosine", "euclid"]),
)
def test_neighbours_are_the_nearest(count, asked, width, seed, metric):
    rng = np.random.default_rng(seed)
    train, queries = rng.normal(size=(count, width)) + 5, rng.normal(size=(asked, width)) + 5
    k = int(rng.integers(1, count + 1))
    found = neighbours(train, queries, k, metric)
    if metric == "cosine":
        unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
        close = unit(queries) @ unit(train).T
    else:
        close = -((queries[:, None] - train) ** 2).sum(2)
    np.testing.assert_allclose(found.closeness, np.sort(close, 1)[:, ::-1][:, :k], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(close, found.indices, 1), found.closeness, atol=1e-9)
    assert all(len(set(row)) == k for row in found.indices)


@pytest.mark.parametrize("keys", [7, 64, 8192])
def test_among_equal_ones_the_first_are_nearest(keys, monkeypatch):
    """Whatever the size of the blocks."""
    monkeypatch.setattr("vitreous.evaluation.probes.knn.KEYS", keys)
    train, queries = np.eye(3)[np.random.default_rng(0).integers(3, size=600)], np.eye(3)
    found = neighbours(train, queries, 250, "cosine")
    np.testing.assert_array_equal(found.indices, np.argsort(-queries @ train.T, axis=1, kind="stable")[:, :250])


def test_votes_by_temperature(small_chunks):
    train, test = clouds(seed=1, spread=6), clouds(seed=2, spread=6)
    x, z = train.vectors.astype(float), test.vectors.astype(float)
    x, z = x / np.linalg.norm(x, axis=1, keepdims=True), z / np.linalg.norm(z, axis=1, keepdims=True)
    similar = z @ x.T
    for temperature in (0.07, 1.0):
        expected = []
        for row in similar:
            votes = np.zeros(4)
            for index in np.argsort(-row)[:20]:
                votes[train.labels[index]] += np.exp(row[index] / temperature)
            expected.append(votes.argmax())
        found = knn(train, test, KNNOptions(ks=(20,), temperature=temperature))
        np.testing.assert_array_equal(found.predicted, expected)


def test_k_is_chosen_by_leaving_each_training_image_out(small_chunks):
    train, test = clouds(seed=1, spread=5), clouds(seed=2, spread=5)
    found = knn(train, test, KNNOptions(ks=(20, 1, 5), votes="uniform"))
    assert [row[0] for row in found.accuracies] == [1, 5, 20]
    x = train.vectors.astype(float)
    for k, accuracy, own in found.accuracies:
        right = 0
        for index in range(len(train)):
            rest = np.arange(len(train)) != index
            other = KNeighborsClassifier(k, metric="cosine").fit(x[rest], train.labels[rest])
            right += other.predict(x[index : index + 1])[0] == train.labels[index]
        assert own == pytest.approx(right / len(train))
        alone = knn(train, test, KNNOptions(ks=(k,), votes="uniform"))
        assert accuracy == alone.accuracy
    assert found.chosen == max(found.accuracies, key=lambda row: (row[2], -row[0]))[0]
    assert found.accuracy == dict((row[:2]) for row in found.accuracies)[found.chosen]


def test_more_training_images_than_are_left_out(monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.probes.knn.LEFT_OUT", 11)
    own = knn(clouds(seed=1), clouds(seed=2)).accuracies[0][2]
    assert (own * 11) % 1 == pytest.approx(0, abs=1e-9) or (own * 11) % 1 == pytest.approx(1, abs=1e-9)


def test_the_usual_numbers_as_far_as_there_are_images():
    small = clouds(classes=2, each=3)
    assert [row[0] for row in knn(small, small).accuracies] == [1, 5]
    assert knn(small, small).accuracies[0][1] == 1.0
    pair = clouds(classes=2, each=1)
    assert knn(pair, pair).chosen == 1


def test_a_vector_of_nothing_is_far_from_everything():
    train = clouds()
    silent = Features(np.zeros((1, 12), np.float32), np.zeros(1, np.int64), ("silent",), train.classes)
    assert np.isfinite(neighbours(train.vectors, silent.vectors, 3, "cosine").closeness).all()


MISTAKES = {
    "none": ({"ks": (0,)}, "k is 0"),
    "too many": ({"ks": (1, 200)}, "k is 1, 200; each must be at least 1 and at most the 120 training images"),
    "metric": ({"metric": "manhattan"}, "unknown measure of distance 'manhattan'"),
    "votes": ({"votes": "rank"}, "unknown way to vote 'rank'"),
    "temperature and distance": ({"metric": "euclid"}, "with euclid choose uniform votes"),
    "cold": ({"temperature": 0.0}, "temperature is 0.0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    arguments, words = MISTAKES[mistake]
    options = KNNOptions()
    for name, value in arguments.items():
        object.__setattr__(options, name, value)
    with pytest.raises(ConfigError, match=words):
        knn(clouds(), clouds(), options)


def test_a_class_without_training_images():
    train = clouds()
    with pytest.raises(DataError, match="classes without training images: 'c2'"):
        knn(train.take(np.flatnonzero(train.labels != 2)), train)
