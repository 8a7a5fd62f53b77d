"""The split: seeded, stratified, and a function of names alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.listing.split import count_held_out, hold_out, hold_out_multilabel
from vitreous.errors import DataError

sizes = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(2, 60), min_size=1, max_size=8)
shares = st.floats(0.01, 0.9)


def examples(counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [f"{label}/{number}" for number, label in enumerate(labels)], labels


def chosen(counts, share, seed=0):
    names, labels = examples(counts)
    return {name for name, held in zip(names, hold_out(names, labels, share, seed), strict=True) if held}


@given(sizes, shares, st.integers(0, 2**64))
def test_every_class_gives_its_share(counts, share, seed):
    names, labels = examples(counts)
    held = hold_out(names, labels, share, seed)
    given_up = Counter(label for label, out in zip(labels, held, strict=True) if out)
    for label, count in counts.items():
        assert 1 <= given_up[label] < count
        assert abs(given_up[label] - share * count) < 1 or given_up[label] in (1, count - 1)
    free = [label for label, count in counts.items() if 1 <= share * count <= count - 1]
    if len(free) == len(counts):
        assert 0 <= sum(given_up.values()) - share * len(names) < 1


@given(sizes, shares, st.integers(0, 2**64), st.randoms(use_true_random=False))
def test_the_order_of_listing_is_of_no_account(counts, share, seed, chance):
    names, labels = examples(counts)
    pairs = list(zip(names, labels, strict=True))
    chance.shuffle(pairs)
    again = hold_out([name for name, _ in pairs], [label for _, label in pairs], share, seed)
    assert {pair[0] for pair, held in zip(pairs, again, strict=True) if held} == chosen(counts, share, seed)


@given(sizes, shares, st.integers(2, 60))
def test_another_class_moves_at_most_one_example_of_each(counts, share, more):
    names, labels = examples(counts)
    before = hold_out(names, labels, share, 0)
    extra = [f"new/{number}" for number in range(more)]
    after = hold_out(names + extra, labels + ["new"] * more, share, 0)
    moved = Counter(label for label, *pair in zip(labels, before, after, strict=False) if pair[0] != pair[1])
    assert all(count <= 1 for count in moved.values())


def test_another_image_of_a_class_leaves_the_others_where_they_are():
    """The first of the ranks are held out: a new image takes a place among them, and pushes out one at most."""
    names = [f"a/{number}" for number in range(50)]
    before = {name for name, held in zip(names, hold_out(names, ["a"] * 50, 0.2, 0), strict=True) if held}
    for new in range(20):
        more = [*names, f"a/new-{new}"]
        after = {name for name, held in zip(more, hold_out(more, ["a"] * 51, 0.2, 0), strict=True) if held}
        assert len(before - after) <= 1
        assert len(after - before) <= 1


@given(st.lists(st.sets(st.sampled_from("abcde")), min_size=2, max_size=60), shares, st.integers(0, 3))
def test_sets_of_labels_are_spread(sets, share, seed):
    names, sets = [f"{number}" for number in range(len(sets))], [sorted(labels) for labels in sets]
    held = hold_out_multilabel(names, sets, share, seed)
    count = Counter(label for labels in sets for label in labels)
    out = Counter(label for labels, one in zip(sets, held, strict=True) if one for label in labels)
    assert all(out[label] < count[label] for label in count)
    order = sorted(range(len(names)), key=lambda index: -index)
    again = hold_out_multilabel([names[index] for index in order], [sets[index] for index in order], share, seed)
    assert [again[order.index(index)] for index in range(len(names))] == held


def test_of_each_label_about_its_share_is_held_out():
    rng = np.random.default_rng(0)
    sets = [
        [label for label, often in (("a", 0.6), ("b", 0.2), ("c", 0.02)) if rng.random() < often] for _ in range(900)
    ]
    held = hold_out_multilabel([f"{number}" for number in range(900)], sets, 0.2, 0)
    for label in "abc":
        having = [one for labels, one in zip(sets, held, strict=True) if label in labels]
        assert abs(sum(having) - 0.2 * len(having)) <= 3, label
    bare = [one for labels, one in zip(sets, held, strict=True) if not labels]
    assert sum(bare) == round(0.2 * len(bare))


def test_seeds_give_different_splits():
    assert len({frozenset(chosen({"a": 30, "b": 30}, 0.2, seed)) for seed in range(20)}) == 20


def test_the_total_is_the_share_rounded_up():
    assert count_held_out({"a": 3, "b": 3, "c": 3, "d": 3}, 0.25) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert count_held_out({"a": 5, "b": 5, "c": 5}, 0.3) == {"a": 2, "b": 2, "c": 1}
    assert count_held_out({"a": 178, "b": 182}, 0.2) == {"a": 36, "b": 36}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(DataError, match=r"data.holdout is .*; it must be above 0 and below 1"):
        hold_out(["a", "b"], ["x", "x"], share, 0)


def test_a_class_with_one_image_can_not_be_split():
    with pytest.raises(DataError, match=r"class 'b' has a single image \(and so have 1 more classes\)"):
        hold_out(["1", "2", "3", "4"], ["a", "a", "b", "c"], 0.2, 0)
