"""Which example is the n-th: a pure function of (seed, epoch, index).

Nothing here has state, so there is nothing to save: any position of the stream is computed directly, in any process. A
permutation of `size` items is a small Feistel network over the index's bits (Luby and Rackoff, 1988), walked until it
lands inside the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). It costs no memory, and an
epoch of a billion examples starts as fast as one of ten.
"""

from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

Integers = TypeVar("Integers", int, np.ndarray)
MASK = (1 << 64) - 1
ROUNDS = 6
ZEROS = np.zeros(4, dtype=np.uint64)


class Position(NamedTuple):
    """A place in the stream of examples."""

    epoch: int
    index: int


def hash_integers(*values: int) -> int:
    """Hash integers to 64 well-mixed bits (splitmix64's finaliser, chained). Order matters."""
    state = 0
    for value in values:
        state = extend_hash(state, value)
    return state


def extend_hash(state: int, value: Integers) -> Integers:
    """Add one more value to a hash: `extend_hash(hash_integers(a), b)` is `hash_integers(a, b)`. Of an array of unsigned 64-bit
    integers, each by itself."""
    state = (state + (value & MASK) + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def seed_generator(*key: int) -> np.random.Generator:
    """Return numpy's generator for a key such as (seed, epoch, index, purpose); equal keys give equal draws."""
    return np.random.Generator(np.random.Philox(key=hash_integers(*key)))


def restart_generator(rng: np.random.Generator, *key: int) -> np.random.Generator:
    """Restart a generator so that it draws what `seed_generator(*key)` would, at a tenth of the cost of a new one."""
    rng.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {"counter": ZEROS, "key": np.array([hash_integers(*key), 0], dtype=np.uint64)},
        "buffer": ZEROS,
        "buffer_pos": len(ZEROS),
        "has_uint32": 0,
        "uinteger": 0,
    }
    return rng


def find_position(sample: int, size: int) -> Position:
    """Return the position of the sample-th example that training consumes (0, 1, 2, ...), with `size` examples per
    epoch."""
    return Position(*divmod(sample, size))


def find_example(seed: int, epoch: int, index: int, size: int) -> int:
    """Return which of `size` examples is the index-th of this epoch. For fixed (seed, epoch): a permutation."""
    if not 0 <= index < size:
        raise IndexError(f"index {index} is outside an epoch of {size} examples")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    keys = derive_round_keys(seed, epoch)
    value = index
    while True:
        left, right = value >> half, value & low
        for key in keys:
            left, right = right, left ^ (extend_hash(key, right) & low)
        value = (left << half) | right
        if value < size:
            return value


@lru_cache(maxsize=16)
def derive_round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    """Return the round keys of an epoch, which are the same for all its examples."""
    return tuple(hash_integers(seed, epoch, turn) for turn in range(ROUNDS))
