"""Validation during training: every example exactly once, through the one evaluation transform."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitreous.data.loader import Batch, evaluation_batches
from vitreous.evaluate.metrics import Judged, judge, measure
from vitreous.images.preprocess import normalize
from vitreous.training.divergence import check_outputs
from vitreous.training.interrupt import Interrupt
from vitreous.training.job import Job
from vitreous.training.reporter import Reporter

LARGEST_BATCH = 256
VALIDATION = 0xE7A1
"""Seed of what is random in an evaluation."""


def validate(job: Job, reporter: Reporter, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, top5, ece and seconds on the validation examples, or None if interrupted on the way.

    Without labels, the loss and seconds alone: see `held_out_loss`. In float32 whatever the precision of training, as `vitreous evaluate` and `predict` compute: one number for one model.
    """
    job.model.at_resolution(None)
    reporter.phase(f"evaluating on {len(job.validation):,} images")
    started = time.perf_counter()
    metrics = accuracy(job, interrupt) if job.objective.labelled else held_out_loss(job, interrupt)
    return None if metrics is None else {**metrics, "seconds": time.perf_counter() - started}


def batches(job: Job) -> Iterator[tuple[Batch, Float[Tensor, "batch channel row col"]]]:
    """Yield the validation examples once, with the images as the model takes them, on its device."""
    config = job.config
    size = min(LARGEST_BATCH, int(config.micro_batch) or config.batch)
    for part in evaluation_batches(job.validation, config.preprocess, config.decode, size, config.workers):
        part = part.to(job.device)
        yield part, normalize(part.pixels, config.preprocess)


def accuracy(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, top5 and ece of the model's own head, or None if interrupted.

    A batch's logits are let go of once they are judged, so that memory doesn't grow with images times classes.
    """
    model = job.evaluated_model.eval()
    judged = []
    with torch.inference_mode():
        for part, images in batches(job):
            if interrupt.requested:
                return None
            outputs = model(images).float().cpu().numpy()
            check_outputs(job, outputs)
            judged.append(judge(outputs, part.labels.cpu().numpy()))
    metrics = measure(Judged.joined(judged), job.classes)
    return {"loss": metrics.nll, "top1": metrics.top1, "top5": metrics.top5, "ece": metrics.ece}


def held_out_loss(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return the objective's mean loss on the validation examples, or None if interrupted.

    What is random in it (masks) is drawn from one generator that starts over at every evaluation, so that evaluations
    differ by the weights alone.
    """
    objective = job.objective.eval()
    generator = torch.Generator().manual_seed(VALIDATION)
    total, count = 0.0, 0
    with torch.inference_mode():
        for part, images in batches(job):
            if interrupt.requested:
                return None
            noise = objective.noise(len(images), generator).to(job.device)
            loss, _ = objective(images, *objective.inputs(part, noise))
            total, count = total + float(loss) * len(images), count + len(images)
    check_outputs(job, np.array([total]))
    return {"loss": total / count}
