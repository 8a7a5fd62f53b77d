"""Going on with a run keeps to what the run was told."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import vitreous
from vitreous.run_folder import read_run


def test_as_many_checkpoints_are_kept_as_before(tmp_path: Path) -> None:
    settings = {"duration": "10st", "evaluate_every": "10st", "checkpoint_every": "2st", "keep_checkpoints": 4}
    run = vitreous.train("digits", out=tmp_path / "run", settings=settings).run
    kept = ["step-10", "step-4", "step-6", "step-8"]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept
    for lost in ("step-8", "step-10"):
        shutil.rmtree(run / "checkpoints" / lost)
    vitreous.resume(run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept


def test_data_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: None) -> None:
    place = tmp_path / "first"
    for number in range(12):
        (place / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(place / "photos" / "ab"[number % 2] / f"{number}.png")
    monkeypatch.chdir(place)
    settings = {"duration": "4st", "evaluate_every": "4st", "checkpoint_every": "2st", "schedule": {"warmup": "0st"}}
    run = vitreous.train("photos", out="run", settings=settings | {"workers": 0}).run
    shutil.rmtree(run / "checkpoints" / "step-4")
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    resumed = vitreous.resume(place / "run")
    assert "This part can't be drawn" not in (place / "run" / "report.html").read_text()
    assert "No data" not in (place / "run" / "report.html").read_text()
    assert read_run(place / "run").config["config"]["data"]["path"] == "photos"
    place.rename(tmp_path / "moved")
    assert vitreous.resume(tmp_path / "moved" / "run").metrics == resumed.metrics


def test_a_result_holds_numbers_alone(tmp_path: Path) -> None:
    settings = {"duration": "2st", "evaluate_every": "2st"}
    metrics = vitreous.train("digits", out=tmp_path / "run", settings=settings).metrics
    assert {"step", "loss", "top1", "top5", "ece"} <= set(metrics)
    assert all(type(value) in (int, float) for value in metrics.values())


def test_a_run_names_the_versions_that_wrote_it(tmp_path: Path) -> None:
    run = vitreous.train("digits", out=tmp_path / "run", settings={"duration": "2st", "evaluate_every": "2st"}).run
    environment = read_run(run).config["environment"]
    assert environment["vitreous"] == vitreous.__version__
    assert environment["torch"] == torch.__version__
