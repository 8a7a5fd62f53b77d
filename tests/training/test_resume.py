"""Going on with a run keeps to what the run was told."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.support.training import TINY, Listener

import vitreous
from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.run_folder import Run, read_run
from vitreous.training import loop
from vitreous.training import run as running
from vitreous.training.changes import Changes
from vitreous.training.config import EarlyStopConfig, RunConfig
from vitreous.training.run import resume, train

NORMED = replace(
    TINY,
    duration="2st",
    model=ResNetConfig(
        image=(8, 8), channels=1, units=(1, 1, 1, 1), root="3x3", root_channels=8, norm="batch", classes=10
    ),
)
"""Of batch norm, with a last map of a single place."""


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


def go_on(run: Path, **changes: object) -> list[str]:
    listener = Listener()
    resume(run, listener, Changes(**changes))
    return listener.messages


def test_what_computes_elsewhere_is_said_and_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"machine": "aarch64 Linux", "device": "cuda:0", "torch": "2.0.1"}
    with monkeypatch.context() as then:
        then.setattr(running, "describe_place", lambda job: elsewhere)
        then.setattr(running, "read_versions", lambda: {"vitreous": "0.1.0", "torch": "2.0.1"})
        run = train(replace(TINY, duration="4st", device="auto"), tmp_path / "run").run
    assert go_on(run) == ["resuming at step 4 of 4"]  # nothing is computed any more
    place = read_run(run).config["environment"]
    assert {name: place[name] for name in elsewhere} == elsewhere
    said = next(one for one in go_on(run, duration="6st") if "round" in one)
    assert said.startswith("from step 4 on sums may round differently: device cuda:0 -> ")
    assert f"torch 2.0.1 -> {torch.__version__}" in said and "machine aarch64 Linux -> " in said
    recorded = read_run(run).config
    assert recorded["changes"][0]["settings"].keys() == {"duration", *elsewhere}
    assert recorded["environment"]["torch"] == torch.__version__
    assert not any("round" in one for one in go_on(run, duration="8st"))


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (NORMED, {"micro_batch": 1}, "batch norm needs more than one value"),
        (replace(TINY, precision="bf16"), {"workers": 0}, r"computes in bf16, .* --weights .* --precision fp32"),
        (replace(TINY, packed=4, augment=AugmentConfig(crop="inception")), {"shard": "all"}, "--shard none"),
    ],
    ids=["batch norm", "bf16", "packed"],
)
def test_what_a_new_run_could_not_begin_with_is_refused(
    config: RunConfig, changes: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(replace(config, duration="2st"), tmp_path / "run").run
    monkeypatch.setattr(running, "computes_bf16", lambda device: False)
    with pytest.raises(ConfigError, match=words):
        resume(run, None, Changes(duration="4st", **changes))
    assert resume(run).stopped == "finished"


def test_batch_norm_in_other_parts_is_said(tmp_path: Path) -> None:
    run = train(NORMED, tmp_path / "run").run
    said = next(one for one in go_on(run, duration="4st", micro_batch=8) if "micro_batch" in one)
    assert said.endswith(
        "micro_batch 0 -> 8; batch norm normalises 8 examples at a time, 32 before, which changes more than rounding"
    )


def test_a_lengthened_run_that_stopped_early_stays_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengthened at the very step whose evaluation stops it then."""
    still = replace(TINY, optimizer=replace(TINY.optimizer, lr=0.0), early_stop=EarlyStopConfig(patience=1))
    evaluate = loop.evaluate

    def interrupt(job, run, reporter, asked):
        if job.progress.step < 8:
            return evaluate(job, run, reporter, asked)
        asked.requested = signal.SIGTERM
        return None

    with monkeypatch.context() as then:
        then.setattr(loop, "evaluate", interrupt)
        assert train(still, tmp_path / "run").stopped == "interrupted"
    assert resume(tmp_path / "run", None, Changes(duration="40st")).stopped == "early"
    again = resume(tmp_path / "run")
    assert (again.stopped, again.metrics["step"]) == ("early", 8)


def test_a_lengthened_run_says_that_its_resolution_is_low_again(tmp_path: Path) -> None:
    config = replace(TINY, low_resolution=0.5, low_resolution_duration="90%", duration="10st")
    run = train(config, tmp_path / "run").run
    assert any("and the resolution is low again until step 18" in one for one in go_on(run, duration="20st"))


def test_a_run_killed_before_its_first_checkpoint_records_its_beginning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(Run, "save_checkpoint", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        then.setattr(loop, "train_step", lambda *given: (_ for _ in ()).throw(loop.NonFiniteStep(float("nan"), 1.0, 0)))
        with pytest.raises(loop.NonFiniteLoss):
            train(TINY, tmp_path / "run")
    resume(tmp_path / "run")
    assert {one["kind"] for one in read_run(tmp_path / "run").metrics} == {"train", "evaluation"}
