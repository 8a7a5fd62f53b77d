"""The run folder in the processes that don't write to it: only the first process of a run does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from vitreous.run_folder import Checkpoint, Run
from vitreous.storage.snapshot import read_snapshot
from vitreous.training.distributed import World


@dataclass
class Follower(Run):
    """A run folder that another process of the run writes: this process only reads it."""

    lock: Any = None
    metrics: Any = None
    notices: list[str] = field(default_factory=list)
    leads: ClassVar[bool] = False

    def check_presence(self, every: float = 0.0) -> None:
        """Leave that to the first process."""

    def rewrite(self, config: Mapping[str, Any]) -> None:
        """Assume that the new contents of config.json are written."""
        self.config, self.sealed = dict(config), True

    def log(self, *records: Mapping[str, Any]) -> None:
        """Leave that to the first process."""

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Leave that to the first process."""

    def cut_metrics(self, step: int) -> None:
        """Leave that to the first process."""

    def close(self) -> None:
        """Hold nothing."""


@contextmanager
def create_run(path: Path, config: Mapping[str, Any], keep: int, world: World) -> Iterator[Run]:
    """Begin a run in a new or empty folder, as `Run.create` does, for all processes."""
    if world.leads:
        with Run.create(path, config, keep) as run:
            world.share(run.sealed)
            yield run
    else:
        world.share(None)
        yield Follower(path, dict(config), keep)


@contextmanager
def open_run(path: Path, world: World) -> Iterator[Run]:
    """Open a run to resume it, as `Run.open` does, for all processes."""
    if world.leads:
        with Run.open(path) as run:
            world.share((run.config, run.sealed))
            yield run
    else:
        config, sealed = world.share(({}, None))
        yield Follower(path, config, keep=2, sealed=sealed)


def open_checkpoint(run: Run, world: World) -> Checkpoint | None:
    """Return the run's newest undamaged checkpoint; the first process finds it, and all read it.

    Raises:
        RunError: there are checkpoints, but every one is damaged. CheckpointError: this process doesn't see the folder.
    """
    checkpoint = run.find_latest_checkpoint() if run.leads else None
    step = world.share(None if checkpoint is None else checkpoint.step)
    if run.leads or step is None:
        return checkpoint
    tensors, document = read_snapshot(run.checkpoint_path(step), verify=False)
    return Checkpoint(step, tensors, document["state"], document.get("config"))
