"""What `evaluate` says of each image: a CSV beside the report, a pandas frame, and mistakes as pictures."""

import csv

import numpy as np
import pytest
from tests.support.quadrants import quadrants

import vitreous as package
from vitreous.cli.main import main

SHORT = ("--duration=4st", "--evaluate-every=2st", "--batch=16", "--workers=0", "--schedule.warmup=1st")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_listed_with_what_became_of_it(vitreous, trained, here):
    vitreous("evaluate", trained, "--no-speed", "--out", "o").worked()
    rows, found = rows_of(here / "o" / "images.csv"), package.evaluate(trained, speed=False)
    scores = found.logits.astype(np.float64)
    scores = np.exp(scores - scores.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    assert [row["path"] for row in rows] == list(found.source.names) and len(rows) == 360
    for row, score, label in zip(rows, scores, found.targets, strict=True):
        assert (row["label"], row["prediction"]) == (str(label), str(score.argmax()))
        assert row["right"] == str(label == score.argmax())
        each = [float(row[f"probability of {name}"]) for name in range(10)]
        assert each == pytest.approx(score.tolist(), rel=1e-4, abs=1e-7)
        assert float(row["probability"]) == max(each)
    assert sum(row["right"] == "True" for row in rows) / 360 == pytest.approx(found.metrics.top1)
    frame = found.to_pandas()
    assert list(frame.columns) == list(rows[0]) and len(frame) == 360
    assert frame["right"].mean() == pytest.approx(found.metrics.top1)


def test_the_surest_mistakes_are_shown(vitreous, trained, here):
    vitreous("evaluate", trained, "--no-speed", "--out", "o").worked()
    wrong = [row for row in rows_of(here / "o" / "images.csv") if row["right"] == "False"]
    surest = max(wrong, key=lambda row: float(row["probability"]))
    page, text = ((here / "o" / name).read_text() for name in ("report.html", "report.md"))
    section = text.partition("## Mistakes")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(lines) == min(24, len(wrong))
    assert lines[0].startswith(f"- {surest['path'].replace('_', chr(92) + '_')}: {surest['prediction']} ")
    assert f"true: {surest['label']}" in lines[0]
    assert page.count('alt="') >= len(lines) and f"{surest['label']}, taken for {surest['prediction']}" in page


def test_several_labels_an_image(tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(quadrants(tmp_path / "sets", split=True)), "--out", str(run), *SHORT]) == 0
    found = package.evaluate(run, speed=False)
    rows = rows_of(found.save(tmp_path / "o").parent / "images.csv")
    classes = found.predictor.folder.classes
    for row, logits, target in zip(rows, found.logits.astype(np.float64), found.targets, strict=True):
        there = [name for name, score in zip(classes, logits, strict=True) if score >= 0]
        true = [name for name, one in zip(classes, target, strict=True) if one]
        assert (row["label"], row["prediction"]) == (";".join(true), ";".join(there))
        assert row["right"] == str(true == there)
        each = [float(row[f"probability of {name}"]) for name in classes]
        assert each == pytest.approx((1 / (1 + np.exp(-logits))).tolist(), rel=1e-4)
    assert "probability" not in rows[0]
