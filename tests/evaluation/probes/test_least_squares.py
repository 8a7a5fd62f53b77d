"""Least squares held against the definition, written down as directly as can be and solved without any trick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import ConfigError
from vitreous.evaluation.probes.least_squares import Readout, fit, fit_streaming, split_chunks


def reference(vectors, labels, classes, l2, test):
    """Return the class scores of test images by big_vision's definition, in float64, primal form, by elimination."""
    vectors, test = np.asarray(vectors, np.float64), np.asarray(test, np.float64)
    count, width = vectors.shape
    x, z = np.full((count, width + 1), 100.0), np.full((len(test), width + 1), 100.0)
    for column in range(width):
        mean = sum(vectors[:, column]) / count
        std = np.sqrt(sum((vectors[:, column] - mean) ** 2) / count) + 1e-5
        x[:, column], z[:, column] = (vectors[:, column] - mean) / std, (test[:, column] - mean) / std
    y = np.full((count, classes), -1.0)
    y[np.arange(count), labels] = 1.0
    weights = np.linalg.solve(x.T @ x + l2 * np.eye(width + 1), x.T @ y)
    return z @ weights


@st.composite
def problems(draw):
    """Draw a size, on either side of as many examples as columns, and numbers of any scale."""
    count, width, classes = draw(st.integers(2, 30)), draw(st.integers(1, 20)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    scale, shift = 10.0 ** draw(st.integers(-3, 3)), 10.0 ** draw(st.integers(-3, 3))
    vectors = rng.normal(size=(count, width)) * scale + shift * rng.normal(size=width)
    return vectors, rng.integers(0, classes, count), classes, rng.normal(size=(9, width)) * scale


@given(problems(), st.sampled_from([2.0**-4, 1.0, 2.0**10, 2.0**20]))
def test_equal_to_the_definition(problem, l2):
    vectors, labels, classes, test = problem
    (readout,) = fit(vectors, labels, classes, [l2])
    expected = reference(vectors, labels, classes, l2, test)
    np.testing.assert_allclose(readout.scores(test), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@given(problems(), st.integers(1, 9))
def test_in_pieces_as_at_once(problem, size):
    vectors, labels, classes, test = problem
    strengths = [1.0, 2.0**10]
    firsts = range(0, len(labels), size)
    streamed = fit_streaming(((vectors[f : f + size], labels[f : f + size]) for f in firsts), classes, strengths)
    for one, other in zip(streamed, fit(vectors, labels, classes, strengths), strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9, atol=1e-9 * np.abs(vectors).max())
        np.testing.assert_allclose(one.std, other.std, rtol=1e-7)
        expected = other.scores(test)
        np.testing.assert_allclose(one.scores(test), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_a_constant_feature_and_a_far_mean_harm_neither_way():
    rng = np.random.default_rng(1)
    vectors = np.concatenate([np.full((40, 1), 7.0), rng.normal(size=(40, 3)) + 1e5], axis=1)
    labels = np.arange(40) % 3
    (one,), (other,) = fit(vectors, labels, 3), fit_streaming([(vectors, labels)], 3)
    np.testing.assert_allclose(one.scores(vectors), reference(vectors, labels, 3, 1024, vectors), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(one.scores(vectors), other.scores(vectors), rtol=1e-5, atol=1e-7)


def test_prediction_goes_by_chunks_and_takes_the_first_of_equals(monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.probes.least_squares.CHUNK", 4)
    rng = np.random.default_rng(0)
    readout = Readout(np.zeros(2), np.ones(2), rng.normal(size=(3, 3)))
    vectors = rng.normal(size=(11, 2)).astype(np.float32)
    assert [len(chunk) for chunk in split_chunks(vectors)] == [4, 4, 3]
    np.testing.assert_array_equal(readout.predict(vectors), readout.scores(vectors).argmax(1))
    assert Readout(np.zeros(2), np.ones(2), np.zeros((3, 3))).predict(vectors).tolist() == [0] * 11
    assert len(readout.predict(vectors[:0])) == 0


@pytest.mark.parametrize("l2", [[], [0.0], [1.0, -1.0], [float("nan")], [float("inf")]])
def test_regularisation_must_be_above_nothing(l2):
    with pytest.raises(ConfigError, match="must be above 0"):
        fit(np.eye(3), np.arange(3), 3, l2)
    with pytest.raises(ConfigError, match="must be above 0"):
        fit_streaming([(np.eye(3), np.arange(3))], 3, l2)


def test_nothing_to_learn_from():
    with pytest.raises(ConfigError, match="no examples"):
        fit_streaming([(np.empty((0, 3)), np.empty(0, np.int64))], 2)
