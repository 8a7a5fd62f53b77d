"""The time that a run takes, estimated from one or two of its steps, for a dry run."""

import time

from vitreous.data.stream.loader import Batch, resolve_workers
from vitreous.training.loop import train_step
from vitreous.training.state import Job

PATIENCE = 2.0
"""Longest first step, in seconds, after which a second step is timed too; a longer step is hardly slower for being the
first."""
FORWARD = 1 / 3
"""Share of a training step's time that the forward pass takes."""


def forecast_seconds(job: Job, batch: Batch, step_seconds: float, reading_seconds: float) -> float:
    """Return approximately how many seconds the run takes on this machine, without evaluations.

    Args:
        job: after its first step; it can't be trained further.
        batch: that step's batch.
        step_seconds: the time of that step, which is slower than later ones because it is the first.
        reading_seconds: the time that this process took to read the batch.
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
    """Take one of the run's training steps, and return its seconds."""
    job.progress.step = step
    started = time.perf_counter()
    loss, _ = train_step(job, batch)
    float(loss)
    return time.perf_counter() - started
