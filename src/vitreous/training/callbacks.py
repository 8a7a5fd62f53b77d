"""What a caller's own code hears of a run while it goes on."""

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
    """Called while a run goes on, in its first process; override what you need.

    A callback only looks: a run must reach the same bits with it and without it, also after an interruption. What it raises
    ends the run, whose last finished step is saved first. Of a search of rates or a cross-validation it hears every run.
    """

    def on_begin(self, run: Path, config: RunConfig, step: int) -> None:
        """Hear that a run begins, or goes on from a step above 0, with its folder and complete configuration."""

    def on_step(self, step: int, numbers: Mapping[str, float], model: nn.Module) -> None:
        """Hear that a step was taken, the first is 1. `numbers`: loss and gradient_norm (before clipping) of its batch, lr."""

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Hear what was just written to metrics.jsonl."""

    def on_evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        """Hear the validation numbers of a step (see `Reporter.evaluation`), and whether they are the best so far."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Hear that the checkpoint of a step is whole, and in which folder."""

    def on_end(self, stopped: str) -> None:
        """Hear how it ended: finished, early, interrupted or failed."""


_ACTIVE: ContextVar[tuple[Callback, ...]] = ContextVar("callbacks", default=())
"""The callbacks of the enclosing call."""


@contextmanager
def add_callbacks(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Let callbacks hear of all runs inside the block, besides those who do so already; raises ConfigError for what is
    none."""
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
    """Who hears of one run."""

    members: tuple[Callback, ...]
    stopped: str = "failed"
    """How the run ended."""


@contextmanager
def attend(run: Run, config: RunConfig, step: int, trackers: Sequence[Callback] = ()) -> Iterator[Audience]:
    """Tell the callbacks, and a run's trackers, that it goes on from this step, of its records, and how it ended."""
    audience = Audience((*trackers, *_ACTIVE.get()) if run.leads else ())
    run.listeners += [one.on_record for one in audience.members]
    for one in audience.members:
        one.on_begin(run.path, config, step)
    try:
        yield audience
    finally:
        for one in audience.members:
            one.on_end(audience.stopped)
