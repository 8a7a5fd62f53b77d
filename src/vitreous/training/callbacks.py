"""Callbacks, by which a caller's own code follows a run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vitreous.errors import ConfigError
from vitreous.run_folder import Run
from vitreous.training.config import RunConfig


class Callback:
    """Called during a run, in its first process; override the methods that you need.

    A callback only observes: a run must reach the same bits with it and without it, even after an interruption. If it
    raises an error, the last finished step is saved and the run ends. In a search of rates or a cross-validation it is
    called for every run.
    """

    def on_begin(self, run: Path, config: RunConfig, step: int) -> None:
        """Called when a run begins, or resumes from a step above 0, with its folder and complete configuration."""

    def on_step(self, step: int, numbers: Mapping[str, float], model: nn.Module) -> None:
        """Called after each step; the first is 1. `numbers`: loss and gradient_norm (before clipping) of its batch, and
        lr."""

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Called with each record after it is written to metrics.jsonl."""

    def on_evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Called with the validation numbers of a step (see `Reporter.evaluation`), and whether they are the best so
        far."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Called when the checkpoint of a step is complete, with its folder."""

    def on_end(self, stopped: str) -> None:
        """Called at the end, with how the run ended: finished, early, interrupted or failed."""


_ACTIVE: ContextVar[tuple[Callback, ...]] = ContextVar("callbacks", default=())
"""The callbacks of the enclosing call."""


@contextmanager
def add_callbacks(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Call these callbacks for all runs inside the block, in addition to those of enclosing blocks; raises ConfigError
    for objects that are not callbacks."""
    for one in callbacks:
        if not isinstance(one, Callback):
            what = one.__name__ if isinstance(one, type) else type(one).__name__
            raise ConfigError(f"callbacks holds {what}; expected objects of subclasses of vitreous.Callback")
    before = _ACTIVE.set((*_ACTIVE.get(), *callbacks))
    try:
        yield
    finally:
        _ACTIVE.reset(before)


@dataclass
class Audience:
    """The callbacks of one run."""

    members: tuple[Callback, ...]
    stopped: str = "failed"
    """How the run ended."""


@contextmanager
def attend(run: Run, config: RunConfig, step: int, trackers: Sequence[Callback] = ()) -> Iterator[Audience]:
    """Tell the callbacks and the run's trackers from which step it starts, pass them its records, and tell them how it
    ended."""
    audience = Audience((*trackers, *_ACTIVE.get()) if run.leads else ())
    run.listeners += [one.on_record for one in audience.members]
    for one in audience.members:
        one.on_begin(run.path, config, step)
    try:
        yield audience
    finally:
        for one in audience.members:
            one.on_end(audience.stopped)
