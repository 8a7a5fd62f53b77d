"""Detect infinite or NaN values before anything is measured, saved or exported."""

import numpy as np
import torch

from vitreous.errors import NonFiniteLoss
from vitreous.model.batch_norm import list_statistics
from vitreous.training.distributed import World
from vitreous.training.sharding import take_local
from vitreous.training.state import Job


class NonFiniteStep(NonFiniteLoss):
    """A step's loss or gradient became infinite or NaN; weights and statistics are still those of the step before.

    `loss` and `norm`: the step's loss, and the norm of its gradient.
    """

    def __init__(self, loss: float, norm: float, step: int) -> None:
        self.loss, self.norm = loss, norm
        super().__init__(say_divergence(f"the loss became {loss:g} and the gradient norm {norm:g}", step))


def explain_divergence(what: str, step: int) -> NonFiniteLoss:
    """Return the error for such a run, with a remedy."""
    return NonFiniteLoss(say_divergence(what, step))


def say_divergence(what: str, step: int) -> str:
    """Say what became infinite or NaN, and the remedy."""
    return (
        f"{what} at step {step}; the last good checkpoint is kept. Lower the learning rate (--optimizer.lr), "
        "lengthen the warm-up (--schedule.warmup) or train in fp32 (--precision fp32)"
    )


def check_weights(job: Job, world: World | None = None) -> None:
    """Raise NonFiniteLoss if weights are infinite or NaN: the last finite loss may belong to the step that made them
    so.

    `world`: the processes that check together; None: all of the job's.
    """
    models = [job.objective] if job.average is None else [job.objective, job.average.module]
    weights = take_local(weight for model in models for weight in model.parameters())
    weights += [values for model in models for values in list_statistics(model)]
    ruined = sum(not bool(torch.isfinite(weight).all()) for weight in weights)
    if (world or job.world).add_up(torch.tensor(float(ruined))):
        raise explain_divergence("the weights became infinite or NaN", job.progress.step)


def count_ruined(logits: np.ndarray) -> int:
    """Return how many of the outputs (example, ...) can't be measured since they are infinite or NaN."""
    return int((~np.isfinite(logits.reshape(len(logits), -1))).any(axis=1).sum())


def check_outputs(job: Job, ruined: int, count: int) -> None:
    """Raise NonFiniteLoss in all processes if any of the `count` outputs is infinite or NaN; `ruined` are in this
    process."""
    total = int(job.world.add_up(torch.tensor(float(ruined))))
    if total:
        raise explain_divergence(f"{total:,} of {count:,} validation outputs were infinite or NaN", job.progress.step)
