"""Callers' own code beside a run: it hears everything in order, changes no bit, and loses nothing when it fails."""

import json
from dataclasses import replace

import pytest
import torch
from tests.support.training import TIMED, TINY, digest

import vitreous
from vitreous.errors import ConfigError
from vitreous.run_folder import read_run
from vitreous.settings import to_dict
from vitreous.training.callbacks import add_callbacks


class Diary(vitreous.Callback):
    """Keeps what it hears, and does with the model what a curious user does."""

    def __init__(self):
        self.heard, self.steps, self.records = [], [], []

    def on_begin(self, run, config, step):
        self.heard.append(("begin", step))
        self.folder, self.config = run, config

    def on_step(self, step, numbers, model):
        self.steps.append((step, dict(numbers)))
        torch.rand(3)
        model.eval()
        with torch.no_grad():
            assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)

    def on_record(self, record):
        self.records.append(dict(record))

    def on_evaluation(self, step, numbers, best):
        self.heard.append(("evaluation", step, best))
        assert 0 <= numbers["top1"] <= 1

    def on_checkpoint(self, step, folder):
        self.heard.append(("checkpoint", step))
        assert json.loads((folder / "state.json").read_bytes())["step"] == step

    def on_end(self, stopped):
        self.heard.append(("end", stopped))


def test_they_hear_of_everything_and_change_no_bit(go, trained_once):
    diary = Diary()
    with add_callbacks([diary]):
        result = go()
    assert digest(result.run) == digest(trained_once(TINY).run)
    metrics = read_run(result.run).metrics
    assert diary.records == metrics and diary.folder == result.run and diary.config == TINY
    best = {one["step"]: one["best"] for one in metrics if one["kind"] == "evaluation"}
    assert diary.heard == [
        ("begin", 0),
        *(one for step in (4, 8, 12) for one in (("evaluation", step, best[step]), ("checkpoint", step))),
        ("end", "finished"),
    ]
    assert [step for step, _ in diary.steps] == list(range(1, 13))
    train = [one for one in metrics if one["kind"] == "train"]
    for (_, numbers), one in zip(diary.steps, train, strict=True):
        assert numbers == pytest.approx({name: one[name] for name in ("loss", "gradient_norm", "lr")}, rel=1e-6)
    go()
    assert diary.heard.count(("begin", 0)) == 1  # it heard of that run alone


def test_one_that_fails_ends_the_run_and_the_last_step_is_saved(tmp_path, trained_once):
    class Fragile(Diary):
        def on_step(self, step, numbers, model):
            if step == 6:
                raise LookupError("no room in my diary")

    fragile, settings = Fragile(), to_dict(replace(TINY))
    with pytest.raises(LookupError, match="no room"):
        vitreous.train(config=settings, out=tmp_path / "run", callbacks=[fragile])
    assert fragile.heard[-1] == ("end", "failed")
    assert read_run(tmp_path / "run").checkpoints[-1] == 6
    diary = Diary()
    vitreous.resume(tmp_path / "run", callbacks=[diary])
    assert diary.heard[0] == ("begin", 6) and [step for step, _ in diary.steps] == list(range(7, 13))
    assert digest(tmp_path / "run") == digest(trained_once(TINY).run)


def test_one_that_fails_on_a_record_leaves_the_counts_right(tmp_path, trained_once):
    class Fragile(vitreous.Callback):
        def on_record(self, record):
            if record["step"] == 6:
                raise LookupError

    settings = to_dict(replace(TINY, layer_statistics=True))
    with pytest.raises(LookupError):
        vitreous.train(config=settings, out=tmp_path / "run", callbacks=[Fragile()])
    vitreous.resume(tmp_path / "run")
    for name in ("train", "layers"):
        found, expected = (
            [strip_times(one) for one in read_run(run).metrics if one["kind"] == name]
            for run in (tmp_path / "run", trained_once(replace(TINY, layer_statistics=True)).run)
        )
        assert found == expected
    states = [
        json.loads((run / "checkpoints" / "step-12" / "state.json").read_text())["state"]
        for run in (tmp_path / "run", trained_once(replace(TINY, layer_statistics=True)).run)
    ]
    assert states[0]["recent"] == states[1]["recent"]


def strip_times(record):
    return {name: value for name, value in record.items() if name not in TIMED}


def test_what_is_no_callback_is_refused_before_anything_is_written(tmp_path):
    for wrong, said in ((Diary, "Diary"), (print, "builtin_function_or_method")):
        with pytest.raises(ConfigError, match=f"callbacks holds {said}; expected objects"):
            vitreous.train("digits", out=tmp_path / "run", callbacks=[wrong])
    assert not (tmp_path / "run").exists()


def test_a_searchs_runs_are_all_heard(tmp_path):
    diary = Diary()
    vitreous.train(config=to_dict(TINY), out=tmp_path / "rates", rates=[1e-3, 3e-3], callbacks=[diary])
    assert diary.heard.count(("begin", 0)) == diary.heard.count(("end", "finished")) == 3


def test_layer_statistics_are_those_of_the_step(go, trained_once):
    """Against the weights themselves: of two checkpoints a step apart, and of the gradient's whole norm."""
    result = go(layer_statistics=True, checkpoint_every="1st", evaluate_every="12st", keep_checkpoints=20)
    assert digest(result.run) == digest(trained_once(TINY).run)
    metrics = read_run(result.run).metrics
    layers = [one for one in metrics if one["kind"] == "layers"]
    train = [one for one in metrics if one["kind"] == "train"]
    assert [one["step"] for one in layers] == list(range(1, 13))
    for one, record in zip(layers, train, strict=True):
        assert sum(norm**2 for norm in one["layer_gradient_norm"].values()) ** 0.5 == pytest.approx(
            record["gradient_norm"], rel=1e-5
        )
    from vitreous.storage.snapshot import read_snapshot

    old, new = (read_snapshot(result.run / "checkpoints" / f"step-{step}")[0] for step in (6, 7))
    found = layers[6]
    assert set(found["weight_norm"]) > {"blocks.0", "blocks.1", "head", "norm"}
    for name, norm in found["weight_norm"].items():
        mine = [key for key in old if key.startswith(f"model.{name}.") or key == f"model.{name}"]
        assert norm == pytest.approx(sum(float(old[key].square().sum()) for key in mine) ** 0.5, rel=1e-5)
        change = sum(float((new[key] - old[key]).square().sum()) for key in mine) ** 0.5
        assert found["update_norm"][name] == pytest.approx(change, rel=1e-4)


def test_training_records_say_how_the_machine_was_used(trained_once):
    train = [one for one in read_run(trained_once(TINY).run).metrics if one["kind"] == "train"]
    for one in train:
        assert 0 <= one["data_wait"] <= 1 and 2**26 < one["memory"] < 2**40 and one["gradient_norm"] > 0
        assert "mfu" not in one  # of this processor nobody knows the peak
