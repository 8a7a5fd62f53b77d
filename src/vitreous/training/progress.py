"""Show progress: a bar on a terminal, one display that is updated in a notebook, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from vitreous.metrics.headline import SAID, format_named
from vitreous.reports.notebook import draw_progress
from vitreous.runtime.display import find_kernel
from vitreous.training.reporter import Reporter, Silent, format_duration

EVERY = 5.0
"""Seconds between plain lines."""
REDRAWN = 0.25
"""Seconds between two states of a notebook's bar."""
LISTED = 200
"""Most lines of messages that a notebook shows; earlier ones are counted."""
PACED_AFTER = 1.0
"""Seconds of work before its pace is shown."""


def reporter(stream: TextIO | None = None) -> Reporter:
    """Return the display for a stream; None: standard output."""
    stream = stream or sys.stdout
    return Bar(stream) if stream.isatty() else Lines(stream)


def choose_display(wanted: bool | None) -> Reporter:
    """Return the display for work that Python calls.

    Args:
        wanted: True: a notebook's, or on standard error a bar or lines; False: none; None: only a notebook's or a
            terminal's bar.
    """
    if wanted is False:
        return Silent()
    if find_kernel() is not None:
        return Notebook()
    stream = sys.stderr
    watched = stream is not None and stream.isatty()
    return reporter(stream) if watched or (wanted and stream is not None) else Silent()


def describe(numbers: Mapping[str, float]) -> str:
    """Format training's numbers in a fixed order."""
    parts = []
    if "processes" in numbers:
        parts.append(f"{numbers['processes']:,} processes")
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3f}")
    if "accuracy" in numbers:
        parts.append(f"acc {numbers['accuracy']:.1%}")
    if "micro_f1" in numbers:
        parts.append(f"F1 {numbers['micro_f1']:.1%}")
    if "images_per_second" in numbers:
        parts.append(f"{numbers['images_per_second']:,.0f} img/s")
    if "per_second" in numbers:
        parts.append(f"{numbers['per_second']:,.{0 if numbers['per_second'] >= 10 else 1}f}/s")
    if "eta_seconds" in numbers:
        parts.append(f"{format_duration(numbers['eta_seconds'])} left")
    return "  ".join(parts)


def format_evaluation(step: int, numbers: Mapping[str, float], best: bool) -> str:
    """Format an evaluation."""
    figures = "".join(f"{format_named(name, numbers[name])}, " for name in SAID if name in numbers)
    text = f"step {step:,}: validation {figures}loss {numbers['loss']:.4f}"
    return text + (" (best so far)" if best else "")


class Pace:
    """The speed of work that reports only counts, measured from its first count on."""

    def __init__(self) -> None:
        self._first: tuple[float, int, int] | None = None
        self._last = 0

    def add_to(self, done: int, total: int, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Return the numbers of work with per_second and eta_seconds, unless they include eta_seconds."""
        if "eta_seconds" in numbers:
            return numbers
        now = time.monotonic()
        if self._first is None or done < self._last or total != self._first[2]:
            self._first = (now, done, total)
        self._last = done
        elapsed, counted = now - self._first[0], done - self._first[1]
        if elapsed < PACED_AFTER or not counted:
            return numbers
        rate = counted / elapsed
        return {**numbers, "per_second": rate, "eta_seconds": (total - done) / rate}


class Lines:
    """Plain lines, one every few seconds and one for each evaluation."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._shown = 0.0
        self._phase = ""

    def message(self, text: str) -> None:
        """Write a message."""
        stream = self._stream or sys.stdout
        stream.write(f"{text}\n")
        stream.flush()

    def phase(self, name: str) -> None:
        """Write the name of the work, except for phases that recur."""
        if name != self._phase and not name.startswith(("training", "evaluating")):
            self.message(f"{name} ...")
        self._phase = name

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Write a line if the last one is some seconds old."""
        now = time.monotonic()
        if now - self._shown >= EVERY:
            self._shown = now
            self.message(f"{done:,}/{total:,}  {describe(numbers)}".rstrip())

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Write an evaluation."""
        self.message(format_evaluation(step, numbers, best))

    def close(self) -> None:
        """Do nothing: no display is open."""


class PhaseDisplay:
    """The common part of displays with a bar: the current phase, and its pace."""

    def __init__(self, phase: str | None) -> None:
        self._phase = phase
        self._pace = Pace()

    def _begin(self, phase: str) -> bool:
        """Begin a phase; return False for the current one."""
        if phase == self._phase:
            return False
        self._phase, self._pace = phase, Pace()
        return True

    def _describe(self, done: int, total: int, numbers: Mapping[str, float]) -> str:
        """Format the numbers with the phase's pace; a loss means training, whatever the phase was called."""
        if "loss" in numbers:
            self._phase = "training"
        return describe(self._pace.add_to(done, total, numbers))


class Bar(PhaseDisplay):
    """A progress bar, with messages scrolling above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns: list[Any] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
        ]
        self._progress = Progress(*columns, console=Console(file=stream), refresh_per_second=5)
        self._task: Any = None
        super().__init__("starting")

    def message(self, text: str) -> None:
        """Print a message above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def phase(self, name: str) -> None:
        """Name the bar."""
        if self._begin(name):
            self._show(total=None, completed=0, numbers="")

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Move the bar."""
        self._show(numbers=self._describe(done, total, numbers), total=total, completed=done)

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Print an evaluation above the bar."""
        self.message(format_evaluation(step, numbers, best))

    def close(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._progress.stop()
            self._task = None

    def _show(self, **values: Any) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(self._phase, total=None, numbers="")
        self._progress.update(self._task, description=self._phase, **values)


class Notebook(PhaseDisplay):
    """One output of a notebook's cell that is updated: a bar with messages below it; the bar is removed at the end."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._lines: list[str] = []
        self._bar: tuple[int, int, str] | None = None
        """Amount done, total, and numbers; None: unknown."""
        super().__init__(None)
        self._drawn = 0.0

    def message(self, text: str) -> None:
        """Add a message."""
        self._lines.append(text)
        self._draw()

    def phase(self, name: str) -> None:
        """Name the bar."""
        if self._begin(name):
            self._bar = None
            self._draw()

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Move the bar, at most every `REDRAWN` seconds."""
        self._bar = (done, total, self._describe(done, total, numbers))
        if time.monotonic() - self._drawn >= REDRAWN:
            self._draw()

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Add an evaluation."""
        self.message(format_evaluation(step, numbers, best))

    def close(self) -> None:
        """Remove the bar; the messages stay."""
        self._phase = self._bar = None
        if self._handle is not None:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        earlier = len(self._lines) - LISTED
        lines = [f"({earlier:,} earlier lines)", *self._lines[-LISTED:]] if earlier > 0 else self._lines
        shown = draw_progress(self._phase, self._bar, lines)
        self._drawn = time.monotonic()
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
