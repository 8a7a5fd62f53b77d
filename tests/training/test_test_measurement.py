"""The test split is measured once, by the model that is handed over, and every look at it is noted."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.support.pictures import write
from tests.support.training import TINY, Listener

import vitreous
from vitreous.cross_validation import begin_folds, plan_folds
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources.base import FileSource
from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.accuracy import evaluate, outputs
from vitreous.evaluation.final_test import read_measurements
from vitreous.evaluation.handover import describe_handover
from vitreous.metrics.classification import wilson_interval
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.training import loop
from vitreous.training.changes import Changes
from vitreous.training.run import resume, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with the three splits, and one with two of them."""
    root = tmp_path_factory.mktemp("data")
    seed = 0
    for place, splits in (("three", {"train": 8, "val": 3, "test": 4}), ("two", {"train": 8, "test": 4})):
        for split, count in splits.items():
            for label in ("a", "b"):
                for number in range(count):
                    write(root / place / split / label / f"{number}.png", seed=(seed := seed + 1))
    return root


def config(path, **changed):
    model = replace(TINY.model, classes=2, channels=3)
    settings = {"duration": "3st", "evaluate_every": "1st", "batch": 8, "model": model, **changed}
    preprocess = replace(TINY.preprocess, mode="RGB")
    return replace(TINY, data=DataConfig(str(path), test_split="once"), preprocess=preprocess, **settings)


@pytest.mark.parametrize("export", ["best", "last"])
@pytest.mark.parametrize("place", ["three", "two"])
def test_what_is_handed_over_is_measured_once(data, tmp_path, export, place):
    result = train(config(data / place, export=export), tmp_path / "run")
    test = open_source(str(data / place / "test"))
    metrics, _, _ = evaluate(Predictor.load(result.run, device="cpu"), test)
    (record,) = [json.loads(line) for line in (result.run / "test.jsonl").read_text().splitlines()]
    assert (record["top1"], record["images"], record["by"]) == (metrics.top1, 8, "train")
    assert record["loss"] == pytest.approx(metrics.nll, rel=1e-5)
    assert record["step"] == result.handover.exported
    low, high = wilson_interval(round(metrics.top1 * 8), 8)
    said = dict(result.handover.lines)["test"]
    assert said.startswith(f"top-1 {metrics.top1:.2%} (95% interval {low:.1%} to {high:.1%})")
    assert "on 8 test images; measured once, 20" in said and str(result.test) in said


def test_no_evaluation_on_the_way_sees_it(data, tmp_path, monkeypatch):
    """Nor any training step: what is read of it is read once the last step is done."""
    test, seen = (
        {(data / "three" / "test" / name).read_bytes() for name in open_source(str(data / "three" / "test")).names},
        [],
    )
    original = loop.fit

    read = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, index: seen.append(found := read(self, index)) or found)
    during = []

    def fit(*given):
        found = original(*given)
        during.extend(seen)
        return found

    monkeypatch.setattr("vitreous.training.run.fit", fit)
    train(config(data / "three"), tmp_path / "run")
    assert during and not test & set(during)
    assert test <= set(seen)


def test_going_on_with_a_finished_run_looks_no_second_time(data, tmp_path, monkeypatch):
    run = train(config(data / "three"), tmp_path / "run").run
    before = (run / "test.jsonl").read_bytes()
    assert resume(run).test is not None
    assert (run / "test.jsonl").read_bytes() == before
    longer = resume(run, changes=Changes(duration="6st"))
    assert [one.figures.step for one in read_measurements(run)] == [3, 6]  # other weights: another look, and it is said
    assert "measured 2 times since" in dict(longer.handover.lines)["test"]


