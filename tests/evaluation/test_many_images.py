"""More logits than fit into memory: block by block from a file, to the same bits as all at once."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from vitreous.api import evaluation as room
from vitreous.api.evaluation import EvaluationResult
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.errors import DataError, StorageError
from vitreous.evaluation.details import details
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.metrics import calibration, ranking
from vitreous.metrics.bootstrap import bootstrap_all, macro_f1_statistic, mean_statistic, recall_statistic
from vitreous.metrics.calibration import cross_fit_temperature, fit_temperature, split_halves
from vitreous.metrics.classification import Judged, evaluate_logits, measure
from vitreous.metrics.ranking import auroc, average_precision, rank_classes
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.storage import scratch
from vitreous.storage.scratch import allocate_rows, iterate_blocks
from vitreous.weights.model_folder import ModelFolder

WIDTH = 13
CLASSES = tuple(f"class {number}" for number in range(WIDTH))


@pytest.fixture
def drawn():
    """Return logits, some of them equal, and labels."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(997, WIDTH)).astype(np.float32) * 3
    logits[::7] = np.round(logits[::7])
    labels = np.where(rng.random(997) < 0.6, logits.argmax(1), rng.integers(WIDTH - 1, size=997))
    return logits, labels


@pytest.fixture
def small(monkeypatch):
    """Take little for much: blocks of 5 rows, files from 1 kB on, two columns at once, nothing held."""
    for module, name, value in (
        (scratch, "BLOCK", 5 * WIDTH),
        (scratch, "MOST_IN_MEMORY", 1000),
        (ranking, "COLLECTED", 2000),
        (calibration, "HELD", 100),
    ):
        monkeypatch.setattr(module, name, value)


def on_file(logits):
    """Return logits in a file."""
    found = allocate_rows(*logits.shape)
    assert isinstance(found, np.memmap)
    found[:] = logits
    return found


def judge_at_once(logits, labels):
    """Return what is known of all examples, computed together."""
    scores = logits.astype(np.float64)
    highest = scores.max(1, keepdims=True)
    logged = scores - (highest + np.log(np.exp(scores - highest).sum(1, keepdims=True)))
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = ((scores == own) & (np.arange(WIDTH) < labels[:, None])).sum(1)
    rank = (scores > own).sum(1) + before
    loss = -np.take_along_axis(logged, labels[:, None], 1)[:, 0]
    return Judged(labels, scores.argmax(1), rank, np.exp(logged.max(1)), loss), np.exp(logged)


def fit_at_once(logits, labels):
    """Return the temperature of all examples, computed together."""
    scores = logits.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    own = np.take_along_axis(scores, labels[:, None], 1)[:, 0]

    def slope(log_temperature):
        weights = np.exp(scores * np.exp(-log_temperature))
        return float((np.einsum("ij,ij->i", weights, scores) / weights.sum(1) - own).mean())

    return float(np.exp(brentq(slope, np.log(0.01), np.log(100), xtol=1e-9)))


def test_figures_in_blocks_are_those_of_all_at_once(drawn, small):
    logits, labels = drawn
    judged, probability = judge_at_once(logits, labels)
    stored = on_file(logits)
    assert evaluate_logits(stored, labels, CLASSES) == measure(judged, CLASSES)
    ranked = rank_classes(stored, labels, CLASSES)
    for index, one in enumerate(ranked.per_class[:-1]):
        assert one.auroc == float(auroc(probability[:, index], labels == index))
        assert one.average_precision == float(average_precision(probability[:, index], labels == index))
    first, second = split_halves(labels)
    temperatures = fit_at_once(logits[first], labels[first]), fit_at_once(logits[second], labels[second])
    scaled = cross_fit_temperature(stored, labels)
    assert scaled.temperatures == temperatures
    assert fit_temperature(stored, labels) == fit_at_once(logits, labels)
    cooled = logits.astype(np.float64)
    cooled[first] /= temperatures[1]
    cooled[second] /= temperatures[0]
    after = measure(judge_at_once(cooled, labels)[0], CLASSES)
    assert (scaled.ece[1], scaled.nll[1], scaled.reliability) == (after.ece, after.nll, after.reliability)


def test_details_are_those_of_all_at_once(drawn, small):
    logits, labels = drawn
    found = details(on_file(logits), labels, CLASSES)
    judged, _ = judge_at_once(logits, labels)
    statistics = {
        "balanced": recall_statistic(labels, judged.predicted == labels),
        "macro_f1": macro_f1_statistic(labels, judged.predicted),
        "nll": mean_statistic(judged.loss),
    }
    assert found.intervals == bootstrap_all(statistics, len(labels))
    assert found.ranking.auroc == pytest.approx(rank_classes(logits, labels, CLASSES).auroc, abs=0)


@pytest.mark.parametrize("limit", [0, 2**26])
def test_the_table_and_the_mistakes_come_from_blocks(drawn, small, monkeypatch, limit):
    logits, labels = drawn
    monkeypatch.setattr(room, "MOST_LISTED", limit)
    digits = open_digits(DataConfig()).train
    source = replace(digits, pixels=digits.pixels[:997], names=digits.names[:997], labels=labels, classes=CLASSES)
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=8, depth=1, heads=1, mlp_width=8, classes=WIDTH)
    folder = ModelFolder(create(config), PreprocessConfig(size=(8, 8), mode="L"), DecodeConfig(), CLASSES, {})
    metrics, predictor = evaluate_logits(logits, labels, CLASSES), Predictor(folder, device="cpu")
    found = EvaluationResult("m", None, metrics, on_file(logits), labels, source=source, predictor=predictor)

    whole = torch.from_numpy(logits).softmax(1).numpy()
    assert np.array_equal(found.probabilities, whole)
    predicted, confidence = found.answers
    assert np.array_equal(predicted, whole.argmax(1))
    assert np.array_equal(confidence, whole.max(1))
    table = found.columns
    assert list(table)[:5] == ["path", "label", "prediction", "right", "probability"]
    assert len(table) == (5 + WIDTH if limit else 5)
    if limit:
        assert np.array_equal(table["probability of class 3"], whole[:, 3])


def test_a_row_that_is_not_finite_is_counted_over_all_blocks(drawn, small):
    logits, labels = drawn
    logits[[3, 500, 990], 2] = np.nan
    for compute in (evaluate_logits, rank_classes):
        with pytest.raises(DataError, match="3 of 997 outputs of the model are not finite"):
            compute(on_file(logits), labels, CLASSES)
    with pytest.raises(DataError, match="3 of 997 outputs"):
        cross_fit_temperature(on_file(logits), labels)


def test_rows_on_file_survive_their_release_and_the_file_has_no_name(small, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = allocate_rows(100, 50)
    rows[:] = np.arange(5000).reshape(100, 50)
    assert list(tmp_path.iterdir()) == []
    places = list(iterate_blocks(rows))
    assert [place.stop - place.start for place in places] == [1] * 100
    assert np.array_equal(rows, np.arange(5000).reshape(100, 50))
    assert not isinstance(allocate_rows(10, 5), np.memmap)
    assert list(iterate_blocks(np.zeros((0, 5)))) == []


def test_a_disk_without_room_is_one_line(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="the disk is full"):
        allocate_rows(100, 50)
