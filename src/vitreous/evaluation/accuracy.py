"""Measure a model on a labelled set, with the same pixels and the same forward pass as prediction."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from vitreous.data.multilabel import convert_to_label_matrix
from vitreous.data.sources.base import Source, refuse_multilabel
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.errors import DataError
from vitreous.images.config import PreprocessConfig
from vitreous.metrics.classification import Metrics, count_infinite, evaluate_logits, find_indices, refuse_infinite
from vitreous.metrics.multilabel import MultiLabelMetrics, evaluate_labels
from vitreous.predictor import Predictor
from vitreous.shapes import Bool, Float32, Int64
from vitreous.storage.scratch import BLOCK, allocate_rows, release

Progress = Callable[[int, int], None]
"""Called with (examples done, all examples)."""


def evaluate(
    predictor: Predictor,
    source: Source,
    batch: int = 64,
    workers: int | Literal["auto"] = 0,
    progress: Progress | None = None,
) -> tuple[Metrics, Float32[np.ndarray, "example label"], Int64[np.ndarray, " example"]]:
    """Run every example through the model once; return the metrics, the logits and the labels, in the source's order.

    The source's classes are matched with the model's by name, in any order; labels are returned as indices into the
    model's classes.

    Args:
        predictor: the model.
        source: labelled examples.
        batch: examples in one pass through the model.
        workers: processes that decode.
        progress: called after each batch.

    Raises:
        DataError: no examples, several labels per image, or a class that is not one of the model's. ImageError: a file
            that
            can't be read.
    """
    refuse_multilabel(source, "accuracy")
    folder = predictor.folder
    own = class_indices(source, folder.classes)
    logits = outputs(predictor, source, batch, workers, progress)
    labels = own[source.labels]
    return evaluate_logits(logits, labels, folder.classes), logits, labels


def evaluate_multilabel(
    predictor: Predictor,
    source: Source,
    batch: int = 64,
    workers: int | Literal["auto"] = 0,
    progress: Progress | None = None,
) -> tuple[MultiLabelMetrics, Float32[np.ndarray, "example label"], Bool[np.ndarray, "example label"]]:
    """As `evaluate`, where an image may have several labels; single labels are accepted too.

    Raises:
        DataError: no examples, or a class that is not one of the model's. ImageError: a file that can't be read.
    """
    classes = predictor.folder.classes
    targets = convert_to_label_matrix(source, classes)
    logits = outputs(predictor, source, batch, workers, progress)
    return evaluate_labels(logits, targets, classes), logits, targets


def outputs(
    predictor: Predictor,
    source: Source,
    batch: int = 64,
    workers: int | Literal["auto"] = 0,
    progress: Progress | None = None,
    preprocess: PreprocessConfig | None = None,
) -> Float32[np.ndarray, "example label"]:
    """Run every example through the model once; return the logits over its temperature, in the source's order.

    Many are in a temporary file (see `storage/scratch.py`). `preprocess` turns the source's images into the model's pixels; None: the model's own preprocessing.

    Raises:
        DataError: no examples, or logits that are not finite. ImageError: a file that can't be read. StorageError: no room for them on the disk.
    """
    folder = predictor.folder
    if not len(source):
        raise DataError("there are no examples to evaluate on")
    logits = allocate_rows(len(source), len(folder.classes))
    seen, fresh, infinite = np.zeros(len(source), np.int64), 0, 0
    for part in load_evaluation_batches(
        Examples(source, preprocess or folder.preprocess, folder.decode), batch, workers
    ):
        places = part.indices.numpy()
        logits[places] = (predictor.logits(part.pixels) / folder.temperature).cpu().numpy()
        infinite += count_infinite(logits[places])
        np.add.at(seen, places, 1)
        fresh += logits[0].size * len(places)
        if fresh >= BLOCK:
            release(logits)
            fresh = 0
        if progress is not None:
            progress(int(seen.sum()), len(source))
    if not (seen == 1).all():
        raise AssertionError(f"{int((seen != 1).sum())} of {len(source)} examples did not come exactly once")
    refuse_infinite(infinite, len(source))
    return logits


def class_indices(source: Source, classes: tuple[str, ...]) -> Int64[np.ndarray, " label"]:
    """Return the index of each of the source's classes among the model's; raises DataError for an unknown class.

    A class of the source without examples may be unknown: it gets -1.
    """
    used = {source.classes[label] for label in np.unique(source.labels)}
    unknown = sorted(used.difference(classes))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        known = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
        raise DataError(
            f"the data has classes that the model doesn't know: {', '.join(map(repr, unknown[:5]))}{more}; "
            f"it knows {known}. Rename the folders, or leave them out"
        )
    return find_indices(source.classes, classes)
