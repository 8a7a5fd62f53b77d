"""Detection of a hanging process: it reports itself, with its stacks; if it can't, another one reports it."""

import faulthandler
import os
import platform
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from vitreous.training.distributed import World, choose_teller, note_failure

EARLY = 0.8
"""Share of the timeout between processes after which a hanging one is looked for."""
LOOKS = 20
"""Number of checks in that time."""
LAST_LOOK = 5.0
"""Seconds that the block's end waits for the watch. One whose store has gone with the first process connects in vain, for as
long as the timeout between processes."""


class Sign(NamedTuple):
    """The last sign of a process."""

    pulse: int
    """Its progress (see `Pulse`)."""
    looks: int
    """Number of its watch's checks."""
    where: str
    """Its host, and its process number there."""


class Watch:
    """While the block runs, detects that all others wait for this process, or that one of them has gone silent.

    Processes that wait for each other reach the same pulse; a hanging one stays behind. It writes a line and the stacks
    of its threads to standard error, and ends, so that torch's agent restarts all of them, or ends the run.
    """

    def __init__(self, world: World) -> None:
        self.world, self.seconds = world, EARLY * world.timeout
        self.pulse, self.since, self.looks = -1, time.monotonic(), 0
        self.heard: dict[int, tuple[int, float]] = {}
        """For each process: its watch's last known count, and when that count was new."""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        if self.world.together:
            self.show(self.world.store)  # so that all know each other, whatever happens next
            self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        if self.world.together:
            self.thread.join(LAST_LOOK)

    def _watch(self) -> None:
        store = self.world.store.clone()
        with suppress(RuntimeError):  # the store has gone, and the run with it
            while not self.over.wait(self.seconds / LOOKS):
                self.look(store)

    def look(self, store: Any) -> None:
        """Show this process's progress, and if it has long stood still, find out which process is to blame."""
        now, rank, pulse = time.monotonic(), self.world.rank, self.world.pulse.count
        if pulse != self.pulse:
            self.pulse, self.since = pulse, now
        self.show(store)
        if now - self.since < self.seconds / 2:  # usually, nobody needs the others' signs
            return
        signs = {
            one: read_sign(store.get(f"sign/{one}")) for one in range(self.world.size) if store.check([f"sign/{one}"])
        }
        for one, sign in signs.items():
            if sign.looks != self.heard.get(one, (-1, 0.0))[0]:
                self.heard[one] = (sign.looks, now)
        if now - self.since < self.seconds:
            return
        silent = [one for one in signs if now - self.heard[one][1] >= self.seconds / 3]
        if rank == min(set(signs) - set(silent)) and silent:
            self.end(
                store,
                silent[0],
                signs[silent[0]],
                f"has been silent for {now - self.heard[silent[0]][1]:.0f} s: it is stopped",
            )
        if pulse < max(sign.pulse for sign in signs.values()):
            self.end(
                store, rank, signs[rank], f"has not moved for {now - self.since:.0f} s, and the others wait for it"
            )

    def show(self, store: Any) -> None:
        """Show this process's progress, and that it is alive."""
        self.looks += 1
        shown = f"{self.world.pulse.count} {self.looks} {platform.node()}, process {os.getpid()}"
        store.set(f"sign/{self.world.rank}", shown)

    def end(self, store: Any, rank: int, sign: Sign, why: str) -> None:
        """Say which process hangs, and end this one; the stacks are this process's, so they are shown only if it is the
        one."""
        note_failure(store, self.world.rank, 1)
        if choose_teller(store, self.world.rank) == self.world.rank:
            sys.stderr.write(f"vitreous: error: process {rank} of {self.world.size} ({sign.where}) {why}\n")
            sys.stderr.flush()
            if rank == self.world.rank:
                faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        os._exit(1)


def read_sign(shown: bytes) -> Sign:
    """Read the signs that `Watch.look` shows."""
    pulse, looks, where = shown.decode().split(" ", 2)
    return Sign(int(pulse), int(looks), where)
