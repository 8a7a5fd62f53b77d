"""Which pseudo labels are kept: held against a plain loop over the definition, and properties that hold for any teacher."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitreous.data.sources.pseudo_labels import PseudoLabels, count_by_class
from vitreous.errors import ConfigError, DataError
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.self_training.selection import select, share_out

IMAGES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.500001, 0.75, 1.0]), st.integers(0, 2)), min_size=1, max_size=30
)
AMOUNTS = st.one_of(st.just("auto"), st.integers(0, 12))


def apply(images, **options):
    confidence = np.array([one for one, _ in images], np.float32)
    labels = np.array([label for _, label in images], np.int64)
    return select(confidence, labels, 3, SelfTrainingOptions(**options)).tolist()


def plain(images, threshold, at_most, at_least):
    """Deal the copies out one by one, as the definition says."""
    above = [index for index, (one, _) in enumerate(images) if np.float32(one) >= threshold]
    mean = -(-len(above) // 3)
    most = mean if at_most == "auto" else at_most
    least = (most or mean) if at_least == "auto" else at_least
    copies = [0] * len(images)
    for label in range(3):
        ranked = sorted(
            (index for index in above if images[index][1] == label), key=lambda index: (-images[index][0], index)
        )
        kept = ranked[:most] if most else ranked
        turn = 0
        while kept and (turn < len(kept) or turn < least):
            copies[kept[turn % len(kept)]] += 1
            turn += 1
    return copies


@settings(max_examples=300, deadline=None)
@given(IMAGES, st.sampled_from([0.0, 0.25, 0.5, 0.9]), AMOUNTS, AMOUNTS)
def test_copies_are_dealt_out_as_defined(images, threshold, at_most, at_least):
    assume(any(np.float32(one) >= threshold for one, _ in images))
    assume("auto" in (at_most, at_least) or not 0 < at_most < at_least)
    found = apply(images, threshold=threshold, at_most=at_most, at_least=at_least)
    assert found == plain(images, threshold, at_most, at_least)


@settings(max_examples=100, deadline=None)
@given(IMAGES, st.integers(1, 8), st.integers(0, 8))
def test_each_class_has_at_least_and_at_most_what_was_asked_the_surest_first(images, most, fewer):
    assume(any(one >= 0.25 for one, _ in images))
    least = max(0, most - fewer)
    copies = apply(images, threshold=0.25, at_most=most, at_least=least)
    for label in range(3):
        own = [(one, count) for (one, other), count in zip(images, copies, strict=True) if other == label]
        there = sum(one >= 0.25 for one, _ in own)
        examples, kept = sum(count for _, count in own), sum(count > 0 for _, count in own)
        assert kept == min(there, most)
        assert examples == (max(kept, least) if there else 0)
        assert all(count == 0 for one, count in own if one < 0.25)
        ranked = [count for _, count in sorted(own, key=lambda pair: -pair[0])]
        assert ranked == sorted(ranked, reverse=True), "a surer image has no fewer copies"
        assert max(ranked, default=0) - min((count for count in ranked if count), default=0) <= 1


def test_the_papers_balance_makes_all_classes_alike():
    images = [(0.9, 0)] * 7 + [(0.31, 1), (0.4, 1), (0.29, 1)] + [(0.8, 2)]
    copies = apply(images, at_most=4, at_least=4)
    assert copies == [1, 1, 1, 1, 0, 0, 0, 2, 2, 0, 4]
    assert apply(images, at_most=0, at_least=0) == [1] * 9 + [0, 1]
    assert apply(images) == apply(images, at_most=4, at_least=4), "10 above the threshold, 3 classes"


def test_a_class_without_a_sure_image_stays_without():
    copies = np.array(apply([(0.9, 0), (0.1, 1)], at_least=5, at_most=0))
    assert copies.tolist() == [5, 0]
    found = PseudoLabels(("x", "y"), np.array([0, 1]), np.array([0.9, 0.1], np.float32), copies)
    counts = count_by_class(found, ("a", "b", "c"))
    assert [(one.name, one.labelled, one.kept, one.examples) for one in counts] == [
        ("a", 1, 1, 5),
        ("b", 1, 0, 0),
        ("c", 0, 0, 0),
    ]


def test_a_threshold_that_leaves_nothing_is_one_line():
    with pytest.raises(
        DataError, match=r"none of the 2 unlabelled images reaches a confidence of 0.95 \(the surest has 0.9\)"
    ) as caught:
        apply([(0.9, 0), (0.1, 1)], threshold=0.95)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0; it must be 1 to 100"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"at_most": -1}, "at_most is -1"),
        ({"at_least": 5, "at_most": 4}, "at_least can't be more than at_most"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SelfTrainingOptions(**options)


@given(st.integers(1, 50), st.integers(1, 500))
def test_a_total_is_shared_out_evenly(members, total):
    found = share_out(members, total)
    assert found.sum() == total
    assert found.max() - found.min() <= 1
    assert (np.diff(found) <= 0).all()
