"""What is measured beside accuracy: few-shot accuracy as the authors define it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from vitreous.checkpoints.folder import ModelFolder
from vitreous.data.config import DataConfig
from vitreous.data.sources import Source, open_dataset
from vitreous.evaluate.features import FeatureOptions, features
from vitreous.evaluate.few_shot import few_shot
from vitreous.predict import Predictor
from vitreous.studies.study import Trained, accuracy

SHOTS, DRAWN_FROM, DRAWS = 5, 50, 3
"""Images of each class that are learned from; that they are drawn from; how often they are drawn."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of a source, in its order."""

    source: Source
    indices: Int64[np.ndarray, " chosen"]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.source.classes

    @property
    def labels(self) -> Int64[np.ndarray, " chosen"]:
        """The class of each example."""
        return self.source.labels[self.indices]

    @property
    def names(self) -> tuple[str, ...]:
        """The examples' names."""
        return tuple(self.source.names[index] for index in self.indices)

    @property
    def fingerprint(self) -> str:
        """Hash of the source's contents and of the choice."""
        return hashlib.blake2b(self.source.fingerprint.encode() + self.indices.tobytes(), digest_size=16).hexdigest()

    def read(self, index: int) -> bytes | UInt8[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        return self.source.read(int(self.indices[index]))


def of_each_class(source: Source, most: int) -> Part:
    """Return the first so many examples of each class."""
    chosen = [np.flatnonzero(source.labels == label)[:most] for label in range(len(source.classes))]
    return Part(source, np.sort(np.concatenate(chosen)).astype(np.int64))


def with_few_shot(trained: Trained) -> dict[str, Any]:
    """Return accuracy, and `five_shot`: from frozen features by regularised least squares, 5 images a class, mean of 3 draws."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    return {**accuracy(trained), "five_shot": five_shot(predictor, trained, trained.config.data)}


def five_shot(model: ModelFolder | Predictor, trained: Trained, data: DataConfig, draws: int = DRAWS) -> float:
    """Return the few-shot accuracy of a model's frozen features on some data, read as a run reads its own.

    Args:
        model: what gives the features.
        trained: the run.
        data: where shots are drawn, and on whose validation part they are measured.
        draws: how many are averaged.
    """
    config = trained.config
    dataset = open_dataset(data, config.decode)
    options = FeatureOptions(batch=256, device=config.device, workers=config.workers, cache=False)
    part = of_each_class(dataset.train, DRAWN_FROM)
    shots = min(SHOTS, int(np.bincount(part.labels).min()))
    learned, tested = (features(model, source, options) for source in (part, dataset.validation))
    return few_shot(learned, tested, shots=[shots], seeds=draws).at(shots).mean
