"""Detect infinite or NaN values before anything is measured, saved or exported."""

import numpy as np
import torch

from vitreous.errors import NonFiniteLoss
from vitreous.training.state import Job


def explain_divergence(what: str, step: int) -> NonFiniteLoss:
    """Return the error for such a run, with a remedy."""
    return NonFiniteLoss(
        f"{what} at step {step}; the last good checkpoint is kept. Lower the learning rate (--optimizer.lr), "
        "lengthen the warm-up (--schedule.warmup) or train in fp32 (--precision fp32)"
    )


def check_weights(job: Job) -> None:
    """Refuse ruined weights: the last finite loss may belong to the step that made them. Raises NonFiniteLoss."""
    models = [job.objective] if job.average is None else [job.objective, job.average.module]
    if not all(bool(torch.isfinite(weight).all()) for model in models for weight in model.parameters()):
        raise explain_divergence("the weights became infinite or NaN", job.progress.step)


def check_outputs(job: Job, logits: np.ndarray) -> None:
    """Refuse outputs (example, ...) that can't be measured; raises NonFiniteLoss."""
    bad = int((~np.isfinite(logits.reshape(len(logits), -1))).any(axis=1).sum())
    if bad:
        raise explain_divergence(
            f"{bad:,} of {len(logits):,} validation outputs were infinite or NaN", job.progress.step
        )
