"""More logits than fit into memory: block by block from a file, to the same bits as all at once."""

import os
import re
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn import metrics as reference

from vitreous.api import evaluation as room
from vitreous.api.evaluation import EvaluationResult
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.data.multilabel import convert_to_label_matrix
from vitreous.data.sources.base import ArraySource
from vitreous.errors import DataError, StorageError
from vitreous.evaluation.details import details
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.metrics import calibration, ranking
from vitreous.metrics.bootstrap import (
    bootstrap_all,
    difference_statistic,
    macro_f1_statistic,
    mean_statistic,
    recall_statistic,
)
from vitreous.metrics.calibration import cross_fit_temperature, fit_temperature, split_halves
from vitreous.metrics.classification import Judged, evaluate_logits, measure
from vitreous.metrics.comparison import compare
from vitreous.metrics.multilabel import evaluate_labels
from vitreous.metrics.ranking import auroc, average_precision, compute_pooled_precision, rank_classes
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.reports.blocks import render_markdown
from vitreous.storage import scratch
from vitreous.storage.scratch import allocate_rows, iterate_blocks, reorder_columns
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
        (ranking, "SORTED", 100),
        (calibration, "HELD", 100),
    ):
        monkeypatch.setattr(module, name, value)


def on_file(rows):
    """Return rows in a file."""
    found = allocate_rows(*rows.shape, rows.dtype.type)
    assert isinstance(found, np.memmap)
    found[:] = rows
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


@pytest.fixture
def labelled(drawn):
    """Return logits, some of them equal, and several labels an image, one of them for none."""
    logits = drawn[0] - np.float32(1.5)
    targets = np.random.default_rng(2).random(logits.shape) < 1 / (1 + np.exp(-logits / 2))
    targets[:, 4] = False
    return logits, targets


@pytest.mark.parametrize("kind", [bool, np.int64])
def test_several_labels_in_blocks_are_those_of_all_at_once(labelled, small, kind):
    logits, targets = labelled
    found = evaluate_labels(on_file(logits), on_file(targets.astype(kind)), CLASSES)
    claimed = logits >= 0
    for index, (one, ranked) in enumerate(zip(found.per_label, found.ranking.per_class, strict=True)):
        true, said, both = targets[:, index], claimed[:, index], targets[:, index] & claimed[:, index]
        assert (one.support, one.recall) == (true.sum(), both.sum() / true.sum() if true.any() else 0)
        assert one.precision == both.sum() / said.sum()
        if true.any():
            assert ranked.auroc == float(auroc(logits[:, index], true))
            assert ranked.average_precision == float(average_precision(logits[:, index], true))
    assert (found.exact, found.hamming) == ((claimed == targets).all(1).mean(), (claimed != targets).mean())
    assert found.micro_f1 == 2 * (claimed & targets).sum() / (claimed.sum() + targets.sum())
    scores = logits.astype(np.float64)
    assert found.nll == pytest.approx(np.logaddexp(0, np.where(targets, -scores, scores)).mean(), rel=1e-14)
    every = reference.average_precision_score(targets, logits, average="micro")
    assert found.micro_average_precision == pytest.approx(every, rel=1e-13)
    known = np.arange(WIDTH) != 4
    macro = reference.average_precision_score(targets[:, known], logits[:, known])
    assert found.mean_average_precision == pytest.approx(macro, rel=1e-13)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_the_average_precision_of_all_pairs_by_ranges(small, share, levels):
    rng = np.random.default_rng(3)
    scores = np.round(rng.normal(size=(400, 7)) * levels) / levels
    targets = rng.random(scores.shape) < share
    found = compute_pooled_precision(scores, targets)
    if share:
        assert found == pytest.approx(reference.average_precision_score(targets.ravel(), scores.ravel()), rel=1e-13)
    else:
        assert np.isnan(found)


def test_targets_that_are_no_labels_are_found_in_any_block(labelled, small):
    logits, targets = labelled
    targets = targets.astype(int)
    targets[700, 3] = 2
    with pytest.raises(DataError, match="target of example 700, label 3 is 2; it must be 0 or 1"):
        evaluate_labels(on_file(logits), on_file(targets), CLASSES)


