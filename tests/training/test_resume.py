"""Going on with a run keeps to what the run was told."""

import shutil
from pathlib import Path

import torch

import vitreous
from vitreous import api
from vitreous.runs import read_run


def test_as_many_checkpoints_are_kept_as_before(tmp_path: Path) -> None:
    settings = {"duration": "10st", "evaluate_every": "10st", "checkpoint_every": "2st", "keep_checkpoints": 4}
    run = api.train("digits", out=tmp_path / "run", settings=settings).run
    kept = ["step-10", "step-4", "step-6", "step-8"]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept
    for lost in ("step-8", "step-10"):
        shutil.rmtree(run / "checkpoints" / lost)
    api.resume(run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept


def test_a_result_holds_numbers_alone(tmp_path: Path) -> None:
    settings = {"duration": "2st", "evaluate_every": "2st"}
    metrics = api.train("digits", out=tmp_path / "run", settings=settings).metrics
    assert {"step", "loss", "top1", "top5", "ece"} <= set(metrics)
    assert all(type(value) in (int, float) for value in metrics.values())


def test_a_run_names_the_versions_that_wrote_it(tmp_path: Path) -> None:
    run = api.train("digits", out=tmp_path / "run", settings={"duration": "2st", "evaluate_every": "2st"}).run
    environment = read_run(run).config["environment"]
    assert environment["vitreous"] == vitreous.__version__
    assert environment["torch"] == torch.__version__
