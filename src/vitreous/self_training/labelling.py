"""A teacher's labels for unlabelled images, made once on clean images, and kept as a file that people can read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.shared_images import find_shared, items
from vitreous.data.sources.base import Source
from vitreous.data.sources.pseudo_labels import (
    ClassCount,
    PseudoLabels,
    count_by_class,
    format_pseudo_labels,
    read_pseudo_labels,
)
from vitreous.data.sources.subset import Subset
from vitreous.data.unlabelled import list_held_out, open_unlabelled
from vitreous.errors import CheckpointError, DataError
from vitreous.evaluation.accuracy import outputs
from vitreous.metrics.classification import softmax
from vitreous.predictor import Predictor
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.self_training.selection import select
from vitreous.storage.atomic import write_atomically
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter, Silent, progress_of

BATCH = 256
"""Images that pass through a teacher at once."""


def open_teacher(path: str, classes: tuple[str, ...], device: str = "auto") -> Predictor:
    """Load a teacher.

    Args:
        path: a model folder or run folder, or anything else that can be loaded.
        classes: of the labelled images; the teacher knows exactly these, in any order.
        device: where it computes.

    Raises:
        CheckpointError: it can't be loaded, or it knows other classes.
    """
    teacher = Predictor.load(path, device=device)
    known = teacher.folder.classes
    if teacher.folder.multilabel:
        raise CheckpointError(
            f"the teacher {path} predicts several labels an image; choose one with one label an image"
        )
    for one, other, words in ((classes, known, "doesn't know"), (known, classes, "knows also")):
        differing = sorted(set(one) - set(other))
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise CheckpointError(
                f"the teacher {path} {words} {', '.join(map(repr, differing[:3]))}{more}; it must know exactly the "
                f"{len(classes):,} classes of the labelled images: fine-tune it on these first (--weights {path})"
            )
    return teacher


def label_images(
    teacher: Predictor,
    images: Source,
    classes: tuple[str, ...],
    options: SelfTrainingOptions,
    workers: int | str = "auto",
    reporter: Reporter | None = None,
) -> PseudoLabels:
    """Let a teacher label images, by the probabilities that `vitreous predict` shows, and choose those that are used.

    Args:
        teacher: in evaluation mode, with its own preprocessing: neither it nor the images have noise.
        images: the unlabelled images.
        classes: the labelled images' classes, which number the labels.
        options: soft or hard targets, and how many are kept.
        workers: processes that read images.
        reporter: receives the progress.

    Raises:
        DataError: an image can't be read, or no label is sure enough.
    """
    reporter = reporter or Silent()
    reporter.phase(f"labelling {len(images):,} images")
    logits = outputs(teacher, images, BATCH, workers, progress_of(reporter))
    own = [teacher.folder.classes.index(name) for name in classes]
    targets = softmax(logits[:, own].astype(np.float64)).astype(np.float32)
    labels = targets.argmax(1)
    confidence = targets[np.arange(len(labels)), labels]
    copies = select(confidence, labels, len(classes), options)
    soft = targets if options.targets == "soft" else None
    return PseudoLabels(tuple(images.names), labels, confidence, copies, soft)


def take_labelled(data: DataConfig) -> DataConfig:
    """Return the settings of the labelled images alone."""
    return replace(data, unlabelled=None, pseudo_labels=None, pseudo_ratio=1.0)


def leave_out_held_out(images: Source, config: RunConfig, reporter: Reporter) -> Source:
    """Return unlabelled images without those that are among the validation or test images, and report how many these are; raises
    DataError if none are left."""
    dataset = open_dataset(take_labelled(config.data), config.decode)
    shared = find_shared(items(images), list_held_out(dataset.validation, config.data, config.decode))
    if not any(shared):
        return images
    said = f"{sum(shared):,} of {len(images):,} unlabelled images are among the validation or test images"
    if all(shared):
        raise DataError(f"{said}; name others with --unlabelled")
    reporter.message(f"{said}, and are left out")
    return Subset(images, np.flatnonzero(~np.array(shared)))


def write_pseudo_labels(
    file: Path,
    teacher: str,
    config: RunConfig,
    classes: tuple[str, ...],
    options: SelfTrainingOptions,
    reporter: Reporter | None = None,
) -> list[ClassCount]:
    """Write a teacher's labels of `config.data.unlabelled` to a file, unless it is there already; return what was kept.

    Raises:
        UserError: the teacher or the images can't be used. StorageError: the file can't be written.
    """
    if not file.exists():
        predictor = open_teacher(teacher, classes, config.device)
        images = leave_out_held_out(open_unlabelled(config.data, predictor.folder.decode), config, reporter or Silent())
        found = label_images(predictor, images, classes, options, config.workers, reporter)
        write_atomically(file, format_pseudo_labels(found, classes))
    return count_by_class(read_pseudo_labels(file, classes), classes)
