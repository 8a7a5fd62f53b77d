"""When a run breaks off: save the last finished step, and explain what happened in one line."""

import shlex
from contextlib import suppress
from pathlib import Path

from vitreous.errors import NonFiniteLoss, StorageError, VitreousError, WorkerKilled, explain_exhaustion
from vitreous.run_folder import Run, list_checkpoint_steps
from vitreous.training.distributed import ALONE
from vitreous.training.divergence import check_weights
from vitreous.training.state import Job


def rescue_run(error: Exception, job: Job, run: Run) -> Exception:
    """Save the last finished step, if possible, and return the error to raise: one line, with how to resume.

    Nothing is saved if the weights diverged, if they belong to no step (the optimizer itself failed), or if the disk
    failed; the message then names the existing checkpoint.
    """
    failure = error if isinstance(error, VitreousError) else explain_exhaustion(error)
    if isinstance(failure, StorageError):
        return failure
    if isinstance(failure, NonFiniteLoss):
        note_end(run, job, "diverged", failure)
        return failure
    job.objective.zero_grad(set_to_none=True)  # room for the checkpoint
    try:
        if job.whole and not job.is_divided:  # each process has only a part of a divided model
            check_weights(job, ALONE)
            run.save_checkpoint(job.progress.step, job.tensors(), job.state())
    except Exception as second:
        error.add_note(f"no checkpoint could be saved: {second}")
    note_end(run, job, "failed", failure or error)
    said = explain_resume(run.path, failure)
    if failure is None:
        error.add_note(said)
        return error
    failure.__cause__ = error if failure is not error else error.__cause__
    failure.args = (f"{failure}. {said[0].upper()}{said[1:]}",)
    return failure


def note_end(run: Run, job: Job, why: str, error: Exception) -> None:
    """Record why the run broke off, for readers of the folder; resuming removes the record together with the lost
    steps."""
    with suppress(StorageError):
        said = " ".join(str(error).split()) or type(error).__name__
        run.log({"kind": "stopped", "step": job.progress.step, "why": why, "reason": said})


def explain_resume(path: Path, failure: Exception | None) -> str:
    """Say which step is saved, and which command resumes from it."""
    steps = list_checkpoint_steps(path)
    saved = f"step {steps[-1]:,} is saved" if steps else "no step was saved"
    fewer = " --workers 0" if isinstance(failure, WorkerKilled) else ""
    return f"{saved}; go on with: vitreous resume {shlex.quote(str(path))}{fewer}"
