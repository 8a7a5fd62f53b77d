"""Details of an evaluation, what a forward pass costs, and how the report shows them."""

import json

import numpy as np
import pytest
import torch
from tests.reports.test_blocks import Reader

from vitreous.evaluation import throughput as room
from vitreous.evaluation.details import details
from vitreous.evaluation.throughput import cost
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.metrics.calibration import cross_fit_temperature
from vitreous.metrics.classification import evaluate_logits
from vitreous.metrics.ranking import rank_classes
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Report, render_html, render_markdown
from vitreous.reports.evaluation.accuracy import build_sections
from vitreous.weights.model_folder import ModelFolder

CLASSES = tuple(f"class {number}" for number in range(7))


def drawn(examples=120):
    rng = np.random.default_rng(0)
    return rng.normal(size=(examples, 7)).astype(np.float32), rng.integers(6, size=examples)


@pytest.fixture
def predictor():
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=16, depth=1, heads=2, mlp_width=16, classes=7)
    preprocess = PreprocessConfig(size=(8, 8), mode="L", crop=1.0)
    return Predictor(ModelFolder(create(config), preprocess, DecodeConfig(), CLASSES, {}), device="cpu")


def test_the_details_are_those_of_their_own_modules():
    logits, labels = drawn()
    found, metrics = details(logits, labels, CLASSES), evaluate_logits(logits, labels, CLASSES)
    for name in ("balanced", "macro_f1", "nll"):
        one = found.intervals[name]
        assert one.value == pytest.approx(getattr(metrics, name))
        assert one.low < one.value < one.high
    assert found.ranking == rank_classes(logits, labels, CLASSES)
    assert found.scaled == cross_fit_temperature(logits, labels)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["temperature"]["temperatures"] == list(found.scaled.temperatures)
    assert stored["cost"] is None
    assert f"AUROC      {found.ranking.auroc:.4f}" in str(found)


def test_one_image_has_no_temperature():
    found = details(np.zeros((1, 7), np.float32), np.zeros(1, np.int64), CLASSES)
    assert found.scaled is None
    assert found.ranking.auroc is None
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["ranking"]["mean_average_precision"] == 1


def test_cost_is_counted_and_timed(predictor, monkeypatch):
    monkeypatch.setattr(room, "LONG_ENOUGH", 0.5)
    ticks = iter(np.cumsum([0, 9, 1, 0.5, 1, 0.25, 1, 0.2, 1, 0.1]).tolist())
    monkeypatch.setattr(room.time, "perf_counter", lambda: next(ticks))
    seen = []
    forward = predictor.logits
    monkeypatch.setattr(predictor, "logits", lambda pixels: seen.append(pixels) or forward(pixels))
    found = cost(predictor, batch=5)
    # One pass of 9 s warms up; then 0.5, 0.25 and 0.2 s.
    assert [tuple(pixels.shape) for pixels in seen] == [(5, 1, 8, 8)] * 4
    assert (found.images_per_second, found.range) == (pytest.approx(20), (pytest.approx(10), pytest.approx(25)))
    assert found.parameters == sum(one.numel() for one in predictor.model.parameters())
    assert (found.passes, found.batch, found.precision, found.device) == (3, 5, "fp32", "cpu")
    assert found.threads == torch.get_num_threads()
    assert json.loads(json.dumps(found.to_dict()))["passes"] == 3
    assert "20 images/s forward (10 to 25; batch 5, fp32, cpu" in str(found)


def test_fast_passes_are_repeated(predictor, monkeypatch):
    monkeypatch.setattr(room, "LONG_ENOUGH", 0.5)
    monkeypatch.setattr(room, "_time", lambda *_: 0.001)
    assert cost(predictor).passes == room.MOST


def test_the_report_shows_them(predictor):
    logits, labels = drawn()
    found = details(logits, labels, CLASSES, cost(predictor, batch=2))
    metrics = evaluate_logits(logits, labels, CLASSES)
    report = Report("t", "l", build_sections(metrics, found))
    assert [one.anchor for one in report.sections] == ["results", "confusion", "classes", "calibration", "cost"]
    reader = Reader(render_html(report).decode())
    assert not reader.open
    drawings = [dict(attributes) for tag, attributes in reader.tags if tag == "svg"]
    assert sum("Reliability" in one["aria-label"] for one in drawings) == 2
    text = render_markdown(report)
    assert "| class | images | precision | recall | F1 | AUROC | average precision |" in text
    assert "| class 6 | 0 | – | – | – | – | – |" in text
    assert f"{found.cost.flops:,}" in text
    assert "applied to the other, both ways" in text
