"""Cross-validation over all images of the data, then one model trained on all of them.

    FOLDS/folds.json        the configuration, the number of folds, and the result of each
    FOLDS/fold-1/ ...       the run of one fold: trained on the others, measured on this one
    FOLDS/predictions.csv   every image, predicted by the model that has not seen it
    FOLDS/final/            the run on all images
    FOLDS/model/            its model folder, with the temperature of those predictions
    FOLDS/.lock             held while a process works on it

The images that measure a fold choose nothing: every run exports its last step. Only the last run is measured on the
data's own validation part. The work can be resumed whenever the process dies.
"""

import csv
import io
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from vitreous.data.dataset import open_dataset
from vitreous.data.folds import ALL, assign_folds
from vitreous.data.sources.base import Source
from vitreous.data.synthetic.formula import is_formula
from vitreous.errors import ConfigError, RunError
from vitreous.evaluation.accuracy import class_indices, outputs
from vitreous.metrics.calibration import fit_held_out_temperature
from vitreous.metrics.classification import softmax, wilson_interval
from vitreous.metrics.headline import format_interval, select_judged
from vitreous.objectives.config import ClassifyConfig
from vitreous.predictor import Predictor
from vitreous.run_folder import MODEL, is_run, read_run
from vitreous.runtime.display import Shown
from vitreous.shapes import Float32, Int64
from vitreous.storage.atomic import write_atomically
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import FINAL
from vitreous.training.config import EarlyStopConfig, RunConfig
from vitreous.training.reporter import Reporter
from vitreous.training.run import TrainResult
from vitreous.training.run_group import Places, begin_group, begin_or_resume, continue_group, read_group, write_group
from vitreous.training.run_inputs import check_same_data
from vitreous.training.settings_check import check_ranges
from vitreous.weights.model_folder import FOLDS as PLAN
from vitreous.weights.model_folder import load_model, save_model

LAYOUT = ("vitreous_folds", 1)
"""The key that identifies folds.json, and its version."""
PREDICTIONS = "predictions.csv"
RESTORE = "Restore them, or start again in another folder"


@dataclass
class CrossValidation(Shown):
    """The settings of a cross-validation, and its results so far."""

    config: RunConfig
    """Configuration of every run, apart from its fold."""
    folds: int
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    """Fold, from 1, as text -> top1 and loss on the images of that fold."""
    pooled: dict[str, float] = field(default_factory=dict)
    """Figures from the predictions of all images, once all folds are done: images, right, low and high (95% Wilson
    interval of the accuracy), temperature."""
    places: Places = field(default_factory=dict)
    images: str = ""
    """Hash of the images that are divided, and of their labels; empty in files of earlier versions."""

    def __str__(self) -> str:
        lines = [f"fold {name:<7} accuracy {one['top1']:.2%}" for name, one in self.results.items()]
        if self.pooled:
            low, high, images = (self.pooled[name] for name in ("low", "high", "images"))
            lines.append(
                f"accuracy {self.accuracy:.2%}, mean of {self.folds} folds ({format_interval((low, high))}, Wilson's over "
                f"{images:,.0f} images, each predicted by a model that has not seen it)"
            )
        return "\n".join(lines)

    @property
    def accuracy(self) -> float:
        """Mean over the finished folds."""
        return fmean(one["top1"] for one in self.results.values())


def is_folds(path: Path) -> bool:
    """Return whether a folder holds a cross-validation."""
    return path_exists(path / PLAN)


def find_folds(path: Path) -> Path | None:
    """Return the cross-validation that a path leads to: the folder itself, or the one that contains this model folder.
    None for one of its runs."""
    if is_run(path):
        return None
    return next((place for place in (path, path.resolve().parent) if is_folds(place)), None)


def check_folds(folds: int, path: str, labelled: bool = True) -> None:
    """Raise ConfigError for a number of folds, or data, that can't be cross-validated, before anything is opened."""
    if type(folds) is not int:
        raise ConfigError(f"--folds is {folds!r}; it must be a whole number")
    if folds < 2:
        raise ConfigError(f"--folds is {folds}; cross-validation takes at least 2")
    if is_formula(path):
        raise ConfigError(f"--folds needs a fixed set of images, but {path} draws any number of them; leave it out")
    if not labelled:
        raise ConfigError("--folds measures accuracy, but this recipe learns without labels; leave it out")


