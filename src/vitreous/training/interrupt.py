"""Ctrl-C and SIGTERM ask a run to stop between two steps; a second Ctrl-C stops it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Context manager that turns the first SIGINT or SIGTERM into a wish, `requested`, and restores the old handlers."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
