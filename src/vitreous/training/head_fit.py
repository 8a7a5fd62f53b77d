"""Fit the head to frozen features by logistic regression, before the first step: linear probing, and the first half of
"linear probing then fine-tuning" (2202.10054, section 3.2).

The features are those of the training images as evaluation sees them and, optionally, of augmented views of them, which
are those of the stream's first epochs. The result is a pure function of the configuration, like every step.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from vitreous.data.sources.base import Source
from vitreous.data.stream.loader import TrainStream, load_train_batches
from vitreous.errors import ConfigError
from vitreous.evaluation.probes.features import FeatureOptions, Features, features
from vitreous.evaluation.probes.layers import Layer, read_layers
from vitreous.evaluation.probes.logistic import fit_logistic_head
from vitreous.images.tensors import normalize
from vitreous.metrics.calibration import fit_held_out_temperature
from vitreous.metrics.headline import format_interval, format_reached
from vitreous.model.factory import Model
from vitreous.shapes import Float32
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Reporter, progress_of
from vitreous.training.state import Job
from vitreous.weights.model_folder import ModelFolder

FEATURES = Layer("features")


class Interrupted(Exception):
    """The run must stop while features are being computed; the features are discarded."""


def fit_head(job: Job, reporter: Reporter, interrupt: Interrupt) -> bool:
    """Fit the head, put it into the model, and record its accuracy in the progress; return False if interrupted.

    Raises:
        DataError: all images have the same class. ImageError: a file can't be read.
    """
    try:
        views = read_views(job, job.model, job.stream.source, "training", reporter, interrupt)
    except Interrupted:
        return False
    job.views = views if job.config.refit else None
    reporter.phase(
        f"fitting the head to {len(views) * len(views[0]):,} features of length {views[0].vectors.shape[1]:,}"
    )
    head = fit_logistic_head(views, seed=job.config.seed, progress=progress_of(reporter))
    put_head(job.model, head.weight, head.bias)
    if job.average is not None:
        put_head(job.average.module, head.weight, head.bias)
    low, high = head.interval
    temperature = fit_held_out_temperature(head.logits, views[0].labels)
    job.progress.head = {
        "l2": head.l2,
        "accuracy": head.accuracy,
        "low": low,
        "high": high,
        "views": float(len(views)),
        "temperature": temperature,
    }
    reporter.message(
        f"head: l2 {head.l2:g}; each training image predicted by a fit to the others: {format_reached({'top1': head.accuracy})} "
        f"({format_interval(head.interval)}); temperature {temperature:.3g}"
    )
    return True


def read_views(
    job: Job, model: Model, source: Source, split: str, reporter: Reporter, interrupt: Interrupt
) -> list[Features]:
    """Return the features of a source's images as evaluation sees them (from the cache, if available), then those of
    each augmented view; raises Interrupted.

    `split`: the name of these images, for the progress.
    """
    config, report = job.config, report_to(reporter, interrupt)
    reporter.phase(f"features of {len(source):,} {split} images")
    folder = ModelFolder(model, config.preprocess, config.decode, ())
    options = FeatureOptions(device=str(job.device), workers=config.workers)
    views = [features(folder, source, options, report)]
    augment = replace(job.stream.augment, views=1, mixup=0.0, cutmix=0.0)  # each image once, and only itself
    stream = replace(job.stream, source=source, augment=augment)
    for epoch in range(config.head_views):
        reporter.phase(f"features of augmented view {epoch + 1} of {config.head_views} of the {split} images")
        views.append(read_augmented_features(job, model.eval(), stream, epoch, report))
    return views


def read_augmented_features(
    job: Job, model: Model, stream: TrainStream, epoch: int, report: Callable[[int, int], None]
) -> Features:
    """Return the features of one epoch of a stream that shows each image once, in the source's order."""
    vectors, count = None, len(stream)
    seen = np.zeros(count, bool)
    first, last = epoch * count, (epoch + 1) * count
    for batch in load_train_batches(stream, first, min(64, count), last, job.config.workers, job.device):
        part = batch.to(job.device)
        with torch.inference_mode():
            (found,) = read_layers(model, normalize(part.pixels, job.config.preprocess), [FEATURES])
        if vectors is None:
            vectors = np.empty((count, found.shape[1]), np.float32)
        vectors[batch.indices.numpy()] = found.cpu().numpy()
        seen[batch.indices.numpy()] = True
        report(int(seen.sum()), count)
    assert vectors is not None and seen.all()
    source = stream.source
    return Features(vectors, np.asarray(source.labels), tuple(source.names), tuple(source.classes))


def report_to(reporter: Reporter, interrupt: Interrupt) -> Callable[[int, int], None]:
    """Return a function of (done, total) that shows progress, and raises Interrupted when the run should stop."""

    def report(done: int, total: int) -> None:
        if interrupt.requested:
            raise Interrupted
        shown(done, total)

    shown = progress_of(reporter)
    return report


@torch.no_grad()
def put_head(
    model: nn.Module, weight: Float32[np.ndarray, "label features"], bias: Float32[np.ndarray, " label"]
) -> None:
    """Set a model's head to this one. If the model averages two heads, the distilled head becomes zero, the other twice
    as strong."""
    layer, second = model.head, getattr(model, "distillation_head", None)
    assert isinstance(layer, nn.Linear)
    if layer.bias is None:
        raise ConfigError(
            "a head fitted by logistic regression has biases, but this model's head has none; set --model.head-bias"
        )
    factor = 1.0 if second is None else 2.0
    layer.weight.copy_(torch.from_numpy(weight) * factor)
    layer.bias.copy_(torch.from_numpy(bias) * factor)
    if second is not None:
        second.weight.zero_()
        second.bias.zero_()
