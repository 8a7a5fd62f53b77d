"""Trackers hold what metrics.jsonl holds, also after an interruption, and no failure of theirs touches the run."""

import json
import sqlite3
from dataclasses import replace

import pytest
from tests.support.training import TINY, Listener, digest

import vitreous
from vitreous.errors import ConfigError
from vitreous.run_folder import read_run
from vitreous.settings import to_dict
from vitreous.training import trackers
from vitreous.training.run import train
from vitreous.training.settings_check import check_ranges
from vitreous.training.trackers import KINDS, Tracker, list_numbers, read_ids


class Break(vitreous.Callback):
    """Breaks a run off after a step."""

    def on_step(self, step, numbers, model):
        if step == 7:
            raise LookupError("broken off")


def go_twice(tmp_path, name):
    """Train with a tracker, broken off after step 7 and resumed; return the run folder and the ids before and after."""
    run = tmp_path / "run"
    settings = to_dict(replace(TINY, track=(name,), layer_statistics=True))
    with pytest.raises(LookupError, match="broken off"):
        vitreous.train(config=settings, out=run, callbacks=[Break()])
    before = read_ids(run)
    vitreous.resume(run)
    return run, before, read_ids(run)


def wanted(run):
    """Return what a tracker should hold: {name: {step: value}}."""
    found = {}
    for record in read_run(run).metrics:
        for name, value in list_numbers(record):
            found.setdefault(name, {})[record["step"]] = value
    assert {"train/loss", "train/gradient_norm", "evaluation/top1", "layers/update_norm/blocks.1"} < found.keys()
    return found


def test_tensorboard_holds_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    run, _, _ = go_twice(tmp_path, "tensorboard")
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for name, values in wanted(run).items():
        held = [(one.step, float(make_ndarray(one.tensor_proto))) for one in events.Tensors(name)]
        assert events.SummaryMetadata(name).plugin_data.plugin_name == "scalars"
        assert held == [(step, pytest.approx(value, rel=1e-6)) for step, value in values.items()]


def test_weights_and_biases_goes_on_with_the_same_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, before, after = go_twice(tmp_path, "wandb")
    assert before == after and before["wandb"]
    parts = sorted((run / "wandb").glob(f"offline-run-*-{before['wandb']}"))
    assert len(parts) == 2 and all(any(part.glob("*.wandb")) for part in parts)
    data = b"".join(file.read_bytes() for part in parts for file in part.glob("*.wandb"))
    assert all(name.encode() in data for name in wanted(run))


def test_mlflow_goes_on_with_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run, before, after = go_twice(tmp_path, "mlflow")
    assert before == after
    client, known = MlflowClient(), before["mlflow"]
    found = client.get_run(known)
    assert found.info.status == "FINISHED" and found.data.params["optimizer.lr"] == "0.003"
    for name, values in wanted(run).items():
        assert {one.step: one.value for one in client.get_metric_history(known, name)} == pytest.approx(values)


def test_trackio_goes_on_with_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    run, before, after = go_twice(tmp_path, "trackio")
    assert before == after
    file = next((tmp_path / "trackio").glob("*.db"))
    rows = sqlite3.connect(file).execute("select step, metrics from metrics where run_name = ?", [before["trackio"]])
    held = {}
    for step, text in rows:
        for name, value in json.loads(text).items():
            held.setdefault(name, {})[step] = value
    assert {name: held[name] for name in wanted(run)} == {
        name: pytest.approx(values) for name, values in wanted(run).items()
    }


class Broken(Tracker):
    """One whose server dies at step 5."""

    name = "wandb"

    def begin(self, settings, step):
        self.logged = []

    def log(self, numbers, step):
        if step == 5:
            raise ConnectionError("no route\nto host")
        self.logged.append(step)

    def end(self, stopped):
        raise AssertionError("it is left behind")


def test_one_that_breaks_off_leaves_the_run_as_it_is(tmp_path, monkeypatch, trained_once):
    monkeypatch.setitem(KINDS, "wandb", Broken)
    for module in ("trackers", "settings_check"):
        monkeypatch.setattr(f"vitreous.training.{module}.require_packages", lambda *given: None)
    listener = Listener()
    result = train(replace(TINY, track=("wandb",)), tmp_path / "run", listener)
    said = "--track wandb broke off (no route to host); metrics.jsonl goes on"
    assert listener.messages.count(said) == 1
    assert digest(result.run) == digest(trained_once(TINY).run)


def test_one_that_is_not_installed_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("vitreous.runtime.packages.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"--track mlflow needs mlflow, not installed: pip install 'vitreous\[track\]'"
    ):
        check_ranges(replace(TINY, track=("mlflow",)))


def test_ids_that_are_damaged_count_as_none(tmp_path):
    assert trackers.read_ids(tmp_path) == {}
    (tmp_path / "tracking.json").write_text("[3")
    assert trackers.read_ids(tmp_path) == {}
