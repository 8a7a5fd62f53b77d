"""Gather the contents of a report; a reason replaces what is unavailable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from vitreous.data.dataset import Dataset, open_dataset
from vitreous.data.run_data import read_data_config
from vitreous.data.sources.base import Source
from vitreous.errors import ConfigError, VitreousError
from vitreous.evaluation.accuracy import evaluate, evaluate_multilabel
from vitreous.evaluation.refit import find_measured_model
from vitreous.images.config import DecodeConfig
from vitreous.metrics.calibration import Scaled, cross_fit_temperature
from vitreous.metrics.classification import Judged, Metrics, judge
from vitreous.metrics.headline import find_headline
from vitreous.metrics.multilabel import MultiLabelMetrics
from vitreous.model.config import ViTConfig
from vitreous.model.factory import Model
from vitreous.objectives.config import ClassifyConfig
from vitreous.predictor import Predictor
from vitreous.run_folder import RunRecord, read_run
from vitreous.settings import from_dict
from vitreous.weights.model_folder import load_model

T = TypeVar("T")
EXPECTED = (VitreousError, OSError)
"""Errors that a missing or damaged part of a run may raise; any other is a bug."""


@dataclass(frozen=True)
class Measured:
    """The exported model on every validation example, in the order of `Dataset.validation`."""

    metrics: Metrics
    judged: Judged
    """Each example's label, most probable class and its probability."""
    scaled: Scaled | None = None
    """The effect of temperature scaling; None with fewer than two examples."""


@dataclass(frozen=True)
class MeasuredMultilabel:
    """The same where an image may have several labels."""

    metrics: MultiLabelMetrics
    probabilities: np.ndarray
    """float32 (example, label): sigmoid of the logits."""
    targets: np.ndarray
    """bool (example, label): which of the model's classes each example has."""


