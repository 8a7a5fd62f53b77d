"""Pixels that are kept in memory: the same bits as from the files, and never a damaged image."""

import pickle

import numpy as np
import pytest
from tests.support.pictures import encoded, picture, tree, write

from vitreous.data.labelled_images import open_source
from vitreous.data.sources import in_memory as room
from vitreous.data.sources.in_memory import Remembered, Store, remember
from vitreous.data.stream.loader import Examples, TrainStream, load_evaluation_batches
from vitreous.errors import ImageError
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode

LIMITS = DecodeConfig()
SMALL = PreprocessConfig(size=(8, 8))


@pytest.fixture
def source(tmp_path):
    root = tree(tmp_path, a=6, b=6)
    write(root / "b" / "large.jpg", encoded(picture(50, 60, 70), "JPEG"))
    return open_source(str(root))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_the_file(source, mode):
    preprocess = PreprocessConfig(size=(8, 8), mode=mode)
    kept = remember(source, LIMITS, preprocess)
    assert isinstance(kept, Remembered)
    for _ in range(2):
        for index in range(len(source)):
            np.testing.assert_array_equal(kept.read(index), decode(source.read(index), LIMITS, mode))
    for name in ("classes", "names", "fingerprint"):
        assert getattr(kept, name) == getattr(source, name)
    assert (kept.labels == source.labels).all()


def test_the_second_reading_opens_no_file(source):
    kept = remember(source, LIMITS, SMALL)
    first = [kept.read(index) for index in range(len(source))]
    for name in source.names:
        (source.root / name).unlink()
    for index, pixels in enumerate(first):
        np.testing.assert_array_equal(kept.read(index), pixels)


def test_what_is_returned_may_be_changed(source):
    kept = remember(source, LIMITS, SMALL)
    kept.read(0)
    kept.read(0)[:] = 0
    np.testing.assert_array_equal(kept.read(0), decode(source.read(0), LIMITS))


def test_workers_fill_it_for_everyone(source):
    list(load_evaluation_batches(Examples(source, SMALL, LIMITS), 4, workers=2))
    kept = remember(source, LIMITS, SMALL)
    assert all(kept.store.get(index) is not None for index in range(len(source)))


def test_a_half_written_image_is_decoded_again(source):
    kept = remember(source, LIMITS, SMALL)
    expected = kept.read(3)
    kept.store.pixels[int(kept.store.ends[2]) + 5] ^= 255
    assert kept.store.get(3) is None
    np.testing.assert_array_equal(kept.read(3), expected)
    np.testing.assert_array_equal(kept.store.get(3), expected)


def test_an_image_of_another_shape_than_the_scan_found_is_not_kept(source):
    kept = remember(source, LIMITS, SMALL)
    write(source.root / source.names[0], encoded(picture(99, 30, 40)))
    assert kept.read(0).shape == (30, 40, 3)
    assert kept.store.get(0) is None


def test_a_broken_image_is_an_error_and_is_not_kept(source):
    kept = remember(source, LIMITS, SMALL)
    write(source.root / source.names[0], b"no image any more")
    for _ in range(2):
        with pytest.raises(ImageError, match=source.names[0]):
            kept.read(0)


def test_empty_room_holds_nothing():
    store = Store([(2, 3, 3), (1, 1, 1)])
    assert store.get(0) is None
    store.put(1, np.full((1, 1, 1), 7, np.uint8))
    assert store.get(1).tolist() == [[[7]]]
    assert store.get(0) is None
    store.put(0, np.zeros((2, 3, 3), np.uint8))
    assert store.get(0).max() == 0


def test_a_large_source_is_left_to_the_files(source, monkeypatch):
    total = int(source.sizes.prod(1).sum()) * 3
    monkeypatch.setattr(room, "LIMIT", total)
    assert isinstance(remember(source, LIMITS, SMALL), Remembered)
    monkeypatch.setattr(room, "LIMIT", total - 1)
    assert remember(source, LIMITS, SMALL) is source
    grey = PreprocessConfig(size=(8, 8), mode="L")
    assert isinstance(remember(source, LIMITS, grey), Remembered)


def test_crops_of_reduced_jpegs_are_left_to_the_files(source):
    cropping = AugmentConfig(crop="inception")
    assert remember(source, LIMITS, SMALL, cropping) is source
    assert isinstance(remember(source, LIMITS, PreprocessConfig(size=(40, 40)), cropping), Remembered)
    assert isinstance(remember(source, LIMITS, SMALL, AugmentConfig(crop="pad")), Remembered)


@pytest.mark.parametrize("crop", ["inception", "pad", "eval"])
@pytest.mark.parametrize("size", [(8, 8), (20, 40)])
def test_not_a_bit_of_an_example_depends_on_it(source, crop, size):
    augment = AugmentConfig(crop=crop, crop_pad=2, mixup=0.3, randaugment=(1, 5.0))
    stream = TrainStream(source, 1, augment, PreprocessConfig(size=size), LIMITS)
    kept = stream.remember()
    for sample in range(2 * len(source)):  # from the files, then from memory
        np.testing.assert_array_equal(kept.example(sample).pixels, stream.example(sample).pixels)


def test_it_goes_to_other_processes_without_the_memory(source):
    kept = remember(source, LIMITS, SMALL)
    moved = pickle.loads(pickle.dumps(kept))
    assert moved.store is None
    assert moved.read(1) == source.read(1)
