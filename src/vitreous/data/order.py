"""Which example is the n-th: a pure function of (seed, epoch, index).

Nothing here has state, so there is nothing to save: any position of the stream is computed directly, in any process.
A permutation of `size` items is a small Feistel network over the index's bits (Luby and Rackoff, 1988), walked until
it lands inside the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). It costs no memory, so an
epoch of a billion examples starts as fast as one of ten.
"""

from typing import NamedTuple

import numpy as np

MASK = (1 << 64) - 1
ROUNDS = 6


class Position(NamedTuple):
    """A place in the stream of examples."""

    epoch: int
    index: int


def mix(*values: int) -> int:
    """Hash integers to 64 well-mixed bits (splitmix64's finaliser, chained). Order matters."""
    state = 0
    for value in values:
        state = (state + (value & MASK) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def generator(*key: int) -> np.random.Generator:
    """Return numpy's generator for a key such as (seed, epoch, index, purpose); equal keys give equal draws."""
    return np.random.Generator(np.random.Philox(key=mix(*key)))


def position(sample: int, size: int) -> Position:
    """Place the sample-th example that training consumes (0, 1, 2, ...) in a stream of `size` examples an epoch."""
    return Position(*divmod(sample, size))


def example_at(seed: int, epoch: int, index: int, size: int) -> int:
    """Return which of `size` examples is the index-th of this epoch. For fixed (seed, epoch): a permutation."""
    if not 0 <= index < size:
        raise IndexError(f"index {index} is outside an epoch of {size} examples")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & low
        for turn in range(ROUNDS):
            left, right = right, left ^ (mix(seed, epoch, turn, right) & low)
        value = (left << half) | right
        if value < size:
            return value