@dataclass
class RunContents:
    """A run and everything that belongs to it; None for missing parts, with the reason in `missing`."""

    record: RunRecord
    predictor: Predictor | None = None
    dataset: Dataset | None = None
    measured: Measured | None = None
    measured_multilabel: MeasuredMultilabel | None = None
    """Instead of `measured`, where an image may have several labels."""
    trunk: Model | None = None
    """The exported model itself, with a head or without."""
    missing: dict[str, str] = field(default_factory=dict)
    """"predictor", "dataset", "measured" or "trunk" -> why there is none."""

    @property
    def settings(self) -> dict[str, Any]:
        """The run's resolved configuration."""
        return to_mapping(self.record.config.get("config"))

    @property
    def steps(self) -> int | None:
        """Planned steps of the run, if it states them."""
        return self.record.config.get("steps")

    @property
    def step(self) -> int:
        """The last step in its records."""
        return max([one.get("step", 0) for one in self.record.metrics] + [0])

    @property
    def ended(self) -> dict[str, Any]:
        """The record of why the run broke off, if that is its last one; else empty."""
        last = self.record.metrics[-1] if self.record.metrics else {}
        return last if last.get("kind") == "stopped" else {}

    @property
    def learned(self) -> bool:
        """Whether the validation images are some that the run learned from."""
        return bool(to_mapping(self.record.config.get("data")).get("validation_learned"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, from any part of the run that has them."""
        if self.predictor is not None:
            return self.predictor.folder.classes
        return tuple(to_mapping(self.record.config.get("data")).get("classes") or ())

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the metrics records of one kind."""
        return [one for one in self.record.metrics if one.get("kind") == kind]


def to_mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as a dict, and anything else as an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def read_kind(found: RunContents) -> str:
    """Return the kind of model that the run trains: only a ViT has positions, and ResNets and EfficientNets have no attention."""
    return str(to_mapping(found.settings.get("model")).get("kind", ViTConfig.KIND))


def is_unlabelled(found: RunContents) -> bool:
    """Return whether the run learned from images alone: its model has no head, and its evaluations have only a loss."""
    kind = to_mapping(found.settings.get("objective")).get("kind", ClassifyConfig.KIND)
    return kind != ClassifyConfig.KIND


def is_multilabel(found: RunContents) -> bool:
    """Return whether an image may have several labels in this run, according to its model, its evaluations or its
    data."""
    if found.predictor is not None:
        return found.predictor.folder.multilabel
    records = found.records("evaluation")
    known = found.dataset is not None and found.dataset.facts.multilabel
    return known or bool(records and find_headline(records[-1]) == "map")


def gather(path: Path) -> RunContents:
    """Read a run, load its model, open its data and measure the model on it.

    Raises:
        RunError: no run there. Nothing else: missing parts are recorded in `missing`.
    """
    found = RunContents(read_run(path))
    found.dataset = attempt(found, "dataset", lambda: _open(found))
    if is_unlabelled(found):
        found.trunk = attempt(found, "trunk", lambda: load_model(find_model(found)).model)
        return found
    found.predictor = attempt(found, "predictor", lambda: _load(found))
    if is_multilabel(found):
        found.measured_multilabel = attempt(found, "measured", lambda: _measure_multilabel(found))
    else:
        found.measured = attempt(found, "measured", lambda: _measure(found))
    if found.predictor is not None:
        found.trunk = found.predictor.model
    else:
        found.missing["trunk"] = found.missing["predictor"]
    return found


def attempt(found: RunContents, part: str, get: Callable[[], T]) -> T | None:
    """Return the result of `get`, or None after recording why there is none."""
    try:
        return get()
    except EXPECTED as error:
        found.missing[part] = " ".join(str(error).split())
        return None


def find_model(found: RunContents) -> Path:
    """Return the model folder that the validation images measured; raises ConfigError if there is none."""
    if found.record.model is None:
        raise ConfigError("no model has been exported yet; the first evaluation writes one")
    measured = find_measured_model(found.record)
    if measured is None:
        raise ConfigError("the exported model has learned from the validation images, and the one of before is gone")
    return measured


def _load(found: RunContents) -> Predictor:
    path = find_model(found)
    device = found.settings.get("device", "auto")
    try:
        return Predictor.load(path, device=device)
    except ConfigError:  # trained on a device that this machine lacks
        return Predictor.load(path)


def _open(found: RunContents) -> Dataset:
    if not found.settings.get("data"):
        raise ConfigError("the run's configuration doesn't say where its data is")
    data = read_data_config(found.record.config, found.record.path)
    decode = from_dict(DecodeConfig, found.settings.get("decode") or {}, "decode")
    dataset = open_dataset(data, decode)
    before = to_mapping(found.record.config.get("data")).get("fingerprint")
    if before not in (None, f"{dataset.learned.fingerprint}:{dataset.validation.fingerprint}"):
        found.missing["same data"] = (
            "the data has changed since this run began; what follows is on the data as it is now"
        )
    return dataset


def _require_model_and_data(found: RunContents) -> tuple[Predictor, Source]:
    """Return the model and the data to measure it on; raises ConfigError if one is missing."""
    if found.predictor is None:
        raise ConfigError(f"there is no model to measure: {found.missing['predictor']}")
    if found.dataset is None:
        raise ConfigError(f"there is no data to measure on: {found.missing['dataset']}")
    return found.predictor, found.dataset.validation


def _measure_multilabel(found: RunContents) -> MeasuredMultilabel:
    metrics, logits, targets = evaluate_multilabel(
        *_require_model_and_data(found), workers=found.settings.get("workers", 0)
    )
    return MeasuredMultilabel(metrics, torch.from_numpy(np.array(logits)).sigmoid_().numpy(), targets)


def _measure(found: RunContents) -> Measured:
    workers = found.settings.get("workers", 0)
    metrics, logits, labels = evaluate(*_require_model_and_data(found), workers=workers)
    scaled = cross_fit_temperature(logits, labels) if len(labels) > 1 else None
    return Measured(metrics, judge(logits, labels), scaled)
