"""Show how far long work is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from vitreous.metrics.headline import SAID, format_named
from vitreous.training.reporter import Reporter, format_duration

EVERY = 5.0
"""Seconds between plain lines."""


def reporter(stream: TextIO | None = None) -> Reporter:
    """Return the display that suits a stream; None: the standard output."""
    stream = stream or sys.stdout
    return Bar(stream) if stream.isatty() else Lines(stream)


def describe(numbers: Mapping[str, float]) -> str:
    """Write training's numbers in a fixed order."""
    parts = []
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3f}")
    if "accuracy" in numbers:
        parts.append(f"acc {numbers['accuracy']:.1%}")
    if "micro_f1" in numbers:
        parts.append(f"F1 {numbers['micro_f1']:.1%}")
    if "images_per_second" in numbers:
        parts.append(f"{numbers['images_per_second']:,.0f} img/s")
    if "eta_seconds" in numbers:
        parts.append(f"{format_duration(numbers['eta_seconds'])} left")
    return "  ".join(parts)


def evaluated(step: int, numbers: Mapping[str, float], best: bool) -> str:
    """Write an evaluation."""
    figures = "".join(f"{format_named(name, numbers[name])}, " for name in SAID if name in numbers)
    text = f"step {step:,}: validation {figures}loss {numbers['loss']:.4f}"
    return text + (" (best so far)" if best else "")


class Lines:
    """Plain lines, one every few seconds and one for each evaluation."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._shown = 0.0
        self._phase = ""

    def message(self, text: str) -> None:
        """Print a sentence."""
        print(text, file=self._stream, flush=True)

    def phase(self, name: str) -> None:
        """Print what is being waited for, but for what comes again and again."""
        if name != self._phase and not name.startswith(("training", "evaluating")):
            print(f"{name} ...", file=self._stream, flush=True)
        self._phase = name

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Print a line if the last is some seconds old."""
        now = time.monotonic()
        if now - self._shown >= EVERY:
            self._shown = now
            print(f"{done:,}/{total:,}  {describe(numbers)}".rstrip(), file=self._stream, flush=True)

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Print an evaluation."""
        print(evaluated(step, numbers, best), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """A progress bar, with sentences scrolling above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
        ]
        self._progress = Progress(*columns, console=Console(file=stream), refresh_per_second=5)
        self._task: Any = None
        self._phase = "starting"

    def message(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def phase(self, name: str) -> None:
        """Name the bar."""
        if name != self._phase:
            self._phase = name
            self._show(total=None, completed=0, numbers="")

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Move the bar."""
        if "loss" in numbers:
            self._phase = "training"
        self._show(total=total, completed=done, numbers=describe(numbers))

    def evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Print an evaluation above the bar."""
        self.message(evaluated(step, numbers, best))

    def close(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._progress.stop()
            self._task = None

    def _show(self, **values: Any) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(self._phase, total=None, numbers="")
        self._progress.update(self._task, description=self._phase, **values)