def plan_folds(config: RunConfig, folds: int) -> CrossValidation:
    """Return a cross-validation that can be carried out.

    Raises:
        ConfigError, DataError: too few folds, or more than the smallest class has images; formulas, no labels, or
            several
            per image.
    """
    check_folds(folds, config.data.path, isinstance(config.objective, ClassifyConfig))
    if config.data.folds or config.data.tuning_holdout:
        raise ConfigError("--folds divides the data itself; leave out data.folds and data.tuning_holdout")
    if config.data.pseudo_labels is not None:
        raise ConfigError(
            "--folds measures every image by a model that has not seen it, but pseudo labels may belong to any image; leave out "
            "data.pseudo_labels"
        )
    config = replace(
        config, refit=False, export="last", early_stop=EarlyStopConfig(min_delta=config.early_stop.min_delta)
    )
    plan = CrossValidation(config, folds)
    check_ranges(config)
    return replace(plan, images=open_all(plan).fingerprint)


def describe_plan(plan: CrossValidation) -> str:
    """Describe the runs of a cross-validation, and the number of images in each."""
    every = open_dataset(set_fold(plan, ALL).data, plan.config.decode)
    labels = [every.train.classes[label] for label in every.train.labels]
    held = Counter(assign_folds(every.train.names, labels, plan.folds, plan.config.data.split_seed))
    lines = [
        f"fold {fold + 1:<7} trains on {len(labels) - held[fold]:,} images, is measured on {held[fold]:,}"
        for fold in range(plan.folds)
    ]
    test = f"; measured once on {len(every.test):,} test images" if every.test else ""
    return "\n".join([*lines, f"final        trains on all {len(every.train):,}, each {plan.config.duration}{test}"])


def open_all(plan: CrossValidation) -> Source:
    """Return the images that are divided; raises DataError."""
    return open_dataset(set_fold(plan, ALL).data, plan.config.decode).train


def set_fold(plan: CrossValidation, fold: int) -> RunConfig:
    """Return the configuration of one fold's run, counted from 0, or of the last run."""
    return replace(plan.config, data=replace(plan.config.data, folds=plan.folds, fold=fold))


def begin_folds(plan: CrossValidation, out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Run a cross-validation in a new folder; return its result, or that of the run that was interrupted.

    Raises:
        RunError: the folder is in use. Also raises everything that `training.run.train` raises.
    """
    return begin_group(out, plan, write_plan, run_folds, reporter)


def continue_folds(out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Continue the cross-validation in a folder; raises RunError if it can't be read or its images have changed, RunLocked
    if another process runs it."""

    def check(plan: CrossValidation) -> None:
        check_images(plan, open_all(plan), out)

    return continue_group(out, "a cross-validation", read_plan, run_folds, reporter, check)


def check_images(plan: CrossValidation, every: Source, out: Path) -> None:
    """Raise RunError if the images are not those that were divided: the folds would differ too."""
    if plan.images and every.fingerprint != plan.images:
        raise RunError(
            f"the images have changed since the cross-validation in {out} began, so its folds would differ. {RESTORE}"
        )


def run_folds(plan: CrossValidation, out: Path, reporter: Reporter) -> TrainResult:
    """Train the remaining folds, pool their predictions, then train on all images."""
    for fold in range(plan.folds):
        if str(fold + 1) in plan.results:
            continue
        reporter.message(f"fold {fold + 1} of {plan.folds}")
        result = begin_or_resume(set_fold(plan, fold), out / f"fold-{fold + 1}", reporter)
        if result.stopped == "interrupted":
            return replace(result, run=out)
        plan.results[str(fold + 1)] = select_judged(result.metrics)
        write_plan(plan, out)
    if not plan.pooled:
        reporter.phase("predicting every image by the model that has not seen it")
        plan.pooled = pool(plan, out)
        write_plan(plan, out)
    reporter.message("training on all images")
    result = begin_or_resume(set_fold(plan, ALL), out / FINAL, reporter)
    if result.stopped == "interrupted" or result.model is None:
        return replace(result, run=out)
    folder = load_model(result.model)
    origin = {
        **folder.origin,
        "metrics": None,
        "folds": {"count": plan.folds, "accuracy": plan.accuracy, **plan.pooled},
    }
    save_model(out / MODEL, replace(folder, temperature=plan.pooled["temperature"], origin=origin))
    metrics = {"top1": plan.accuracy, "loss": fmean(one["loss"] for one in plan.results.values())}
    return replace(result, run=out, model=out / MODEL, metrics=metrics, folds=str(plan), baselines=None, handover=None)


def pool(plan: CrossValidation, out: Path) -> dict[str, float]:
    """Write every image's prediction by the model that has not seen it, and return the pooled figures."""
    parts = [predict_fold(plan, fold, out) for fold in range(plan.folds)]
    classes = parts[0].classes
    logits, labels = (np.concatenate([getattr(one, name) for one in parts]) for name in ("logits", "labels"))
    temperature = fit_held_out_temperature(logits, labels)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "prediction", *(f"probability of {name}" for name in classes), "fold"])
    for fold, part in enumerate(parts):
        probabilities = softmax(part.logits.astype(np.float64) / temperature)
        for name, label, row, best in zip(part.names, part.labels, probabilities, part.logits.argmax(1), strict=True):
            writer.writerow([name, classes[label], classes[best], *(f"{value:.6g}" for value in row), fold + 1])
    write_atomically(out / PREDICTIONS, text.getvalue().encode("utf-8", "surrogateescape"))
    right = int((logits.argmax(1) == labels).sum())
    low, high = wilson_interval(right, len(labels))
    return {"images": len(labels), "right": right, "low": low, "high": high, "temperature": temperature}


