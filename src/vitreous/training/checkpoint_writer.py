"""Checkpoints of a run: one process writes them immediately, several processes while training continues
(torch.distributed.checkpoint)."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import async_save

from vitreous.errors import FailedError, ProcessLost, StorageError
from vitreous.run_folder import Run
from vitreous.storage.atomic import atomic_folder
from vitreous.storage.shard_writer import ShardWriter
from vitreous.storage.snapshot import complete_snapshot
from vitreous.training.distributed import World, explain_loss
from vitreous.training.state import Job


class CheckpointWriter:
    """Writes a run's checkpoints, one at a time. If there are several processes, all of them call each method.

    A checkpoint of several processes is first copied to the CPU's memory, and written while training continues. It gets
    its name when all of it is on the disk.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.group = dist.new_group(backend="gloo") if world.together else None
        """A separate process group, so that writing can communicate during training."""
        self.pending: Future[Any] | None = None
        self.folder = ExitStack()
        self.announce: Callable[[], None] = lambda: None
        """Tells callbacks about the newest checkpoint, once it is complete."""

    def save(self, job: Job, run: Run) -> None:
        """Write a checkpoint, after the previous one is complete; raises StorageError if either can't be written."""
        if not self.world.together:
            run.save_checkpoint(job.progress.step, job.tensors(), job.state())
            announce(job, run, job.progress.step)
            return
        self.settle()
        step, document = job.progress.step, {}
        begun: Path | StorageError | None = None
        if run.leads:
            try:
                document = run.describe_checkpoint(step, job.state())
                begun = self.folder.enter_context(atomic_folder(run.checkpoint_path(step)))
            except StorageError as failure:
                begun = failure
        begun = self.world.share(begun)
        if isinstance(begun, StorageError):
            raise begun
        partial = cast("Path", begun)

        def complete(sums: dict[str, str]) -> None:
            complete_snapshot(partial, sums, document)
            self.folder.pop_all().close()
            run.prune(step)

        self.announce = lambda: announce(job, run, step)
        writer = ShardWriter(partial, complete)
        self.pending = cast("Future[Any]", async_save(job.tensors(), storage_writer=writer, process_group=self.group))

    def settle(self) -> None:
        """Wait for the checkpoint that is being written, if any.

        Raises:
            StorageError: it couldn't be written; earlier ones are complete.
        """
        if self.pending is None:
            return
        try:
            self.pending.result()
        except (Exception, CheckpointException) as error:  # torch's is no Exception
            failure = find_failure(error)
            self.folder.__exit__(type(failure), failure, None)
            raise failure from error
        finally:
            self.pending = None
        self.announce()


def announce(job: Job, run: Run, step: int) -> None:
    """Tell callbacks about a checkpoint."""
    for one in job.callbacks:
        one.on_checkpoint(step, run.checkpoint_path(step))


def find_failure(error: BaseException) -> Exception:
    """Return the reason for a failed checkpoint as one of vitreous's errors."""
    if isinstance(error, CheckpointException):
        reasons = [one for one, _ in error.failures.values()]
        said = next((one for one in reasons if isinstance(one, FailedError)), None)
        return said or ProcessLost(f"a checkpoint could not be written: {' '.join(str(reasons[0]).split())}")
    lost = explain_loss(error)
    return lost if isinstance(lost, Exception) else ProcessLost(f"a checkpoint could not be written: {error}")
