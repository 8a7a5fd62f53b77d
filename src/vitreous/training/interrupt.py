"""Ctrl-C, SIGTERM and a closed terminal ask a run to stop between two steps; a second Ctrl-C stops it at once."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)
"""Sent when a terminal closes; Windows has none."""
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)
SAME = 0.5
"""Seconds within which a second Ctrl-C counts as the same one: `timeout`, for example, signals a process and then
its whole group."""


class Interrupt:
    """Context manager that turns the first SIGINT, SIGTERM or SIGHUP into a request, `requested`, and restores the handlers.

    A process that was started to ignore SIGHUP (nohup) continues to ignore it. Signals after the first change nothing,
    except for a second Ctrl-C: schedulers and closing terminals send several.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
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

    def comes(self, seconds: float) -> bool:
        """Return whether a signal has arrived, or arrives within some seconds."""
        end = time.monotonic() + seconds
        while self.requested is None and time.monotonic() < end:
            time.sleep(0.02)
        return self.requested is not None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested is None:
            self.requested, self._since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > SAME:
            raise KeyboardInterrupt