def predict_out_of_fold(out: Path) -> tuple[Source, Float32[np.ndarray, "image label"]]:
    """Return all images of a cross-validation, and the logits of the model that has not seen each, without temperature.

    Raises:
        RunError: it isn't finished, or its images have changed.
    """
    plan = read_plan(out)
    if not plan.pooled or not is_run(out / FINAL):
        raise RunError(f"the cross-validation in {out} isn't done; continue it with `vitreous resume {out}`")
    every = open_all(plan)
    check_images(plan, every, out)
    place = {name: index for index, name in enumerate(every.names)}
    parts = [predict_fold(plan, fold, out) for fold in range(plan.folds)]
    logits = np.empty((len(every), len(parts[0].classes)), np.float32)
    for part in parts:
        logits[[place[name] for name in part.names]] = part.logits
    return every, logits


@dataclass(frozen=True, eq=False)
class FoldPredictions:
    """The predictions of one fold's model for the images of that fold."""

    names: tuple[str, ...]
    labels: Int64[np.ndarray, " image"]
    """Indices into `classes`, which are the model's."""
    logits: Float32[np.ndarray, "image label"]
    """The raw logits, without temperature."""
    classes: tuple[str, ...]


def predict_fold(plan: CrossValidation, fold: int, out: Path) -> FoldPredictions:
    """Return the predictions of one fold's model; raises RunError if the images aren't those that its run began
    with."""
    config, run = set_fold(plan, fold), out / f"fold-{fold + 1}"
    dataset = open_dataset(config.data, config.decode)
    check_same_data(read_run(run), dataset, RESTORE)
    folder, held = replace(load_model(run), temperature=1.0), dataset.validation
    logits = outputs(Predictor(folder, config.device), held, workers=config.workers)
    own = class_indices(held, folder.classes)
    return FoldPredictions(tuple(held.names), own[held.labels], logits, folder.classes)


def write_plan(plan: CrossValidation, out: Path) -> None:
    """Write folds.json, atomically; raises StorageError."""
    values = {"folds": plan.folds, "images": plan.images, "reached": plan.results, "pooled": plan.pooled}
    write_group(out / PLAN, LAYOUT, plan.config, plan.places, values)


def read_plan(out: Path) -> CrossValidation:
    """Read folds.json; raises RunError."""

    def build(config: RunConfig, places: Places, document: dict[str, Any]) -> CrossValidation:
        reached, pooled = dict(document["reached"]), dict(document["pooled"])
        images = str(document.get("images", ""))
        return CrossValidation(config, int(document["folds"]), reached, pooled, places, images)

    return read_group(out / PLAN, LAYOUT, build)
