"""Run decoding, computing and the caller's own work at the same time, in order and with bounded memory. Imports no
torch."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from vitreous.runtime.threads import count_cores

Given = TypeVar("Given")
Decoded = TypeVar("Decoded")
Result = TypeVar("Result")

DECODERS = 4
"""Number of threads that decode ahead, at most."""


def overlap(
    source: Iterator[Given],
    decode: Callable[[Given], Decoded],
    compute: Callable[[list[Decoded]], list[Result]],
    batch: int,
) -> Iterator[Result]:
    """Decode on several threads and compute on one, while the caller handles earlier results.

    At most two batches wait to be computed, one is computed, and the caller has one.

    Args:
        source: the items to decode, taken as they are needed.
        decode: called for each item, in several threads.
        compute: called for each batch, in one thread; returns a result for each.
        batch: most items in one call.
    """
    waiting: deque[Future[Decoded]] = deque()
    decoding = ThreadPoolExecutor(min(DECODERS, count_cores()), thread_name_prefix="decode")
    computing = ThreadPoolExecutor(1, thread_name_prefix="compute")

    def decode_ahead() -> None:
        for given in islice(source, 2 * batch - len(waiting)):
            waiting.append(decoding.submit(decode, given))

    def compute_next() -> Future[list[Result]] | None:
        group = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
        return computing.submit(lambda: compute([one.result() for one in group])) if group else None

    try:
        decode_ahead()
        computed = compute_next()
        while computed is not None:
            decode_ahead()
            following = compute_next()
            yield from computed.result()
            computed = following
    finally:
        for pool in (computing, decoding):
            pool.shutdown(cancel_futures=True)
