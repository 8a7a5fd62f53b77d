"""Describe the images of an evaluation; evaluate those of a cross-validation; record a look at a test split."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.api.data import Data, OwnRun, name_data
from vitreous.cross_validation import find_folds, predict_out_of_fold
from vitreous.data.sources.base import FileSource, Source
from vitreous.errors import ConfigError, VitreousError
from vitreous.evaluation.accuracy import class_indices
from vitreous.evaluation.final_test import describe_measurements, note_measurement, read_measurements
from vitreous.evaluation.handover import describe_handover
from vitreous.evaluation.refit import find_refit
from vitreous.metrics.classification import Metrics, evaluate_logits
from vitreous.metrics.multilabel import MultiLabelMetrics
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.shapes import Float32, Int64
from vitreous.storage.presence import expand_home
from vitreous.storage.run_config import find_own_run, find_run
from vitreous.training.reporter import Reporter

OUT_OF_FOLD = "all images of its cross-validation, each measured by the fold's model that has not seen it, not by this one, which has"


def find_own_folds(predictor: Predictor, data: Data | None, split: str | None, alone: bool) -> Path | None:
    """Return the cross-validation whose images are to be measured, if any; raises ConfigError for uses that these
    images don't allow."""
    folds = (
        find_folds(Path(predictor.path)) if predictor.path and data is None and split in (None, "validation") else None
    )
    if folds is not None and not alone:
        raise ConfigError(
            f"{folds} is a cross-validation: its images are measured by the models of its folds, and this one has "
            "learned from them. Comparisons, corruptions and token merging need other images: name DATA"
        )
    return folds


def choose_measured_model(predictor: Predictor, data: Data | None, split: str | None) -> Predictor:
    """Return the model to measure. On its run's validation images, if its head has learned from them since, it is the
    model before that; if that one is gone, the given model."""
    own = data is None and split in (None, "validation") and predictor.path and not predictor.load_options
    run = find_run(Path(predictor.path)) if own and find_refit(predictor.folder.origin) else None
    measured = None if run is None else read_run(run).measured
    return predictor if measured is None else Predictor.load(measured, device=str(predictor.device))


def measure_out_of_fold(
    folds: Path, classes: tuple[str, ...]
) -> tuple[Source, tuple[Metrics, Float32[np.ndarray, "example label"], Int64[np.ndarray, " example"]]]:
    """Return all images of a cross-validation, with the results of `vitreous.evaluation.accuracy.evaluate` by their
    folds' models; raises RunError."""
    source, logits = predict_out_of_fold(folds)
    labels = class_indices(source, classes)[source.labels]
    return source, (evaluate_logits(logits, labels, classes), logits, labels)


def describe_images(
    predictor: Predictor, data: Data | None, split: str | None, source: Source, folds: Path | None
) -> str:
    """Describe the measured images."""
    if folds is not None:
        return OUT_OF_FOLD
    if data is None and split not in (None, "validation"):
        return f"its run's {split} split"
    if data is None:
        run = find_run(Path(predictor.path))
        return f"{OwnRun.VALIDATION.value}{'' if run is None else describe_choice(run, predictor)}"
    name = name_data(data)
    if split is not None:
        return f"the {split} split of {name}"
    apart = isinstance(source, FileSource) and isinstance(data, (str, Path)) and expand_home(data).is_dir()
    return f"{name}, its folder {source.root.name}/" if apart and source.root != expand_home(data) else str(name)


def describe_choice(run: Path, predictor: Predictor) -> str:
    """Describe why a run's validation images flatter its model: it was chosen by them, or has learned from them."""
    handover = describe_handover(read_run(run))
    if handover is None:
        return ""
    if handover.learned or find_refit(predictor.folder.origin):
        return ", images that it has learned from" + (", for want of others" if handover.learned else "")
    again, step = "", predictor.folder.origin.get("step")
    if handover.refit is not None and step == handover.exported:
        again = f", by the model as it was before its head learned from them too ({predictor.path})"
    chosen = step is not None and replace(handover, exported=step).chosen
    best = f", by which it is the best of {handover.evaluations} evaluations: expect a little less of new images"
    return f"{again}{best if chosen else ''}"


def note_test(predictor: Predictor, metrics: Metrics | MultiLabelMetrics, source: Source, display: Reporter) -> str:
    """Record a look at the test split of a model's run, and return how often it was looked at before; a failure to
    record is reported."""
    run = find_own_run(Path(predictor.path))
    assert run is not None  # since its data was opened
    before = read_measurements(run)
    try:
        note_measurement(run, "evaluate", int(predictor.folder.origin.get("step") or 0), metrics, source)
    except VitreousError as error:
        display.message(f"note: this look at the test split could not be recorded: {error}")
    if not before:
        return "never measured before"
    return f"before, it was {describe_measurements(before)}. It then gave {before[-1]}"
