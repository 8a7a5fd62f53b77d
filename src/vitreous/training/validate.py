"""Validation during training: every example exactly once, through the one evaluation transform."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vitreous.data.stream.loader import Batch, Examples, collate, load_evaluation_batches
from vitreous.images.tensors import normalize
from vitreous.metrics.classification import Judged, judge, measure
from vitreous.metrics.multilabel import evaluate_labels
from vitreous.shapes import Bool, Float
from vitreous.training.divergence import check_outputs, count_ruined
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job, autocast_context

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
    job.model.set_resolution(None)
    reporter.phase(f"evaluating on {len(job.validation):,} images")
    started = time.perf_counter()
    labelled = measure_multilabel if job.objective.multilabel else measure_accuracy
    metrics = (labelled if job.objective.labelled else measure_loss)(job, interrupt)
    return None if metrics is None else job.world.share({**metrics, "seconds": time.perf_counter() - started})


def iterate_batches(
    job: Job, interrupt: Interrupt
) -> Iterator[tuple[int | None, Batch, Float[Tensor, "batch channel row col"]]]:
    """Yield batches of validation examples by number, with the images as the model takes them, on its device; end early if
    interrupted. A batch without a number doesn't count.

    The batches are those of a run in one process, whose figures their results therefore make up; each process has every
    size-th of them.
    """
    config, world, size = job.config, job.world, choose_batch(job)
    share = (world.rank, world.size)
    batches = iter(
        load_evaluation_batches(
            Examples(job.validation, config.preprocess, config.decode), size, config.workers, share, job.device
        )
    )
    for first in range(0, math.ceil(len(job.validation) / size), world.size):
        world.pulse.beat()
        world.agree(interrupt)
        if interrupt.requested:
            return
        if (part := next(batches, None)) is not None:  # in the last round, some processes have none
            part = part.to(job.device)
            yield first + world.rank, part, normalize(part.pixels, config.preprocess)
        elif job.is_divided:  # the other processes can't gather layers without this one
            part = collate([next(Examples(job.validation, config.preprocess, config.decode).examples([0]))]).to(
                job.device
            )
            yield None, part, normalize(part.pixels, config.preprocess)


def choose_batch(job: Job) -> int:
    """Return how many examples pass through the model at once, the same for any number of processes."""
    return min(LARGEST_BATCH, int(job.config.micro_batch) or job.config.batch)


def gather_batches(job: Job, found: Mapping[int, T]) -> list[T]:
    """Return the results of all batches, in their order, in the first process; none in the others."""
    together = {number: value for part in job.world.gather(dict(found)) for number, value in part.items()}
    return [together[number] for number in sorted(together)]


def measure_accuracy(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, top1, ece and (with more than five classes) top5 of the model's own head, or None if interrupted.

    A batch's logits are released once they are judged, so that memory doesn't grow with images times classes.
    """
    judged = collect_batches(job, interrupt, judge)
    if not judged:
        return None if judged is None else {}
    metrics = measure(Judged.join(judged), job.classes)
    figures = {"loss": metrics.nll, "top1": metrics.top1, "top5": metrics.top5, "ece": metrics.ece}
    return {name: value for name, value in figures.items() if value is not None}


def measure_multilabel(job: Job, interrupt: Interrupt) -> dict[str, float] | None:
    """Return loss, map, micro_f1 and macro_f1 of the model's own head, or None if interrupted.

    Average precision ranks all images, so all logits are kept.
    """
    found = collect_batches(job, interrupt, lambda outputs, targets: (outputs, targets))
    if not found:
        return None if found is None else {}
    outputs, targets = (np.concatenate(part) for part in zip(*found, strict=True))
    return score_multilabel(outputs, targets, job.classes)


def collect_batches(job: Job, interrupt: Interrupt, take: Callable[[np.ndarray, np.ndarray], T]) -> list[T] | None:
    """Return the results of `take` for each batch's logits, divided by the job's temperature, and labels; None if
    interrupted. With several processes, the first has them all, and the others none."""
    job.objective.eval()
    job.evaluated_model.eval()
    found: dict[int, T] = {}
    ruined = 0
    with torch.no_grad() if job.is_divided else torch.inference_mode():  # layers gathered first are trained with, too
        for number, part, images in iterate_batches(job, interrupt):
            with autocast_context(job) if job.is_divided else nullcontext():
                outputs = (job.predict(images).float() / job.temperature).cpu().numpy()
            if number is None:
                continue
            if bad := count_ruined(outputs):
                ruined += bad
            else:
                found[number] = take(outputs, part.labels.cpu().numpy())
    if interrupt.requested:
        return None
    check_outputs(job, ruined, len(job.validation))
    return gather_batches(job, found)


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
    found: dict[int, float] = {}
    drawn = 0
    with torch.no_grad() if job.is_divided else torch.inference_mode():
        for number, part, images in iterate_batches(job, interrupt):
            if number is not None:
                objective.noise(number * choose_batch(job) - drawn, generator)  # the draws of other processes' batches
                drawn = number * choose_batch(job) + len(images)
            noise = objective.noise(len(images), generator).to(job.device)
            with autocast_context(job) if job.is_divided else nullcontext():
                loss, _ = objective(images, *objective.inputs(part, noise))
            if number is not None:
                found[number] = float(loss) * len(images)
    if interrupt.requested:
        return None
    total = sum(gather_batches(job, found))
    check_outputs(job, int(not math.isfinite(total)), 1)
    return {"loss": total / len(job.validation)}