def test_a_failure_is_told_and_takes_nothing(data, tmp_path):
    shutil.copytree(data / "three", tmp_path / "three")

    class Removing(Listener):
        def phase(self, name):
            if name.startswith("measuring once"):
                (tmp_path / "three" / "test" / "a" / "0.png").unlink()

    heard = Removing()
    result = train(config(tmp_path / "three"), tmp_path / "other", heard)
    assert result.stopped == "finished" and result.test is None
    assert any("the test split could not be measured" in said for said in heard.messages)


def test_evaluating_it_again_says_how_often_it_was_looked_at(data, tmp_path):
    run = train(config(data / "three"), tmp_path / "run").run
    first, second = (vitreous.evaluate(run, split="test", speed=False, device="cpu") for _ in range(2))
    assert len(first.source) == 8 and first.metrics.top1 == read_measurements(run)[0].figures.metrics["top1"]
    assert "its run's test split; before, it was measured once, 20" in str(first)
    assert "before, it was measured 2 times since" in str(second)
    assert [one.by for one in read_measurements(run)] == ["train", "evaluate", "evaluate"]
    plain = vitreous.evaluate(run, speed=False, device="cpu")
    assert "measured on its run's validation split" in str(plain) and len(plain.source) == 6
    assert plain.to_dict()["measured"].startswith("its run's validation split")
    assert len(vitreous.evaluate(run, split="train", speed=False, device="cpu").source) == 16
    assert len(read_measurements(run)) == 3


def test_a_run_of_before_can_be_measured_on_it_and_that_it_was_the_validation_is_told(data, tmp_path):
    old = config(data / "two")
    run = train(replace(old, data=DataConfig(str(data / "two"))), tmp_path / "run").run
    assert not (run / "test.jsonl").exists()
    listener = Listener()
    found = vitreous.evaluate(run, split="test", speed=False, device="cpu", reporter=listener)
    assert len(found.source) == 8 and "never measured before" in str(found)
    assert any("the test split was this run's validation" in said for said in listener.messages)


def test_what_has_no_such_split_is_refused(data, tmp_path):
    run = train(replace(config(data / "three"), data=DataConfig(str(data / "three" / "train"))), tmp_path / "run").run
    with pytest.raises(DataError, match="the data of this run, has no test split"):
        vitreous.evaluate(run, split="test", speed=False, device="cpu")
    with pytest.raises(DataError, match="no test split: it has no splits of its own"):
        vitreous.evaluate(run, data / "three" / "val", split="test", speed=False, device="cpu")
    with pytest.raises(ConfigError, match="must be one of train, validation, test"):
        vitreous.evaluate(run, split="holdout", speed=False, device="cpu")


def test_cross_validation_measures_it_by_its_last_model_alone(data, tmp_path):
    out = tmp_path / "folds"
    result = begin_folds(plan_folds(config(data / "two", duration="2st"), 2), out)
    assert [path.parent.name for path in sorted(out.rglob("test.jsonl"))] == ["final"]
    assert result.test.figures.images == 8
    found = vitreous.evaluate(out, split="test", speed=False, device="cpu")
    assert "before, it was measured once" in str(found)

    every = vitreous.evaluate(out, speed=False, device="cpu")
    assert "each measured by the fold's model that has not seen it, not by this one, which has" in str(every)
    assert len(every.source) == 16 and every.metrics.top1 == pytest.approx(result.metrics["top1"])
    fold = open_dataset(replace(config(data / "two").data, folds=2, fold=1))
    own = outputs(Predictor.load(out / "fold-2", device="cpu"), fold.validation)
    place = {name: index for index, name in enumerate(every.source.names)}
    np.testing.assert_allclose(every.logits[[place[name] for name in fold.validation.names]], own, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="its images are measured by the models of its folds"):
        vitreous.evaluate(out, corruptions="fog", speed=False, device="cpu")
    last = vitreous.evaluate(out / "final", speed=False, device="cpu")
    assert "images that it has learned from" in str(last)
    handover = describe_handover(read_run(out / "final"))
    assert handover is not None and "images that it learned from" in str(handover)
