"""Decoding, computing and whatever the caller does, side by side, with bounded memory and in order. Imports no torch."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Given = TypeVar("Given")
Decoded = TypeVar("Decoded")
Result = TypeVar("Result")

DECODERS = 4
"""Most threads that decode ahead."""


def overlap(
    source: Iterator[Given],
    decode: Callable[[Given], Decoded],
    compute: Callable[[list[Decoded]], list[Result]],
    batch: int,
) -> Iterator[Result]:
    """Decode on some threads, compute on one, and let the caller do with results what it likes meanwhile.

    At most two batches wait to be computed, one is computed, and the caller has one.

    Args:
        source: what is decoded, taken as it is needed.
        decode: called for each, in several threads.
        compute: called for each batch, in one thread; returns a result for each.
        batch: most of them in one call.
    """
    waiting: deque[Future[Decoded]] = deque()
    decoding = ThreadPoolExecutor(min(DECODERS, os.cpu_count() or 1), thread_name_prefix="decode")
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