@pytest.mark.parametrize("limit", [0, 2**26])
def test_several_labels_are_listed_from_blocks(labelled, small, monkeypatch, limit):
    logits, targets = labelled
    monkeypatch.setattr(room, "MOST_LISTED", limit)
    digits = open_digits(DataConfig()).train
    source = replace(
        digits, pixels=digits.pixels[:997], names=digits.names[:997], labels=digits.labels[:997], classes=CLASSES
    )
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=8, depth=1, heads=1, mlp_width=8, classes=WIDTH)
    preprocess = PreprocessConfig(size=(8, 8), mode="L")
    folder = ModelFolder(create(config), preprocess, DecodeConfig(), CLASSES, {}, multilabel=True)
    metrics, predictor = evaluate_labels(logits, targets, CLASSES), Predictor(folder, device="cpu")
    found = EvaluationResult("m", None, metrics, on_file(logits), on_file(targets), source=source, predictor=predictor)

    table = found.columns
    assert list(table)[:4] == ["path", "label", "prediction", "right"]
    assert len(table) == (4 + WIDTH if limit else 4)
    whole = torch.from_numpy(logits).sigmoid().numpy()
    claimed = whole >= 0.5
    names = [";".join(CLASSES[place] for place in np.flatnonzero(row)) for row in claimed]
    assert (table["prediction"], table["right"]) == (names, (claimed == targets).all(1).tolist())
    wrong = np.argwhere(claimed != targets)
    first = wrong[np.argsort(-np.abs(whole[claimed != targets] - 0.5), kind="stable")][:24]
    text = render_markdown(found.report)
    shown = re.findall(r"^- (\S+): (class \d+) (claimed|not seen), ", text, re.MULTILINE)
    expected = [(source.names[i], CLASSES[j], "claimed" if claimed[i, j] else "not seen") for i, j in first.tolist()]
    assert shown == expected


def test_a_comparison_in_blocks_is_that_of_all_at_once(drawn, small):
    logits, labels = drawn
    other = (logits + np.random.default_rng(5).normal(size=logits.shape) * 2).astype(np.float32)
    stored, order = on_file(other), np.random.default_rng(6).permutation(WIDTH)
    reorder_columns(stored, np.argsort(order))
    reorder_columns(stored, order)
    assert np.array_equal(stored, other)
    found = compare(on_file(logits), stored, labels, CLASSES)
    (one, _), (two, _) = judge_at_once(logits, labels), judge_at_once(other, labels)
    assert (found.first, found.second) == (measure(one, CLASSES), measure(two, CLASSES))
    pairs = {
        "top1": [mean_statistic(side.rank == 0) for side in (one, two)],
        "balanced": [recall_statistic(labels, side.rank == 0) for side in (one, two)],
        "macro_f1": [macro_f1_statistic(labels, side.predicted) for side in (one, two)],
        "nll": [mean_statistic(side.loss) for side in (one, two)],
    }
    intervals = bootstrap_all({name: difference_statistic(b, a) for name, (a, b) in pairs.items()}, len(labels))
    assert {each.metric: (each.difference, each.interval) for each in found.differences[:-1]} == {
        name: (each.value, (each.low, each.high)) for name, each in intervals.items()
    }
    right, others = one.rank == 0, two.rank == 0
    for index, each in enumerate(found.per_class):
        mine = labels == index
        if mine.any():
            assert (each.first, each.second) == (right[mine].mean(), others[mine].mean())
        assert (each.support, each.only_first) == (mine.sum(), (right & ~others)[mine].sum())
        assert each.only_second == (others & ~right)[mine].sum()
    alone = np.flatnonzero(right & ~others)
    assert np.array_equal(
        found.select_only(0), alone[np.argsort(-(one.confidence * two.confidence)[alone], kind="stable")]
    )


@dataclass(frozen=True, eq=False)
class Several(ArraySource):
    """Images with several labels each."""

    label_matrix: np.ndarray | None = None


def test_labels_are_matched_in_blocks(small):
    digits = open_digits(DataConfig()).train
    names = tuple(reversed(digits.classes))
    found = convert_to_label_matrix(digits, names)
    assert isinstance(found, np.memmap) and found.dtype == bool
    assert np.array_equal(found, 9 - np.arange(10) == digits.labels[:, None])
    several = Several(*(getattr(digits, one.name) for one in fields(digits)), label_matrix=found)
    assert convert_to_label_matrix(several, digits.classes) is found
    assert np.array_equal(convert_to_label_matrix(several, (*names, "more"))[:, :10], found[:, ::-1])


def test_a_row_that_is_not_finite_is_counted_over_all_blocks(drawn, small):
    logits, labels = drawn
    logits[[3, 500, 990], 2] = np.nan
    for compute in (evaluate_logits, rank_classes, evaluate_labels):
        with pytest.raises(DataError, match="3 of 997 outputs of the model are not finite"):
            compute(on_file(logits), labels if compute is not evaluate_labels else logits > 0, CLASSES)
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
