"""How long a run takes, by one or two of its steps: for a dry run, which takes no more of them."""

import time

from vitreous.data.stream.loader import Batch, resolve_workers
from vitreous.training.loop import train_step
from vitreous.training.state import Job

PATIENCE = 2.0
"""Seconds that a step may take for another one to be timed too; a longer one is hardly slowed by being the first."""
FORWARD = 1 / 3
"""Share of a training step that the forward pass is."""


def forecast_seconds(job: Job, batch: Batch, step_seconds: float, reading_seconds: float) -> float:
    """Return about how long the run takes on this machine, evaluations aside.

    Args:
        job: as it is after its first step; it is not to be gone on with.
        batch: of that step.
        step_seconds: what that step took, the first and so slower than later ones.
        reading_seconds: what it took this process to read the batch.
    """
    low = full = step_seconds
    total = job.schedule.total
    if step_seconds < PATIENCE:
        low = full = time_again(job, batch, 0)
        if 0 < job.low_steps < total:
            time_again(job, batch, job.low_steps)
            full = time_again(job, batch, job.low_steps)
    workers = resolve_workers(job.config.workers, job.device)

    def add_reading(seconds: float) -> float:
        return max(seconds, reading_seconds / workers) if workers else seconds + reading_seconds

    if not total:
        images = len(job.stream) + (len(job.validation) if job.config.refit else 0)
        views, batches = 1 + job.config.head_views, images / job.config.batch
        return views * batches * add_reading(FORWARD * full)
    return job.low_steps * add_reading(low) + (total - job.low_steps) * add_reading(full)


def time_again(job: Job, batch: Batch, step: int) -> float:
    """Take a training step that the run has, and return its seconds."""
    job.progress.step = step
    started = time.perf_counter()
    loss, _ = train_step(job, batch)
    float(loss)
    return time.perf_counter() - started
