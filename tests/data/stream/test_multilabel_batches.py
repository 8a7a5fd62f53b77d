"""Batches of images with several labels each: the same bits for any number of workers, mixed or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.quadrants import quadrants

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.base import get_label_matrix
from vitreous.data.sources.subset import draw_subset
from vitreous.data.stream.loader import Examples, TrainStream, load_evaluation_batches, load_train_batches
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig

GREY = PreprocessConfig(size=(8, 8), mode="L", crop=1.0)
MIXED = AugmentConfig(crop="pad", crop_pad=1, flip=False, mixup=0.4, cutmix=1.0, mix_probability=0.7)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_dataset(DataConfig(str(quadrants(tmp_path_factory.mktemp("sets"), split=True)))).train


def joined(batches):
    every = [(b.pixels, b.labels, b.partners, b.weights, b.indices) for b in batches]
    return [torch.cat(column) for column in zip(*every, strict=True)]


def test_labels_are_rows_of_the_targets(source):
    _, labels, partners, weights, indices = joined(
        load_train_batches(TrainStream(source, 3, MIXED, GREY, DecodeConfig()), 0, 16, 96)
    )
    assert labels.dtype == partners.dtype == torch.bool
    np.testing.assert_array_equal(labels.numpy(), source.label_matrix[indices.numpy()])
    mixed = weights < 1
    assert 0 < int(mixed.sum()) < len(mixed)
    rows = {row.tobytes() for row in source.label_matrix}
    assert all(row.tobytes() in rows for row in partners.numpy())


def test_workers_batches_and_the_place_to_start_change_no_bit(source):
    stream = TrainStream(source, 3, MIXED, GREY, DecodeConfig())
    whole = joined(load_train_batches(stream, 0, 16, 96))
    for other in (load_train_batches(stream, 0, 16, 96, workers=2), load_train_batches(stream, 0, 7, 96)):
        assert all(torch.equal(one, two) for one, two in zip(whole, joined(other), strict=True))
    late = joined(load_train_batches(stream, 40, 16, 96))
    assert all(torch.equal(one[40:], two) for one, two in zip(whole, late, strict=True))


def test_a_batch_can_be_split_and_moved(source):
    batch = next(load_train_batches(TrainStream(source, 0, MIXED, GREY, DecodeConfig()), 0, 10))
    parts = [part.to(torch.device("cpu")) for part in batch.split(4)]
    assert [len(part.labels) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.partners for part in parts]), batch.partners)


def test_evaluation_sees_each_once_kept_in_memory_or_not(source):
    for one in (source, replace(source, sizes=None), draw_subset(source, 20, seed=1)):
        _, labels, partners, _, indices = joined(load_evaluation_batches(Examples(one, GREY, DecodeConfig()), 16))
        assert indices.tolist() == list(range(len(one)))
        np.testing.assert_array_equal(labels.numpy(), get_label_matrix(one))
        assert torch.equal(labels, partners)
