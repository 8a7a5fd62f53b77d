"""The collector leaves alone what forked processes share, as long as they run."""

import gc
import weakref

import numpy as np
import pytest

from vitreous.data.sources.base import ArraySource
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.runtime import collection
from vitreous.runtime.collection import keep_memory_shared
from vitreous.shapes import Size


class Node:
    """Part of a cycle."""

    def __init__(self):
        self.me = self


@pytest.fixture(autouse=True)
def nothing_frozen(monkeypatch):
    """Begin with nothing frozen, as a program does; the test run itself freezes what it imports."""
    gc.unfreeze()
    monkeypatch.setattr(collection, "_frozen", False)
    yield
    assert gc.get_freeze_count() == 0
    gc.freeze()


def test_garbage_is_freed_before_and_after_but_what_exists_is_not_traversed_between():
    before, during = Node(), Node()
    gone, kept = weakref.ref(before), weakref.ref(during)
    del before
    with keep_memory_shared():
        assert gone() is None
        assert gc.get_freeze_count() > 10_000
        del during
        gc.collect()
        assert kept() is not None
    gc.collect()
    assert kept() is None


def test_a_block_within_another_does_nothing():
    """What other threads let go of leaves the count, so it may fall a little."""
    with keep_memory_shared():
        count, made = gc.get_freeze_count(), [[] for _ in range(10_000)]
        for _ in range(2):
            with keep_memory_shared():
                assert count - 5_000 < gc.get_freeze_count() <= count
            assert count - 5_000 < gc.get_freeze_count() <= count
        assert len(made) == 10_000


def test_a_caller_who_has_frozen_objects_keeps_them_so():
    gc.freeze()
    for _ in range(2):  # the second time they aren't counted again
        with keep_memory_shared():
            pass
        assert gc.get_freeze_count() > 10_000
    gc.unfreeze()


def test_nothing_is_done_without_forks_nor_for_a_caller_who_collects_by_himself():
    with keep_memory_shared(forks=False):
        assert gc.get_freeze_count() == 0
    gc.disable()
    try:
        with keep_memory_shared():
            assert gc.get_freeze_count() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_their_parents_memory(workers):
    pixels = np.zeros((8, 4, 4, 3), np.uint8)
    source = ArraySource(pixels, tuple("abcdefgh"), np.zeros(8, np.int64), ("x", "y"), "")
    batches = load_evaluation_batches(
        Examples(source, PreprocessConfig(size=Size(4, 4)), DecodeConfig()), batch=2, workers=workers
    )
    next(batches)
    assert (gc.get_freeze_count() > 0) == (workers > 0)
    batches.close()
