"""A measure besides accuracy: few-shot accuracy as the authors define it."""

from typing import Any

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.base import Source
from vitreous.data.sources.subset import Subset
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.evaluation.probes.few_shot import few_shot
from vitreous.metrics.seeds_and_images import Scores
from vitreous.predictor import Predictor
from vitreous.studies.answers import EACH, pack_answers
from vitreous.studies.engine.study import Trained, measure_accuracy
from vitreous.weights.model_folder import ModelFolder

SHOTS, DRAWN_FROM, DRAWS = 5, 50, 3
"""Images of each class to learn from; images of each class to draw them from; number of draws."""


def take_each_class(source: Source, most: int) -> Subset:
    """Return the first `most` examples of each class."""
    chosen = [np.flatnonzero(source.labels == label)[:most] for label in range(len(source.classes))]
    return Subset(source, np.sort(np.concatenate(chosen)).astype(np.int64))


def measure_with_few_shot(trained: Trained) -> dict[str, Any]:
    """Return accuracy, and `measure_five_shot`: from frozen features by regularised least squares, 5 images a class, mean of 3 draws."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    return add_scores(
        measure_accuracy(trained), "five_shot", measure_five_shot(predictor, trained, trained.config.data), DRAWS
    )


def add_scores(numbers: dict[str, Any], name: str, scores: Scores, draws: int = 1) -> dict[str, Any]:
    """Return a cell's numbers with one more, and each image's contribution to it: its share of the draws."""
    each = {**numbers.get(EACH, {}), name: pack_answers(scores.each, draws)}
    return {**numbers, name: float(scores), EACH: each}


def measure_five_shot(model: ModelFolder | Predictor, trained: Trained, data: DataConfig, draws: int = DRAWS) -> Scores:
    """Return the few-shot accuracy of a model's frozen features on some data, read as a run reads its own.

    Each image's contribution is the share of draws in which it is classified correctly.

    Args:
        model: computes the features.
        trained: the run.
        data: shots are drawn from its training split, and measured on its validation split.
        draws: number of draws to average.
    """
    config = trained.config
    dataset = open_dataset(data, config.decode)
    options = FeatureOptions(batch=256, device=config.device, workers=config.workers, cache=False)
    part = take_each_class(dataset.train, DRAWN_FROM)
    shots = min(SHOTS, int(np.bincount(part.labels).min()))
    learned, tested = (features(model, source, options) for source in (part, dataset.validation))
    found = few_shot(learned, tested, shots=[shots], seeds=draws).at(shots)
    return Scores(np.mean([labels == tested.labels for labels in found.predicted], axis=0))
