"""Compute images of several requests in one pass through a model: all that have arrived. It waits for images on their
way, up to a deadline."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Compute = Callable[[np.ndarray], np.ndarray]
"""Turns pixels of shape (image, row, col, channel) into one row per image."""


@dataclass(frozen=True)
class Answer:
    """The result for one image."""

    row: np.ndarray
    queued: float
    """Seconds that it waited."""
    computed: float
    """Seconds of its pass through the model."""
    batch: int
    """Images in that pass."""


@dataclass(eq=False)
class _Waiting:
    pixels: np.ndarray
    kind: str
    future: "asyncio.Future[Answer]"
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """A model's queue, and the thread in which the model computes.

    Args:
        computes: the possible computations by kind; a pass is of one kind.
        most: most images in a pass.
        wait: most seconds that an image waits for others.
        observe: called after each pass with the number of images and the seconds.
        accepted: returns how many images are in this queue or on their way to it; without images on their way, none waits.
    """

    def __init__(
        self,
        computes: dict[str, Compute],
        most: int,
        wait: float,
        observe: Callable[[int, float], None],
        accepted: Callable[[], int],
    ) -> None:
        self.computes, self.most, self.wait, self.observe, self.accepted = computes, most, wait, observe, accepted
        self.waiting: deque[_Waiting] = deque()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop; waiting requests are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self.waiting:
            one.future.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, kind: str, pixels: np.ndarray) -> Answer:
        """Return the answer for one image of shape (row, col, channel). If this is cancelled, the image leaves the
        queue."""
        one = _Waiting(pixels, kind, asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        self._came.set()
        try:
            return await one.future
        finally:
            if one.future.cancelled() and one in self.waiting:
                self.waiting.remove(one)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run other work with the model in its thread, between two passes."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def _work(self) -> None:
        while True:
            await self._fill()
            group = self._take()
            if not group:
                continue
            began = time.monotonic()
            try:
                rows = await self.run(lambda group=group: self._compute(group))
            except Exception as error:
                for one in group:
                    if not one.future.done():
                        one.future.set_exception(error)
                continue
            took = time.monotonic() - began
            with suppress(OSError):  # a failed measurement mustn't keep requests from being answered
                self.observe(len(group), took)
            for one, row in zip(group, rows, strict=True):
                if not one.future.done():
                    one.future.set_result(Answer(row, began - one.arrived, took, len(group)))

    async def _fill(self) -> None:
        """Wait until there is an image and its pass is full, its time is up, or no other image is on its way."""
        while not self.waiting:
            self._came.clear()
            await self._came.wait()
        due = self.waiting[0].arrived + self.wait
        while 0 < len(self.waiting) < min(self.most, self.accepted()) and (left := due - time.monotonic()) > 0:
            self._came.clear()
            try:
                async with asyncio.timeout(left):
                    await self._came.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """Remove the images of the next pass from the queue: those of the first one's kind, in their order."""
        group: list[_Waiting] = []
        kept: list[_Waiting] = []
        while self.waiting and len(group) < self.most:
            one = self.waiting.popleft()
            if one.future.done():
                continue
            (kept if group and one.kind != group[0].kind else group).append(one)
        self.waiting.extendleft(reversed(kept))
        return group

    def _compute(self, group: list[_Waiting]) -> np.ndarray:
        return self.computes[group[0].kind](np.stack([one.pixels for one in group]))
