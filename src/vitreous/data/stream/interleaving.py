"""Which example is the n-th where labelled and pseudo-labelled ones come in a fixed proportion.

Of every `PseudoLabelled.every` consecutive examples, the same number are labelled, spread evenly; each kind runs through its own
epochs. So every batch whose size is a multiple has the exact proportion, wherever it begins, and the n-th example still depends on
the seed and n alone.
"""

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.data.sources.pseudo_labels import PseudoLabelled
from vitreous.data.stream.order import find_example, find_position, hash_integers

OTHERS = 0x0DD
"""Purpose of the order of pseudo-labelled examples."""


def count_epoch(source: Source) -> int:
    """Return the number of examples of one epoch: each labelled one once, and its pseudo-labelled ones."""
    if not isinstance(source, PseudoLabelled):
        return len(source)
    return len(source.labelled) * source.every // source.labelled_of


def choose_example(source: Source, seed: int, sample: int, views: int = 1) -> int:
    """Return the index of the sample-th example that training consumes, counted from 0 through all epochs; of `views` in a row,
    of either kind, it is the same."""
    if not isinstance(source, PseudoLabelled):
        epoch, index = find_position(sample, len(source))
        return find_example(seed, epoch, index // views, len(source))
    before, after = (count * source.labelled_of // source.every for count in (sample, sample + 1))
    if after > before:
        epoch, index = find_position(before, len(source.labelled))
        return find_example(seed, epoch, index // views, len(source.labelled))
    epoch, index = find_position(sample - before, len(source.others))
    other = find_example(hash_integers(seed, OTHERS), epoch, index // views, len(source.others))
    return len(source.labelled) + other


def draw_partner(source: Source, rng: np.random.Generator) -> int:
    """Draw the index of an example to be mixed in, of either kind in the proportion of training."""
    if not isinstance(source, PseudoLabelled):
        return int(rng.integers(len(source)))
    if rng.integers(source.every) < source.labelled_of:
        return int(rng.integers(len(source.labelled)))
    return len(source.labelled) + int(rng.integers(len(source.others)))
