"""Open the images that a function measures: the named ones, or those of the model's run."""

from dataclasses import replace
from enum import Enum
from pathlib import Path

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, name_dataset, open_dataset
from vitreous.data.labelled_images import open_source, open_training
from vitreous.data.listing.discovery import NAMES
from vitreous.data.listing.manifest import is_multilabel
from vitreous.data.multilabel import open_multilabel
from vitreous.data.run_data import read_data_config
from vitreous.data.shared_images import find_shared, items
from vitreous.data.sources.base import Source
from vitreous.errors import ConfigError, DataError, check_path
from vitreous.evaluation.overlap import Overlap, overlap
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.storage.run_config import find_own_run
from vitreous.training.reporter import Reporter, progress_of
from vitreous.training.run_inputs import hash_dataset

Data = str | Path | Source
"""A folder, a manifest, "digits" or a formula, by name; or images that are already open."""


class OwnRun(Enum):
    """Images of the run that a model belongs to, if no others are named."""

    VALIDATION = "its run's validation split"


def name_data(data: Data | OwnRun | None) -> str | None:
    """Return the data's name; None for the data of the model's run."""
    if data is None or isinstance(data, OwnRun):
        return None
    return str(data) if isinstance(data, (str, Path)) else data.fingerprint


def shorten_name(data: str | None) -> str:
    """Return a short name of data for a title."""
    return name_dataset(data) if data else "its validation split"


def open_labelled(
    data: Data | None, predictor: Predictor, broken: str, display: Reporter, split: str | None = None
) -> Source:
    """Return the labelled images to measure on: the named ones, or those of the model's run.

    `split`: train, validation or test; None: for a run the validation split, for named data the most suitable one.

    Raises:
        ConfigError: no such split. DataError: data that can't be used or has no such split; or none is named, and the model
            doesn't belong to a run.
    """
    folder = predictor.folder
    if split not in (None, *NAMES):
        raise ConfigError(f"the split is {split!r}; it must be one of {', '.join(NAMES)}")
    if data is None:
        return open_run_split(predictor, broken, display, split or "validation")
    if isinstance(data, Source):
        if split is not None:
            raise ConfigError(f"images that are already open have no splits; leave out split {split!r}")
        return data
    check_path("the data", data)
    if is_multilabel(Path(data)):
        return open_multilabel(Path(data), folder.classes, folder.decode, broken, split)[0]
    return open_source(str(data), folder.classes, folder.decode, broken, split)


def open_run_split(predictor: Predictor, broken: str, display: Reporter, split: str) -> Source:
    """Return one split of the data of a model's run.

    For a run of an earlier version, the test split is the data's own, even if it served as validation; that is
    reported.

    Raises:
        DataError: there is none.
    """
    dataset = open_run_data(predictor, broken, display, test=split == "test")
    source: Source | None = getattr(dataset, split)
    if source is None:
        raise DataError(f"{dataset.report.path}, the data of this run, has no test split to measure on")
    if split == "test" and source.fingerprint == dataset.validation.fingerprint:
        display.message(
            "note: the test split was this run's validation split, by which its best weights may have been chosen"
        )
    return source


def open_run_data(predictor: Predictor, broken: str, display: Reporter, test: bool = False) -> Dataset:
    """Return the data of a model's run, optionally with the test split; raises DataError if there is none."""
    if not predictor.path:
        raise DataError("a model from memory doesn't belong to a run, so name the labelled images")
    path = Path(predictor.path)
    run = find_own_run(path)
    if run is None:
        raise DataError(f"{path} doesn't belong to a run, so name the labelled images: vitreous evaluate {path} DATA")
    record = read_run(run).config
    config = read_data_config(record, run)
    if broken == "skip":
        config = replace(config, broken="skip")
    dataset = open_dataset(config, predictor.folder.decode)
    if test and dataset.test is None:
        config = replace(config, test_split="once", tuning_holdout=0.0, folds=0)
        return replace(dataset, test=open_dataset(config, predictor.folder.decode).test)
    if hash_dataset(dataset) != record["data"]["fingerprint"]:
        display.message(
            "note: the data has changed since the run began; these may include images that the model was trained on"
        )
    return dataset


def find_overlap(predictor: Predictor, source: Source, named: bool) -> Overlap | None:
    """Return how many of some images the model, or the model that it was exported or quantised from, was trained on.
    For the run's own images that is known."""
    origin = predictor.folder.origin
    quantised = origin.get("quantised")
    before = origin.get("exported_from") or (quantised.get("model") if isinstance(quantised, dict) else None)
    path = before if isinstance(before, str) and before else predictor.path
    return overlap(Path(path), source, predictor.folder.decode) if named and path else None


def open_probe_splits(
    train: Data | None, test: Data | OwnRun | None, predictor: Predictor, broken: str, display: Reporter
) -> tuple[tuple[Source, Source], int]:
    """Return the images that a probe learns from, those that it is measured on, and how many are among both; see
    `vitreous.probe`.

    Raises:
        ConfigError: only images to measure on are named. DataError: data that can't be used; or none is named, and the model
            doesn't belong to a run.
    """
    if test is not None:
        return open_named_splits(train, test, predictor, broken, display)
    if train is None:
        dataset = open_run_data(predictor, broken, display)
        if predictor.folder.classes:
            display.message(
                "note: the model was trained on the labels of the images that the probe learns from and is tuned on; "
                "to use others: --train DATA"
            )
    elif isinstance(train, (str, Path)):
        config = DataConfig(str(train), broken=broken)
        dataset = open_dataset(config, predictor.folder.decode, progress_of(display))
    else:
        raise ConfigError("images that are already open have no splits; give the images to measure on too")
    return (dataset.train, dataset.validation), len(dataset.report.duplicates)


def open_named_splits(
    train: Data | None, test: Data | OwnRun, predictor: Predictor, broken: str, display: Reporter
) -> tuple[tuple[Source, Source], int]:
    """Return the training split of some data, the images of other data to measure on, and how many are among both."""
    decode = predictor.folder.decode
    if train is None:
        raise ConfigError("name the images that the probe learns from too")
    learned = open_training(str(train), decode, broken) if isinstance(train, (str, Path)) else train
    if isinstance(test, OwnRun):
        measured = open_run_data(predictor, broken, display).validation
    else:
        measured = open_source(str(test), None, decode, broken) if isinstance(test, (str, Path)) else test
    same = learned.fingerprint == measured.fingerprint  # only this tells apart images that are drawn on demand
    return (learned, measured), len(measured) if same else sum(find_shared(items(measured), items(learned)))
