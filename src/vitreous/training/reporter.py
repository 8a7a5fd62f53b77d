"""The interface through which long work reports what it is doing; `training/progress.py` shows it."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from vitreous.weights.hub_requests import Unheard


def format_duration(seconds: float) -> str:
    """Format a time as 42s, 3m10s or 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"


@runtime_checkable
class Reporter(Protocol):
    """Receives a run's messages and progress."""

    def message(self, text: str) -> None:
        """Show a sentence."""

    def phase(self, name: str) -> None:
        """Show the current phase, e.g. "scanning images"."""

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Show the steps done of total; numbers: processes (where several), loss, accuracy or micro_f1, lr,
        images_per_second, eta_seconds."""

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Show the validation numbers of a step: loss; with labels top1, top5, ece; with several map, micro_f1,
        macro_f1."""

    def close(self) -> None:
        """Finish the display."""


class Silent(Unheard):
    """A Reporter that shows nothing."""

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Ignore it."""


def progress_of(reporter: Reporter) -> Callable[[int, int], None]:
    """Return a function that passes the amount done, and the whole amount, on to a reporter."""
    return lambda done, total: reporter.progress(done, total, {})
