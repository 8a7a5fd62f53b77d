"""Few-shot accuracy: which images are drawn, that the definition is met, what it says of too little."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from tests.evaluation.probes.test_least_squares import reference
from tests.support.features import clouds

from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.few_shot import compute_interval, draw, few_shot, hold_out
from vitreous.metrics.classification import wilson_interval
from vitreous.metrics.seeds_and_images import estimate_crossed


def test_equal_to_the_authors_definition():
    train, test = clouds(seed=1), clouds(seed=2, each=20)
    found = few_shot(train, test, shots=(1, 5, 10, 25), seeds=2)
    assert found.examples == 80
    for one in found.shots:
        for seed, accuracy in enumerate(one.accuracies):
            rng = np.random.default_rng(seed)
            order = [rng.permutation(np.where(train.labels == label)[0]) for label in range(4)]
            chosen = np.concatenate([indices[: one.shots] for indices in order])
            scores = reference(train.vectors[chosen], train.labels[chosen], 4, 1024.0, test.vectors)
            np.testing.assert_array_equal(one.predicted[seed], scores.argmax(1))
            assert accuracy == (scores.argmax(1) == test.labels).mean()
        assert one.mean == pytest.approx(np.mean(one.accuracies))
        assert one.l2 == (1024.0, 1024.0)
    assert found.at(25).mean > found.at(1).mean > 0.25


def test_more_shots_hold_the_fewer_and_seeds_differ():
    train = clouds()
    few, more = draw(train, 2, seed=3), draw(train, 9, seed=3)
    assert set(few) < set(more)
    assert np.bincount(train.labels[more]).tolist() == [9] * 4
    assert set(draw(train, 9, seed=4)) != set(more)
    assert draw(train, 9, seed=3).tolist() == more.tolist()


def test_the_most_shots_come_last_in_whatever_order_they_are_given():
    train, test = clouds(each=12, seed=1), clouds(each=12, seed=2)
    found = few_shot(train, test, shots=(5, "all", 1, 5), l2=0.1)
    assert [one.shots for one in found.shots] == [1, 5, "all"]
    assert found.shots[1].mean == few_shot(train, test, shots=(5,), l2=0.1).shots[0].mean


def test_all_images_in_one_pass(monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.probes.few_shot.CHUNK", 7)
    train, test = clouds(seed=1), clouds(seed=2)
    one = few_shot(train, test, shots=("all",)).at("all")
    scores = reference(train.vectors, train.labels, 4, 1024.0, test.vectors)
    np.testing.assert_array_equal(one.predicted[0], scores.argmax(1))
    assert len(one.accuracies) == 1
    assert one.interval == wilson_interval(int((scores.argmax(1) == test.labels).sum()), len(test))


def test_l2_is_chosen_without_the_test_images():
    train = clouds(seed=1, each=40, spread=4)
    grid = [2.0**-10, 2.0**10, 2.0**30]
    found = few_shot(train, clouds(seed=2), shots=(5, "all"), l2=grid, seeds=2)
    turned = clouds(seed=2)
    other = few_shot(
        train, Features(-turned.vectors, turned.labels, turned.names, turned.classes), None, (5, "all"), grid, 2
    )
    assert [one.l2 for one in found.shots] == [one.l2 for one in other.shots]
    for seed, strength in enumerate(found.at(5).l2):
        chosen = draw(train, 5, seed)
        rest = np.setdiff1d(np.arange(len(train)), chosen)
        right = []
        for l2 in grid:
            scores = reference(train.vectors[chosen], train.labels[chosen], 4, l2, train.vectors[rest])
            right.append((scores.argmax(1) == train.labels[rest]).sum())
        assert strength == max(zip(right, grid, strict=True))[1]


def test_some_classes_alone():
    train, test = clouds(seed=1), clouds(seed=2)
    found = few_shot(train, test, ("c3", "c1"), shots=(5,))
    assert found.examples == 60
    assert set(np.concatenate(found.at(5).predicted)) <= {0, 1}
    assert found.at(5).mean > 0.5
    with pytest.raises(ConfigError, match="no class 'c9'; they have c0, c1"):
        few_shot(train, test, ("c0", "c9"))


def test_classes_are_matched_by_name():
    train, test = clouds(seed=1), clouds(seed=2)
    turned = Features(test.vectors, 3 - test.labels, test.names, test.classes[::-1])
    one, other = few_shot(train, test, shots=(5,)), few_shot(train, turned, shots=(5,))
    assert one.at(5).accuracies == other.at(5).accuracies


def test_too_few_images_of_a_class():
    part = clouds(each=10)
    train = part.take(np.flatnonzero((part.labels != 2) | (np.arange(40) % 4 == 0)))
    count = int((train.labels == 2).sum())
    with pytest.raises(
        DataError, match=f"10 shots need 10 training images of each class, but 'c2' has {count}; .* at most {count}"
    ):
        few_shot(train, part, shots=(1, 10))
    assert few_shot(train, part, shots=(count,)).at(count).mean > 0.25


MISTAKES = {
    "no shots": ({"shots": ()}, "shots are none"),
    "zero shots": ({"shots": (0,)}, "shots are 0"),
    "no seeds": ({"seeds": 0}, "seeds 0"),
    "no regularisation": ({"l2": 0.0}, "l2 is 0"),
    "nothing left": ({"shots": (10,), "l2": (1.0, 2.0)}, "no training images are left to choose l2 by"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    arguments, words = MISTAKES[mistake]
    with pytest.raises((ConfigError, DataError), match=words):
        few_shot(clouds(each=10), clouds(each=10), **arguments)


def test_parts_that_do_not_fit():
    train, test = clouds(seed=1), clouds(seed=2)
    empty = test.take(np.empty(0, np.int64))
    with pytest.raises(DataError, match="the test split has no images"):
        few_shot(train, empty)
    with pytest.raises(DataError, match="the training split has no images"):
        few_shot(empty, test)
    with pytest.raises(DataError, match="single class, 'c1'"):
        few_shot(train.take(np.flatnonzero(train.labels == 1)), test)
    with pytest.raises(DataError, match="classes without training images: 'c3'"):
        few_shot(train.take(np.flatnonzero(train.labels != 3)), test)
    with pytest.raises(DataError, match="the training features have length 12, but the test features 5"):
        few_shot(train, clouds(width=5))


def test_the_interval_holds_seeds_and_images():
    rng = np.random.default_rng(0)
    right = [rng.random(100) < share for share in (0.71, 0.74, 0.69)]
    both, seeds = compute_interval(right), ttest_1samp([one.mean() for one in right], 0).confidence_interval(0.95)
    assert compute_interval(right) == estimate_crossed(np.stack(right).astype(float)).within()
    hard = rng.random(100) < 0.5
    alike = [hard ^ (rng.random(100) < 0.01) for _ in range(3)]  # every seed errs on the same images
    low, high = compute_interval(alike)
    assert high - low > 0.15, "about 0.2, as for one seed: the images are what matters"
    assert 0.0 <= both[0] < both[1] <= 1.0 and seeds.low < both[1]
    perfect = [np.ones(8, bool)] * 3
    assert compute_interval(perfect) == wilson_interval(8, 8)
    assert compute_interval([np.arange(100) < 25]) == wilson_interval(25, 100)
    assert compute_interval([np.arange(10) < 1, np.arange(10) < 9]) == (0.0, 1.0)


def test_a_share_of_each_class_is_held_out_but_never_all():
    labels = np.repeat(np.arange(3), [1, 5, 10])
    held = hold_out(labels, 0.2, seed=0)
    assert np.bincount(labels[held], minlength=3).tolist() == [0, 1, 2]
    assert hold_out(labels, 1.0, seed=0).sum() == 13
