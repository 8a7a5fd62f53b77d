"""The linear probe against scikit-learn: the same optimum on the same features, and a setting chosen without the test."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.support.features import clouds

from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.few_shot import hold_out
from vitreous.evaluation.probes.linear import L2_GRID, RATES, LinearOptions, linear_probe
from vitreous.metrics.classification import wilson_interval
from vitreous.reports.evaluation.probes import build_linear_sections, write_headline


def whitened(train, test):
    x, z = train.vectors.astype(float), test.vectors.astype(float)
    mean, std = x.mean(0), x.std(0) + 1e-5
    return (x - mean) / std, (z - mean) / std


def scikit(train, test, l2):
    """Return the probabilities of scikit-learn's optimum."""
    x, z = whitened(train, test)
    model = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=5000)
    return model.fit(x, train.labels).predict_proba(z)


def probabilities(logits):
    scores = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_same_optimum_as_scikit_learn(l2, monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.probes.linear.CHUNK", 50)
    train, test = clouds(seed=1, spread=4), clouds(seed=2, spread=4)
    found = linear_probe(train, test, LinearOptions(grid=(l2,)))
    np.testing.assert_allclose(probabilities(found.logits), scikit(train, test, l2), atol=2e-5)
    assert (found.chosen, found.tried) == (l2, ())
    assert found.accuracy == (found.logits.argmax(1) == test.labels).mean()
    assert found.interval == wilson_interval(round(found.accuracy * len(test)), len(test))


def test_an_optimum_that_was_not_reached_is_told():
    train, test = clouds(seed=1, spread=4), clouds(seed=2, spread=4)
    short, whole = (linear_probe(train, test, LinearOptions(grid=(1e-2,), steps=steps)) for steps in (2, 1000))
    words = "the limit of iterations ended L-BFGS before its optimum"
    assert short.limited and write_headline(short).endswith(words)
    assert not whole.limited and words not in write_headline(whole)
    shown = (build_linear_sections(short, train, test)[0].blocks, build_linear_sections(whole, train, test)[0].blocks)
    assert [any(words in block.markdown() for block in blocks) for blocks in shown] == [True, False]


def test_two_classes_by_both_ways_to_write_them():
    train, test = clouds(classes=2, seed=1, spread=5), clouds(classes=2, seed=2, spread=5)
    found = probabilities(linear_probe(train, test, LinearOptions(grid=(0.1,))).logits)
    # Two columns of weights w and -w cost 2 w^2: the single column of scikit-learn's is 2 w and costs 4 w^2.
    np.testing.assert_allclose(found, scikit(train, test, 0.05), atol=2e-5)


def test_l2_is_chosen_on_training_images_that_are_held_out():
    train, test = clouds(seed=1, spread=9), clouds(seed=2, spread=9)
    found = linear_probe(train, test)
    assert [value for value, _ in found.tried] == list(L2_GRID)
    held = hold_out(train.labels, 0.2, seed=0)
    learn, choose = train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held))
    for l2, share in found.tried[3:]:  # weaker ones are next to no regularisation, which takes scikit-learn long
        assert share == pytest.approx((scikit(learn, choose, l2).argmax(1) == choose.labels).mean())
    assert found.chosen == max(found.tried, key=lambda one: (one[1], one[0]))[0]
    np.testing.assert_allclose(
        found.logits, linear_probe(train, test, LinearOptions(grid=(found.chosen,))).logits, atol=1e-3
    )
    turned = Features(-test.vectors, test.labels, test.names, test.classes)
    assert linear_probe(train, turned).chosen == found.chosen


def test_sgd_comes_near_the_optimum():
    train, test = clouds(seed=1, spread=9, each=60), clouds(seed=2, spread=9)
    found = linear_probe(train, test, LinearOptions("sgd", (0.3,), epochs=300, batch=64))
    nearly = scikit(train, test, 1e-7)
    np.testing.assert_allclose(probabilities(found.logits), nearly, atol=0.03)


def test_sgd_chooses_its_rate_and_survives_one_that_diverges():
    train, test = clouds(seed=1, spread=2), clouds(seed=2, spread=2)
    options = LinearOptions("sgd", (1e-6, 0.1, 1e38), epochs=20, batch=32)
    found = linear_probe(train, test, options)
    assert [value for value, _ in found.tried] == [1e-6, 0.1, 1e38]
    assert found.chosen == max(found.tried, key=lambda one: (one[1], -one[0]))[0]
    assert found.tried[2][1] == 0
    assert found.tried[1][1] > 0.5
    again = linear_probe(train, test, options)
    np.testing.assert_array_equal(found.logits, again.logits)
    assert [value for value, _ in linear_probe(train, test, LinearOptions("sgd", epochs=1)).tried] == list(RATES)


def test_a_rate_that_diverges_is_no_result():
    with pytest.raises(ConfigError, match=r"diverged at 1e\+38; give smaller rates"):
        linear_probe(clouds(spread=2), clouds(seed=2), LinearOptions("sgd", (1e38,), epochs=20, batch=32))


def test_classes_are_matched_by_name():
    train, test = clouds(seed=1), clouds(seed=2)
    turned = Features(test.vectors, 3 - test.labels, test.names, test.classes[::-1])
    options = LinearOptions(grid=(0.01,))
    assert linear_probe(train, turned, options).accuracy == linear_probe(train, test, options).accuracy


def test_one_image_of_each_class_leaves_nothing_to_choose_by():
    train = clouds(each=2)
    with pytest.raises(DataError, match="no training images can be held out to choose a setting by"):
        linear_probe(train, train)
    assert linear_probe(train, train, LinearOptions(grid=(0.1,))).chosen == 0.1


MISTAKES = {
    "l2": ({"grid": (0.0,)}, "l2 is 0"),
    "rate": ({"solver": "sgd", "grid": (-1.0,)}, "the rates are -1"),
    "steps": ({"steps": 0}, "steps is 0"),
    "epochs": ({"epochs": 0}, "epochs is 0"),
    "batch": ({"batch": 0}, "batch is 0"),
    "solver": ({"solver": "adam"}, "unknown solver 'adam'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    arguments, words = MISTAKES[mistake]
    options = LinearOptions()
    for name, value in arguments.items():
        object.__setattr__(options, name, value)
    with pytest.raises(ConfigError, match=words):
        linear_probe(clouds(), clouds(), options)


def test_images_to_choose_on_may_be_named():
    train, test = clouds(each=20), clouds(seed=1)
    held = np.arange(len(train)) >= 60
    grid = (1e-4, 1e-2, 10.0)
    found = linear_probe(train, test, LinearOptions(grid=grid), held)
    learn, choose = train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held))
    alone = [linear_probe(learn, choose, LinearOptions(grid=(value,))).accuracy for value in grid]
    assert found.tried == tuple(zip(grid, alone, strict=True))


def test_a_single_class():
    train = clouds()
    with pytest.raises(DataError, match="single class, 'c1'"):
        linear_probe(train.take(np.flatnonzero(train.labels == 1)), train)
