"""The response to a loss that is infinite or NaN, or far above those before it, and its record. The examples of a step
are a function of the configuration, so a record can list them although nothing has stored them.
"""

import math
from typing import Any

from vitreous.data.stream.interleaving import choose_example
from vitreous.errors import NonFiniteLoss
from vitreous.run_folder import Run
from vitreous.training.divergence import NonFiniteStep
from vitreous.training.follower import open_checkpoint
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job

IN_A_ROW, ROLLED_BACK = 10, 10
"""Steps skipped in a row, and times that a run is rolled back, before it stops."""
AVOIDED = 10
"""Steps left out after rolling back: the one that failed, and those before it, which led to it."""
KEPT, SETTLED = 0.98, 50
"""Share of the running mean and variance of the loss that stays at each step; the number of steps before they are
used."""


def recover(job: Job, run: Run, failure: NonFiniteLoss, reporter: Reporter) -> bool:
    """Record a loss, gradient or weights that are infinite or NaN, and act as the configuration says; return whether
    the run continues."""
    policy, progress = job.config.non_finite, job.progress
    step = progress.step
    record = {
        "kind": "non-finite",
        "step": step,
        "policy": policy,
        "reason": " ".join(str(failure).split(";")[0].split()),
    }
    if isinstance(failure, NonFiniteStep):
        record |= {"loss": failure.loss, "norm": failure.norm, "examples": list_examples(job, step)}
    job.objective.zero_grad(set_to_none=True)
    if policy == "skip" and isinstance(failure, NonFiniteStep) and progress.skipped < IN_A_ROW:
        progress.skipped += 1
        progress.step += 1
        run.log(record)
        reporter.message(f"step {step:,} is skipped: {record['reason']}")
        return True
    if policy == "roll-back" and progress.rolled_back < ROLLED_BACK:
        return roll_back(job, run, record, reporter)
    run.log(record)
    return False


def roll_back(job: Job, run: Run, record: dict, reporter: Reporter) -> bool:
    """Go back to the newest checkpoint, and leave out the steps that led to the failure; return whether there is
    one."""
    failed, before, told = job.progress.step, job.progress, len(run.notices)
    checkpoint = open_checkpoint(run, job.world)
    for notice in run.notices[told:]:
        reporter.message(notice)
    if checkpoint is None:
        run.log(record)
        return False
    job.restore(checkpoint.tensors, checkpoint.state)
    progress, step = job.progress, checkpoint.step
    avoided = range(max(step, failed - AVOIDED + 1), failed + 1)
    progress.avoided = sorted({*before.avoided, *progress.avoided, *avoided})
    progress.rolled_back = before.rolled_back + 1
    if progress.finished:  # the run was lengthened from here
        progress.finished, progress.stale = False, 0
    job.whole = True
    run.cut_metrics(step)
    run.log({**record, "step": step, "failed": failed, "avoided": progress.avoided})
    reporter.message(
        f"step {failed:,}: {record['reason']}; rolled back to step {step:,}, to go on without steps {avoided[0]:,} to {failed:,}"
    )
    return True


def pass_over(job: Job) -> bool:
    """Count the next step as done if it is one to leave out; return whether it is."""
    if job.progress.step not in job.progress.avoided:
        return False
    job.progress.step += 1
    return True


def watch_loss(job: Job, loss: float) -> list[dict[str, Any]]:
    """Count the loss of a step, just taken, into the running mean; return a record if it was far above that."""
    progress, far = job.progress, job.config.loss_spike
    progress.skipped = 0
    recent, step = progress.recent, progress.step - 1
    deviation, records = math.sqrt(recent["variance"]), []
    if far and recent["steps"] >= SETTLED and loss > recent["mean"] + far * deviation:
        usual = {"mean": recent["mean"], "deviation": deviation}
        records.append(
            {"kind": "spike", "step": progress.step, "loss": loss, **usual, "examples": list_examples(job, step)}
        )
    kept = min(KEPT, recent["steps"] / (recent["steps"] + 1))
    apart = loss - recent["mean"]
    recent["mean"] += (1 - kept) * apart
    recent["variance"] = kept * (recent["variance"] + (1 - kept) * apart * apart)
    recent["steps"] += 1
    return records


def list_examples(job: Job, step: int) -> list[int]:
    """Return the examples of a step of the whole batch, by their indices in the training source, in order."""
    batch, stream = job.config.batch, job.stream
    views = stream.augment.views
    return [
        choose_example(stream.source, stream.seed, sample, views) for sample in range(step * batch, (step + 1) * batch)
    ]
