"""Ctrl-C, SIGTERM and a closed terminal ask a run to stop between two steps; a second Ctrl-C stops it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)
"""Sent when a terminal closes; Windows has none."""
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)


class Interrupt:
    """Context manager that turns the first SIGINT, SIGTERM or SIGHUP into a wish, `requested`, and restores the handlers.

    A process that was told to ignore SIGHUP (nohup) goes on ignoring it.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
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

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == HANGUP:  # a closing terminal may send several
            return
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
