"""A run on a billion images in 1,000 processes, by simulation: who reads which example of a step (docs/scaling.md)."""

from vitreous.data.stream.loader import Share
from vitreous.data.stream.order import find_example, find_position

EXAMPLES, BATCH = 10**9, 105_000
LAST = EXAMPLES // BATCH
"""The step in which the first epoch ends and the second begins."""


class Numbers:
    """A stream that yields which example each would be, in place of its pixels."""

    def examples(self, samples):
        for sample in samples:
            at = find_position(sample, EXAMPLES)
            yield find_example(7, at.epoch, at.index, EXAMPLES)


def read_step(step, processes):
    """Return the examples of a step, by the rank of the process that reads them."""
    own = BATCH // processes
    shares = (Share(Numbers(), BATCH, rank, processes) for rank in range(processes))
    return [list(share.examples(range(step * own, (step + 1) * own))) for share in shares]


def test_a_thousand_processes_read_what_one_would_and_five_hundred_go_on_with_it():
    (alone,) = read_step(9000, 1)
    thousand = read_step(9000, 1000)
    assert len(set(alone)) == BATCH
    assert {len(part) for part in thousand} == {105}
    assert [example for part in thousand for example in part] == alone
    assert [example for part in read_step(9000, 500) for example in part] == alone


def test_no_example_comes_twice_where_one_epoch_ends_and_the_next_begins():
    (examples,) = read_step(LAST, 1)
    left = EXAMPLES - LAST * BATCH
    assert 0 < left < BATCH
    assert (len(set(examples[:left])), len(set(examples[left:]))) == (left, BATCH - left)
