"""Batches: the same bits for any number of workers, any batch size and any place to start, partners included."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pictures import encoded, picture, tree, write
from torch.utils.data import DataLoader

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.data.labelled_images import open_source
from vitreous.data.stream import loader as room
from vitreous.data.stream.loader import (
    Examples,
    TrainStream,
    load_evaluation_batches,
    load_train_batches,
    resolve_workers,
)
from vitreous.errors import ConfigError, ImageError, WorkerKilled
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig

LIMITS = DecodeConfig()
GREY = PreprocessConfig(size=(8, 8), mode="L", crop=1.0)
COLOUR = PreprocessConfig(size=(12, 16))
MIXED = AugmentConfig(crop="pad", crop_pad=1, flip=True, mixup=0.4, cutmix=1.0, erase=0.5)
KINDS = {
    "mixup": AugmentConfig(crop="pad", crop_pad=2, mixup=0.4),
    "cutmix": AugmentConfig(crop="eval", flip=False, cutmix=1.0),
    "either, sometimes": replace(MIXED, mix_probability=0.7),
    "inception": AugmentConfig(crop="inception", randaugment=(2, 5.0), erase=0.3, mixup=0.2, cutmix=0.2),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return 23 colour images of three classes and several sizes, PNG and JPEG, one large enough to be reduced."""
    root = tree(tmp_path_factory.mktemp("files"), a=8, b=7, c=5)
    for number, (rows, cols) in enumerate([(9, 30), (120, 130), (40, 13)]):
        write(root / "c" / f"{number}.jpg", encoded(picture(70 + number, rows, cols), "JPEG"))
    return open_source(str(root))


def digits(count=60):
    part = open_digits(DataConfig()).train
    return replace(part, pixels=part.pixels[:count], names=part.names[:count], labels=part.labels[:count])


DIGITS = digits()


def stream_of(source=DIGITS, augment=MIXED, preprocess=GREY, seed=5):
    return TrainStream(source, seed, augment, preprocess, LIMITS)


def parts(batch):
    return batch.pixels, batch.labels, batch.partners, batch.weights, batch.indices


def joined(batches):
    return [torch.cat(column) for column in zip(*map(parts, batches), strict=True)]


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def straight(stream, start, stop):
    """Return the samples one by one, as the contract defines them."""
    return parts(room.collate([stream.example(sample) for sample in range(start, stop)]))


@pytest.mark.parametrize("kind", KINDS)
def test_workers_change_no_bit(files, kind):
    stream = stream_of(files, KINDS[kind], COLOUR)
    expected = straight(stream, 0, 48)
    for workers in (0, 1, 4):
        assert same(joined(load_train_batches(stream, 0, 10, 48, workers)), expected), workers


@pytest.mark.parametrize("workers", [0, 2])
def test_started_in_the_middle_it_goes_on_the_same(files, workers):
    stream = stream_of(files, KINDS["either, sometimes"], COLOUR)
    expected = straight(stream, 0, 70)
    for start in (1, 7, 23, 50):
        found = joined(load_train_batches(stream, start, 8, 70, workers))
        assert same(found, [part[start:] for part in expected]), start


@given(st.integers(0, 300), st.integers(1, 50), st.integers(1, 70), st.integers(0, 2**63))
def test_any_start_and_any_batch(start, batch, count, seed):
    stream = stream_of(seed=seed)
    batches = list(load_train_batches(stream, start, batch, start + count))
    assert [len(one.labels) for one in batches[:-1]] == [batch] * (len(batches) - 1)
    assert same(joined(batches), straight(stream, start, start + count))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(files, kind):
    one, again, other = (straight(stream_of(files, KINDS[kind], COLOUR, seed), 0, 10) for seed in (1, 1, 2))
    assert same(one, again)
    assert not torch.equal(one[0], other[0])


def test_an_epoch_holds_every_example_once(files):
    stream = stream_of(files, KINDS["mixup"], COLOUR)
    *_, indices = joined(load_train_batches(stream, 0, 5, 3 * len(files)))
    for epoch in indices.split(len(files)):
        assert sorted(epoch.tolist()) == list(range(len(files)))


def test_no_two_epochs_see_the_same_pixels(files):
    stream = stream_of(files, AugmentConfig(), COLOUR)
    pixels, *_, indices = straight(stream, 0, 2 * len(files))
    first, second = (pixels[half][indices[half].argsort()] for half in (slice(0, len(files)), slice(len(files), None)))
    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_labels_belong_to_their_examples(files):
    _, labels, _, _, indices = straight(stream_of(files, KINDS["either, sometimes"], COLOUR), 0, 100)
    assert torch.equal(labels, torch.from_numpy(files.labels)[indices])


def test_mixing_starts_from_the_example_itself(files):
    """Where nothing is mixed the example is as without mixing; where it is, the weight says how much is its own."""
    mixing = stream_of(files, KINDS["either, sometimes"], COLOUR)
    alone = stream_of(files, replace(KINDS["either, sometimes"], mixup=0.0, cutmix=0.0), COLOUR)
    mixed, own = straight(mixing, 0, 200), straight(alone, 0, 200)
    untouched = mixed[3] == 1
    assert 20 < int(untouched.sum()) < 140
    assert torch.equal(mixed[0][untouched], own[0][untouched])
    assert torch.equal(mixed[1], own[1])
    assert torch.equal(mixed[2][untouched], mixed[1][untouched])
    assert torch.equal(own[2], own[1])
    assert ((mixed[3] >= 0) & (mixed[3] <= 1)).all()


