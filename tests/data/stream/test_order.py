"""The order of the stream: a permutation for any (seed, epoch, size), without state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.stream.order import (
    extend_hash,
    find_example,
    find_position,
    hash_integers,
    restart_generator,
    seed_generator,
)

words = st.integers(0, 2**64 - 1)


@given(words, st.integers(0, 2**31), st.integers(1, 700))
def test_an_epoch_is_a_permutation(seed, epoch, size):
    assert sorted(find_example(seed, epoch, index, size) for index in range(size)) == list(range(size))


@given(words, st.integers(0, 100), st.integers(2**20, 2**40), st.data())
def test_large_epochs_stay_in_range_and_apart(seed, epoch, size, data):
    indices = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=20, unique=True))
    found = [find_example(seed, epoch, index, size) for index in indices]
    assert all(0 <= value < size for value in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("index", [-1, 5])
def test_outside_an_epoch(index):
    with pytest.raises(IndexError, match="outside an epoch of 5 examples"):
        find_example(0, 0, index, 5)


def test_epochs_and_seeds_differ():
    orders = {
        tuple(find_example(seed, epoch, index, 50) for index in range(50)) for seed in range(6) for epoch in range(6)
    }
    assert len(orders) == 36


def test_every_example_comes_at_every_place():
    """Over 1,200 epochs each of 6 examples is at each of 6 places 200 times; five deviations are 65."""
    counts = np.zeros((6, 6))
    for epoch in range(1200):
        for index in range(6):
            counts[index, find_example(7, epoch, index, 6)] += 1
    assert np.abs(counts - 200).max() < 65


@given(st.integers(0, 10**15), st.integers(1, 10**9))
def test_samples_run_through_the_epochs(sample, size):
    epoch, index = find_position(sample, size)
    assert epoch * size + index == sample
    assert 0 <= index < size


@given(words, words)
def test_a_hash_is_its_steps(first, second):
    assert hash_integers(first, second) == extend_hash(hash_integers(first), second)
    assert 0 <= hash_integers(first, second) < 2**64
    assert first == second or hash_integers(first, second) != hash_integers(second, first)


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, max_size=3))
def test_a_generator_started_over_draws_the_same(key, before):
    worn = seed_generator(*before)
    worn.integers(7)
    worn.random(3)
    worn.standard_normal(5)
    again, fresh = restart_generator(worn, *key), seed_generator(*key)
    assert again.random() == fresh.random()
    assert (
        again.integers(2**31, size=3, dtype=np.int32).tolist() == fresh.integers(2**31, size=3, dtype=np.int32).tolist()
    )
    assert again.beta(0.3, 0.3) == fresh.beta(0.3, 0.3)
