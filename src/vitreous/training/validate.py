"""Validation during training: every example exactly once, through the one evaluation transform."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitreous.data.stream.loader import Batch, load_evaluation_batches
from vitreous.images.tensors import normalize
from vitreous.metrics.classification import Judged, judge, measure
from vitreous.metrics.multilabel import evaluate_labels
from vitreous.training.divergence import check_outputs
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job

T = TypeVar("T")
LARGEST_BATCH = 256
VALIDATION = 0xE7A1
"""Seed of the random part of an evaluation."""


def validate(job: Job, reporter: Reporter, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, ece, with more than five classes top5, and seconds on validation examples; None if
    interrupted.

    With several labels an image: loss (summed over the labels, as in training), map, micro_f1, macro_f1 and seconds.
    Without labels, only the loss and seconds: see `measure_loss`. Always in float32, like `vitreous evaluate` and
    `predict`, so that one model has one number.
    """
    job.model.at_resolution(None)
    reporter.phase(f"evaluating on {len(job.validation):,} images")
    started = time.perf_counter()
    labelled = measure_multilabel if job.objective.multilabel else measure_accuracy
    metrics = (labelled if job.objective.labelled else measure_loss)(job, interrupt)
    return None if metrics is None else {**metrics, "seconds": time.perf_counter() - started}


def iterate_batches(job: Job) -> Iterator[tuple[Batch, Float[Tensor, "batch channel row col"]]]:
    """Yield the validation examples once, with the images as the model takes them, on its device."""
    config = job.config
    size = min(LARGEST_BATCH, int(config.micro_batch) or config.batch)
    for part in load_evaluation_batches(job.validation, config.preprocess, config.decode, size, config.workers):
        part = part.to(job.device)
        yield part, normalize(part.pixels, config.preprocess)


def measure_accuracy(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, ece and (with more than five classes) top5 of the model's own head, or None if interrupted.

    A batch's logits are released once they are judged, so that memory doesn't grow with images times classes.
    """
    judged = collect_batches(job, interrupt, judge)
    if judged is None:
        return None
    metrics = measure(Judged.joined(judged), job.classes)
    figures = {"loss": metrics.nll, "top1": metrics.top1, "top5": metrics.top5, "ece": metrics.ece}
    return {name: value for name, value in figures.items() if value is not None}


def measure_multilabel(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, map, micro_f1 and macro_f1 of the model's own head, or None if interrupted.

    Average precision ranks all images, so all logits are kept.
    """
    found = collect_batches(job, interrupt, lambda outputs, targets: (outputs, targets))
    if found is None:
        return None
    outputs, targets = (np.concatenate(part) for part in zip(*found, strict=True))
    return score_multilabel(outputs, targets, job.classes)


def collect_batches(job: Job, interrupt: Interrupt, take: Callable[[np.ndarray, np.ndarray], T]) -> list[T] | None:
    """Return the results of `take` for each batch's logits, divided by the job's temperature, and labels; None if
    interrupted."""
    model = job.evaluated_model.eval()
    found = []
    with torch.inference_mode():
        for part, images in iterate_batches(job):
            if interrupt.requested:
                return None
            outputs = (model(images).float() / job.temperature).cpu().numpy()
            check_outputs(job, outputs)
            found.append(take(outputs, part.labels.cpu().numpy()))
    return found


def score_multilabel(
    logits: Float[np.ndarray, "example label"], targets: Bool[np.ndarray, "example label"], classes: tuple[str, ...]
) -> dict[str, float]:
    """Return loss (nats per example, summed over the labels), map, micro_f1 and macro_f1; some example must have a
    label."""
    metrics = evaluate_labels(logits, targets, classes)
    assert metrics.mean_average_precision is not None
    return {
        "loss": metrics.nll * len(classes),
        "map": metrics.mean_average_precision,
        "micro_f1": metrics.micro_f1,
        "macro_f1": metrics.macro_f1,
    }


def measure_loss(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return the objective's mean loss on the validation examples, or None if interrupted.

    Its random part (masks) comes from one generator that restarts at every evaluation, so that evaluations differ only
    by the weights.
    """
    objective = job.objective.eval()
    generator = torch.Generator().manual_seed(VALIDATION)
    total, count = 0.0, 0
    with torch.inference_mode():
        for part, images in iterate_batches(job):
            if interrupt.requested:
                return None
            noise = objective.noise(len(images), generator).to(job.device)
            loss, _ = objective(images, *objective.inputs(part, noise))
            total, count = total + float(loss) * len(images), count + len(images)
    check_outputs(job, np.array([total]))
    return {"loss": total / count}
