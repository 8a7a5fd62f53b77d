"""Ctrl-C, SIGTERM, SIGUSR1 and a closed terminal ask a run to stop between two steps; a second Ctrl-C stops it
immediately."""

import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

HANGUP, PREEMPTION = getattr(signal, "SIGHUP", None), getattr(signal, "SIGUSR1", None)
"""Sent when a terminal closes, and by schedulers before they take a machine away; Windows has neither."""
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP, PREEMPTION) if number is not None)
SAME = 0.5
"""Seconds within which a second Ctrl-C counts as the first: `timeout`, for example, signals a process and then its
whole group."""


class Interrupt:
    """Context manager that turns the first of `SIGNALS` into a request, `requested`, and restores the handlers.

    A process that was started to ignore SIGHUP (nohup) continues to ignore it. Signals after the first change nothing,
    except for a second Ctrl-C: schedulers and closing terminals send several.

    Args:
        alone: whether this process is the whole run. If there are others, a request to one of them takes effect once
        `adopt` has told all of them, so that all stop after the same step.
    """

    def __init__(self, alone: bool = True) -> None:
        self.alone = alone
        self.requested: signal.Signals | None = None
        self.received: signal.Signals | None = None
        """The first signal that this process got."""
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN or number != HANGUP:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> bool:
        """Return whether a signal has arrived, or arrives within this many seconds."""
        end = time.monotonic() + seconds
        while self.received is None and time.monotonic() < end:
            time.sleep(0.02)
        return self.received is not None

    def ballot(self) -> list[float]:
        """Return 0 or 1 for each of `SIGNALS`: whether it asked this process to stop."""
        return [float(self.received == number) for number in SIGNALS]

    def adopt(self, asked: Sequence[float]) -> None:
        """Request a stop if the sums of all ballots say that any process was asked to; the first of `SIGNALS` that came
        counts."""
        came = [number for number, count in zip(SIGNALS, asked, strict=True) if count]
        if came and self.requested is None:
            self.requested = signal.Signals(came[0])

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
            if self.alone:
                self.requested = self.received
        elif number == signal.SIGINT and time.monotonic() - self._since > SAME:
            raise KeyboardInterrupt
