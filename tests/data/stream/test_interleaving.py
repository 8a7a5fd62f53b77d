"""Labelled and pseudo-labelled examples in a fixed proportion: exact in every batch, and still a pure function of the place."""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.data.sources.pseudo_labels import PseudoLabels, join_pseudo_labelled
from vitreous.data.stream.interleaving import choose_example, count_epoch, draw_partner
from vitreous.data.stream.loader import TrainStream, load_train_batches
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig

PART = open_digits(DataConfig()).train


def digits(first, count):
    chosen = slice(first, first + count)
    return replace(PART, pixels=PART.pixels[chosen], names=PART.names[chosen], labels=PART.labels[chosen])


def joined(labelled=7, copies=(1, 0, 3, 1, 2), ratio=3.0, soft=False):
    """Return digits of which the last have pseudo labels: the class after the true one."""
    others = digits(100, len(copies))
    labels = (others.labels + 1) % 10
    targets = np.full((len(copies), 10), 0.05, np.float32) if soft else None
    if targets is not None:
        targets[np.arange(len(copies)), labels] = 0.55
    confidence = np.full(len(copies), 0.55, np.float32)
    found = PseudoLabels(others.names, labels, confidence, np.array(copies, np.int64), targets)
    return join_pseudo_labelled(digits(0, labelled), others, found, ratio, "labels.csv")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.integers(0, 3), min_size=1, max_size=9).filter(any),
    st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0, 14.0]),
    st.integers(0, 10_000),
    st.integers(0, 5),
)
def test_every_batch_has_the_exact_proportion_wherever_it_begins(labelled, copies, ratio, start, seed):
    source = joined(labelled, copies, ratio)
    batch = 2 * source.every
    chosen = [choose_example(source, seed, start + place) for place in range(batch)]
    own = sum(one < labelled for one in chosen)
    assert (batch - own) / own == ratio
    prefixes = np.cumsum([one < labelled for one in chosen])
    assert np.abs(prefixes - np.arange(1, batch + 1) / (1 + ratio)).max() <= 1, (
        "spread evenly, so any share of it is mixed too"
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.lists(st.integers(0, 3), min_size=1, max_size=9).filter(any), st.sampled_from([0.5, 1.0, 3.0])
)
def test_each_kind_runs_through_its_own_epochs(labelled, copies, ratio):
    source, total = joined(labelled, copies, ratio), sum(copies)
    chosen = [choose_example(source, 3, sample) for sample in range(4 * source.every * labelled * total)]
    own = [one for one in chosen if one < labelled]
    others = [one for one in chosen if one >= labelled]
    for epoch in range(2):
        assert sorted(own[epoch * labelled : (epoch + 1) * labelled]) == list(range(labelled))
        of_epoch = others[epoch * total : (epoch + 1) * total]
        counted = Counter(source.names[one] for one in of_epoch)
        names = digits(100, len(copies)).names
        assert counted == {name: count for name, count in zip(names, copies, strict=True) if count}
    assert count_epoch(source) == int(labelled * (1 + ratio))


def test_without_pseudo_labels_nothing_changes():
    source = digits(0, 13)
    plain = [choose_example(source, 5, sample) for sample in range(39)]
    assert all(sorted(plain[epoch * 13 : (epoch + 1) * 13]) == list(range(13)) for epoch in range(3))
    assert count_epoch(source) == 13
    assert draw_partner(source, np.random.default_rng(1)) == int(np.random.default_rng(1).integers(13))


def test_partners_come_in_the_same_proportion():
    source, rng = joined(50, (1, 1, 1, 1), ratio=3.0), np.random.default_rng(0)
    own = sum(draw_partner(source, rng) < 50 for _ in range(20_000))
    assert abs(own / 20_000 - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_batches_are_the_same_for_any_size_and_number_of_workers():
    augment = AugmentConfig(crop="pad", crop_pad=1, flip=False, mixup=0.4)
    stream = TrainStream(joined(soft=True), 5, augment, PreprocessConfig((8, 8), "L", crop=1.0), DecodeConfig())

    def read(batch, workers):
        found = list(load_train_batches(stream, 3, batch, 51, workers))
        return [
            torch.cat([getattr(one, name) for one in found])
            for name in ("pixels", "labels", "partners", "weights", "indices")
        ]

    first = read(8, 0)
    for batch, workers in ((5, 0), (16, 2)):
        assert all(torch.equal(one, other) for one, other in zip(first, read(batch, workers), strict=True))


def test_soft_and_hard_labels_reach_the_batch():
    plain = AugmentConfig(crop="eval", flip=False)
    for soft in (True, False):
        source = joined(soft=soft)
        stream = TrainStream(source, 5, plain, PreprocessConfig((8, 8), "L", crop=1.0), DecodeConfig())
        (batch,) = load_train_batches(stream, 0, 40, 40)
        assert (batch.labels.dtype == torch.float32) == soft
        rows = batch.labels if soft else torch.nn.functional.one_hot(batch.labels, 10).float()
        assert torch.allclose(rows.sum(1), torch.ones(40))
        for row, index, pixels in zip(rows, batch.indices.tolist(), batch.pixels, strict=True):
            true = PART.labels[PART.names.index(source.names[index])]
            wanted = true if index < 7 else (true + 1) % 10
            assert row.argmax() == wanted
            assert row.max() == (0.55 if soft and index >= 7 else 1)
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), source.read(index))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 200), st.integers(0, 5))
def test_views_of_an_image_follow_one_another_wherever_the_stream_is_entered(count, views, start, seed):
    """As the authors' RASampler: each epoch is as long as before, and shows its images `views` times."""
    source = digits(0, count)
    for sample in range(start, start + 2 * count):
        epoch, index = divmod(sample, count)
        first = epoch * count + index // views * views
        chosen = choose_example(source, seed, sample, views)
        assert chosen == choose_example(source, seed, first, views)
        assert chosen == choose_example(source, seed, epoch * count + index // views)
    epoch = [choose_example(source, seed, sample, views) for sample in range(count)]
    assert len(set(epoch)) == -(-count // views)


def test_each_view_is_augmented_by_itself_and_depends_on_its_place_alone():
    stream = TrainStream(
        digits(0, 50),
        3,
        AugmentConfig(crop="pad", crop_pad=2, views=3),
        PreprocessConfig((8, 8), "L", crop=1.0),
        DecodeConfig(),
    )
    whole = list(stream.examples(range(30)))
    assert [one.index for one in whole[:3]] == [whole[0].index] * 3 and whole[3].index != whole[0].index
    assert len({one.pixels.tobytes() for one in whole[:6]}) > 3
    later = list(stream.examples(range(7, 16)))
    assert all((one.pixels == other.pixels).all() for one, other in zip(later, whole[7:16], strict=True))
    once = list(replace(stream, augment=replace(stream.augment, views=1)).examples(range(30)))
    assert len({one.index for one in once}) == 30


def test_pseudo_labelled_images_have_views_too():
    source = joined(labelled=8, copies=(1,) * 24, ratio=3.0)
    chosen = [choose_example(source, 0, sample, 2) for sample in range(32)]
    own, others = [one for one in chosen if one < 8], [one for one in chosen if one >= 8]
    assert own[::2] == own[1::2] and others[::2] == others[1::2]