def test_mixup_blends_by_the_weight():
    stream = stream_of(DIGITS, AugmentConfig(crop="eval", flip=False, mixup=1.0))
    for sample in range(30):
        one = stream.example(sample)
        own = DIGITS.pixels[one.index].astype(float) * one.weight
        blends = (own + other * (1 - one.weight) for other in DIGITS.pixels[DIGITS.labels == one.partner].astype(float))
        assert min(np.abs(blend - one.pixels).max() for blend in blends) <= 0.51


def test_partners_come_from_all_the_data():
    stream = stream_of(DIGITS, AugmentConfig(crop="eval", flip=False, cutmix=1.0))
    *_, partners, _, _ = straight(stream, 0, 60)
    assert set(partners.tolist()) == set(range(10))


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch", [1, 7, 23, 100])
def test_evaluation_sees_every_example_once_in_order(files, batch, workers):
    pixels, labels, partners, weights, indices = joined(
        load_evaluation_batches(Examples(files, COLOUR, LIMITS), batch, workers)
    )
    assert indices.tolist() == list(range(len(files)))
    assert torch.equal(labels, torch.from_numpy(files.labels))
    assert torch.equal(partners, labels)
    assert (weights == 1).all()
    alone = joined(load_evaluation_batches(Examples(files, COLOUR, LIMITS), 1))
    assert torch.equal(pixels, alone[0])


def test_torchs_own_random_numbers_are_left_alone(files):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(load_train_batches(stream_of(files, MIXED, COLOUR), 0, 10, 20, workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_stop_there_is_no_end(files):
    batches = load_train_batches(stream_of(files, MIXED, COLOUR), 0, 50)
    assert [len(next(batches).labels) for _ in range(4)] == [50] * 4


def test_nothing_left_to_train_on(files):
    assert list(load_train_batches(stream_of(files, MIXED, COLOUR), 40, 10, 40)) == []


def test_a_batch_is_cut_into_parts():
    batch = next(load_train_batches(stream_of(), 0, 10, 10))
    cut = list(batch.split(4))
    assert [len(part.labels) for part in cut] == [4, 4, 2]
    assert same(joined(cut), parts(batch))
    assert same(parts(batch.to(torch.device("cpu"))), parts(batch))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_stops_the_stream_by_name(tmp_path, workers):
    source = open_source(str(tree(tmp_path, a=10, b=10)))
    (tmp_path / source.names[13]).unlink()
    seen = 0
    with pytest.raises(ImageError, match=source.names[13]):
        for batch in load_evaluation_batches(Examples(source, COLOUR, LIMITS), 4, workers):
            seen += len(batch.labels)
    assert seen == 12
    assert not multiprocessing.active_children()


class Deadly:
    """A source that kills whoever reads its sixth example, if that is a worker."""

    classes, labels, names, fingerprint = ("a", "b"), np.zeros(20, np.int64), [str(n) for n in range(20)], ""
    parent = os.getpid()

    def __len__(self):
        return 20

    def read(self, index):
        if index == 5 and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return picture(index)


def test_a_killed_worker_is_said():
    with pytest.raises(WorkerKilled, match="was killed by SIGKILL, most often for lack of memory"):
        list(load_evaluation_batches(Examples(Deadly(), COLOUR, LIMITS), 4, 1))


@pytest.mark.parametrize("batch", [0, -3])
def test_a_batch_of_nothing(batch):
    with pytest.raises(ConfigError, match=f"the batch size is {batch}; it must be at least 1"):
        next(load_train_batches(stream_of(), 0, batch))


def test_how_many_workers():
    assert [resolve_workers(count) for count in (0, 1, 7)] == [0, 1, 7]
    assert resolve_workers("auto", torch.device("cpu")) == min(8, len(os.sched_getaffinity(0)) // 4)
    assert resolve_workers("auto", torch.device("cuda")) == min(16, len(os.sched_getaffinity(0)))
    with pytest.raises(ConfigError, match="workers is -1; it must be auto, or 0 to 1024"):
        resolve_workers(-1)
    with pytest.raises(ConfigError, match="workers is 1025; it must be auto, or 0 to 1024"):
        resolve_workers(1025)


def test_without_shared_memory_pipes_serve(files, monkeypatch):
    monkeypatch.setattr(room, "_fits_shared_memory", lambda need: False)
    stream = stream_of(files, MIXED, COLOUR)
    assert same(joined(load_train_batches(stream, 0, 10, 30, 2)), straight(stream, 0, 30))


def test_all_processes_of_a_machine_share_its_memory(files, monkeypatch):
    needs = []
    monkeypatch.setattr(room, "_fits_shared_memory", lambda need: needs.append(need) or False)
    share = room.Share(stream_of(files, MIXED, COLOUR), 20, 0, 4, local_size=2)
    next(load_train_batches(share, 0, 5, 10, 1))
    next(load_evaluation_batches(Examples(files, COLOUR, LIMITS), 5, 1, share=(0, 2)))
    assert needs == [5 * 12 * 16 * 3 * room.AHEAD * 2] * 2


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False), (None, False)])
def test_batches_for_a_gpu_are_pinned(files, monkeypatch, device, pinned):
    """Training and evaluation say where their batches go."""
    found = []

    def watch(*given, **how):
        found.append(how["pin_memory"])
        return DataLoader(*given, **how)

    monkeypatch.setattr(room, "DataLoader", watch)
    where = None if device is None else torch.device(device)
    assert len(list(load_evaluation_batches(Examples(files, COLOUR, LIMITS), 5, 1, device=where))) > 0
    assert found == [pinned]
