"""Validation during training: every example exactly once, through the one evaluation transform."""

import time

import numpy as np
import torch

from vitreous.data.loader import evaluation_batches
from vitreous.evaluate.metrics import evaluate_logits
from vitreous.images.preprocess import normalize
from vitreous.training.divergence import check_outputs
from vitreous.training.interrupt import Interrupt
from vitreous.training.job import Job
from vitreous.training.reporter import Reporter

LARGEST_BATCH = 256


def validate(job: Job, reporter: Reporter, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, top5, ece and seconds on the validation examples, or None if interrupted on the way.

    In float32 whatever the precision of training, as `vitreous evaluate` and `predict` compute: one number for one model.
    """
    config, model = job.config, job.evaluated_model
    job.model.at_resolution(None)
    model.eval()
    reporter.phase(f"evaluating on {len(job.validation):,} images")
    started = time.perf_counter()
    logits, labels = [], []
    batch = min(LARGEST_BATCH, int(config.micro_batch) or config.batch)
    with torch.inference_mode():
        for part in evaluation_batches(job.validation, config.preprocess, config.decode, batch, config.workers):
            if interrupt.requested:
                return None
            images = normalize(part.pixels.to(job.device), config.preprocess)
            logits.append(model(images).float().cpu().numpy())
            labels.append(part.labels.numpy())
    outputs = np.concatenate(logits)
    check_outputs(job, outputs)
    metrics = evaluate_logits(outputs, np.concatenate(labels), job.classes)
    return {
        "loss": metrics.nll,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "ece": metrics.ece,
        "seconds": time.perf_counter() - started,
    }
