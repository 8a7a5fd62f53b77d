"""CKA against its definition: Gram matrices, centred by the centring matrix, summed in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.probes.test_features import RESNET, folder

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.data.sources.subset import draw_subset
from vitreous.errors import DataError
from vitreous.evaluation.probes.cka import Minibatches, cka, hsic, layers_cka, linear_cka
from vitreous.evaluation.probes.features import FeatureOptions, features


def brute(x, y):
    """Return HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K H L H traced out."""
    count = len(x)
    h = np.eye(count) - 1 / count
    k, other = x @ x.T, y @ y.T
    trace = lambda a, b: np.trace(a @ h @ b @ h)  # noqa: E731
    return trace(k, other) / np.sqrt(trace(k, k) * trace(other, other))


def unbiased(x, y):
    """Return the unbiased HSIC by summing over all ordered quadruples of different images (Gretton et al.)."""
    count = len(x)
    k, other = x @ x.T, y @ y.T
    total = 0.0
    for i in range(count):
        for j in range(count):
            for q in range(count):
                for r in range(count):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
    return total / (count * (count - 1) * (count - 2) * (count - 3))


sizes = st.tuples(st.integers(3, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))


@given(sizes)
def test_equal_to_the_definition(size):
    count, wide, other, seed = size
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, wide)) + 3, rng.normal(size=(count, other)) * 10
    found = linear_cka(x, y)
    assert found == pytest.approx(brute(x, y), abs=1e-9)
    assert -1e-12 <= found <= 1 + 1e-12
    assert linear_cka(x, x) == pytest.approx(1)
    assert found == pytest.approx(linear_cka(y, x))


def test_rotation_scale_and_shift_change_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)), rng.normal(size=(30, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(7 * x @ turn - 5, y) == pytest.approx(linear_cka(x, y))
    assert linear_cka(np.ones((30, 6)), y) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_unbiased_estimate_is_the_mean_over_quadruples(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(7, 3)) + 2, rng.normal(size=(7, 5))
    sums = Minibatches(1, 1)
    sums.add([x], [y])
    assert sums.cross[0, 0] == pytest.approx(unbiased(x, y))
    assert sums.own[0][0] == pytest.approx(unbiased(x, x))
    assert sums.matrix()[0, 0] == pytest.approx(unbiased(x, y) / np.sqrt(unbiased(x, x) * unbiased(y, y)))


def test_unrelated_features_are_unlike_only_without_bias():
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        x, y = rng.normal(size=(200, 300)), rng.normal(size=(200, 300))
        assert linear_cka(x, y) > 0.5
        sums = Minibatches(1, 1)
        for first in range(0, 200, 50):
            sums.add([x[first : first + 50]], [y[first : first + 50]])
        found.append(sums.matrix()[0, 0])
    pairs = 4 * 50 * 49 / 2  # as good as independent, so a correlation over them spreads by 1 / sqrt(pairs)
    assert abs(np.mean(found)) < 4 / np.sqrt(pairs * 20)
    assert hsic(np.zeros((5, 5)), np.ones((5, 5))) == 0


def test_two_models_layer_by_layer(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path))
    source = draw_subset(open_digits(DataConfig()).validation, 40)
    first, second = folder(), folder(RESNET, size=(32, 32))
    told = []
    found = cka((first, second), source, FeatureOptions(batch=16), progress=lambda *now: told.append(now))
    assert found.rows == ("embedded:mean", "block.0:mean", "block.1:mean", "block.2:mean")
    assert found.cols == ("root", "stage.0", "stage.1")
    assert told == [(16, 40), (32, 40), (40, 40)]
    x = features(first, source, FeatureOptions(layer="block.1:mean")).vectors.astype(float)
    y = features(second, source, FeatureOptions(layer="stage.0")).vectors.astype(float)
    assert found.matrix[2, 1] == pytest.approx(brute(x, y), abs=1e-6)
    same = cka((first, folder()), source)
    np.testing.assert_allclose(np.diag(same.matrix), 1)
    np.testing.assert_allclose(same.matrix, same.matrix.T)


def test_two_models_by_minibatches():
    source = draw_subset(open_digits(DataConfig()).validation, 41)
    models = (folder(), folder(seed=5))
    found = cka(models, source, FeatureOptions(batch=20), unbiased=True)  # 20 would leave a batch of 1
    again = cka(models, source, FeatureOptions(batch=21), unbiased=True)
    assert found.unbiased
    np.testing.assert_array_equal(found.matrix, again.matrix)
    same = cka((models[0], models[0]), source, FeatureOptions(batch=1), unbiased=True)
    np.testing.assert_allclose(np.diag(same.matrix), 1)


def test_too_few_images():
    with pytest.raises(DataError, match="at least 4 images, not 3"):
        cka((folder(), folder()), draw_subset(open_digits(DataConfig()).validation, 3))
    assert layers_cka([], []).shape == (0, 0)


def test_some_images_are_drawn_from_all_classes():
    whole = open_digits(DataConfig()).validation
    part = draw_subset(whole, 100)
    assert len(part) == 100
    assert set(part.labels) == set(range(10))
    assert part.fingerprint != whole.fingerprint
    place = whole.names.index(part.names[7])
    np.testing.assert_array_equal(part.read(7), whole.read(place))
    assert part.labels[7] == whole.labels[place]
    assert draw_subset(whole, 360) is whole
    assert draw_subset(whole, 100).names == part.names
