"""Noisy Student's rounds: what each run sees, the same bits however often the work is broken off, and wrong inputs in one line."""

import csv
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.forked import Forked
from tests.support.training import TINY, Listener, digest
from tests.support.unlabelled import write_digits

import vitreous
from vitreous.data.config import DataConfig
from vitreous.errors import CheckpointError, ConfigError, DataError, RunError
from vitreous.run_folder import read_run
from vitreous.self_training import rounds
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.self_training.rounds import begin_rounds, describe_rounds, plan_rounds, read_plan
from vitreous.training.run import train
from vitreous.weights.model_folder import save_model

OPTIONS = SelfTrainingOptions(rounds=2, threshold=0.35)


def configure(place: Path):
    data = DataConfig(str(place / "labelled"), unlabelled=str(place / "more"), pseudo_ratio=1.0)
    model = replace(TINY.model, classes=3)
    return replace(TINY, data=data, model=model, duration="8st", checkpoint_every="2st", keep_checkpoints=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of data and an undisturbed self-training of two rounds."""
    place = tmp_path_factory.mktemp("self-training")
    write_digits(place)
    result = begin_rounds(plan_rounds(configure(place), OPTIONS), place / "self")
    assert result.model == place / "self" / "model"
    assert "round 2" in str(result)
    return place


def read_labels(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_are_the_teachers_own_on_clean_images(whole):
    for number, teacher in ((1, "teacher"), (2, "round-1")):
        rows = read_labels(whole / "self" / f"labels-{number}.csv")
        predictor = vitreous.load(whole / "self" / teacher)
        assert [row["path"] for row in rows] == sorted(path.name for path in (whole / "more").iterdir())
        for row in rows[:8]:
            found = predictor(whole / "more" / row["path"])
            assert row["label"] == found.label
            assert float(row["confidence"]) == pytest.approx(found.score, abs=1e-5)
            shares = [float(row[f"probability of {name}"]) for name in "012"]
            assert sum(shares) == pytest.approx(1, abs=1e-5)
            assert max(shares) == float(row["confidence"])
            assert (int(row["copies"]) > 0) <= (float(row["confidence"]) >= 0.35)


def test_each_run_is_an_ordinary_one_of_the_same_configuration(whole):
    runs = {name: read_run(whole / "self" / name).config for name in ("teacher", "round-1", "final")}
    data = {name: one["config"].pop("data") for name, one in runs.items()}
    assert runs["teacher"]["config"] == runs["round-1"]["config"] == runs["final"]["config"]
    assert [data[name]["pseudo_labels"] and Path(data[name]["pseudo_labels"]).name for name in data] == [
        None,
        "labels-1.csv",
        "labels-2.csv",
    ]
    for number, name in ((1, "round-1"), (2, "final")):
        rows = read_labels(whole / "self" / f"labels-{number}.csv")
        assert runs[name]["data"]["pseudo_labelled"] == sum(int(row["copies"]) for row in rows)
    assert digest(whole / "self") == digest(whole / "self" / "final") != digest(whole / "self" / "round-1")


def test_the_plan_counts_what_was_kept_of_each_class(whole):
    plan = read_plan(whole / "self")
    rows = read_labels(whole / "self" / "labels-2.csv")
    for name, labelled, kept, examples in plan.results["2"]["kept"]:
        own = [int(row["copies"]) for row in rows if row["label"] == name]
        assert (labelled, kept, examples) == (len(own), sum(count > 0 for count in own), sum(own))
        assert f"{name}: {labelled} labelled, {kept} kept, {examples} with copies" in str(plan)
    page = (whole / "self" / "final" / "report.html").read_text()
    assert "A teacher labelled 40 images" in page
    assert "This part can't be drawn" not in page


def cut(place, what):
    """Leave what a process leaves that died at some moment."""
    self = place / "self"
    shutil.rmtree(self / "model")
    plan = json.loads((self / "self-training.json").read_text())
    if what == "in the last run":
        shutil.rmtree(self / "final" / "model")
        for step in (6, 8):
            shutil.rmtree(self / "final" / "checkpoints" / f"step-{step}")
    else:
        shutil.rmtree(self / "final")
    if what in ("before labels", "in the first round"):
        (self / "labels-2.csv").unlink()
        del plan["reached"]["2"]
    if what == "in the first round":
        del plan["reached"]["1"]
        shutil.rmtree(self / "round-1" / "checkpoints" / "step-8")
    (self / "self-training.json").write_text(json.dumps(plan))


@pytest.mark.parametrize("what", ["in the first round", "before labels", "after labels", "in the last run"])
def test_it_goes_on_to_the_same_bits_even_elsewhere(whole, tmp_path, what):
    shutil.copytree(whole, tmp_path / "moved", ignore=shutil.ignore_patterns(".lock"))
    hidden = whole.rename(whole.with_name("hidden"))
    try:
        cut(tmp_path / "moved", what)
        vitreous.resume(tmp_path / "moved" / "self")
    finally:
        hidden.rename(whole)
    assert digest(tmp_path / "moved" / "self") == digest(whole / "self")
    for number in (1, 2):
        one, other = (place / "self" / f"labels-{number}.csv" for place in (whole, tmp_path / "moved"))
        assert one.read_bytes() == other.read_bytes()


def test_other_images_are_noticed(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "moved", ignore=shutil.ignore_patterns(".lock"))
    hidden = whole.rename(whole.with_name("hidden"))
    try:
        Image.new("L", (8, 8)).save(tmp_path / "moved" / "more" / "new.png")
        with pytest.raises(RunError, match="the images have changed"):
            vitreous.resume(tmp_path / "moved" / "self")
    finally:
        hidden.rename(whole)


def test_the_model_is_found_and_its_data_known(whole):
    shown = str(vitreous.inspect(whole / "self"))
    assert "2 rounds, soft labels" in shown
    assert "next: vitreous predict" in shown
    found = vitreous.evaluate(whole / "self", speed=False)
    assert found.metrics.examples == read_run(whole / "self" / "final").config["data"]["validation"]
    with pytest.raises(ConfigError, match="is a self-training, which continues as it began"):
        vitreous.resume(whole / "self", workers=1)


def test_a_given_teacher_numbers_its_classes_as_it_likes(whole, tmp_path):
    shuffled = tmp_path / "shuffled"
    for label in "012":
        shutil.copytree(whole / "labelled" / label, shuffled / {"0": "b", "1": "c", "2": "a"}[label])
    config = replace(configure(whole), data=DataConfig(str(shuffled)))
    teacher = train(config, tmp_path / "teacher").run
    folder = vitreous.load(teacher).folder
    names = {"b": "0", "c": "1", "a": "2"}
    vitreous_teacher = tmp_path / "renamed"
    save_model(vitreous_teacher, replace(folder, classes=tuple(names[name] for name in folder.classes)))
    options = replace(OPTIONS, rounds=1, targets="hard", at_most=0, at_least=0, threshold=0.0)
    config = replace(configure(whole), teacher=str(vitreous_teacher))
    listener = Listener()
    result = begin_rounds(
        plan_rounds(replace(configure(whole), teacher=str(vitreous_teacher)), options), tmp_path / "self", listener
    )
    rows = read_labels(tmp_path / "self" / "labels-1.csv")
    assert list(rows[0]) == ["path", "label", "confidence", "copies"]
    predictor = vitreous.load(vitreous_teacher)
    assert [row["label"] for row in rows[:9]] == [predictor(whole / "more" / row["path"]).label for row in rows[:9]]
    assert {row["copies"] for row in rows} == {"1"}
    assert not (tmp_path / "self" / "teacher").exists()
    assert vitreous.load(result.run).folder.origin["self_training"]["teacher"] == str(vitreous_teacher)


def test_a_teacher_of_other_classes_is_refused(whole, tmp_path):
    plain = replace(configure(whole), data=DataConfig("digits"), model=replace(TINY.model, classes=10), duration="1st")
    teacher = train(replace(plain, schedule=replace(plain.schedule, warmup="0%")), tmp_path / "teacher").run
    with pytest.raises(
        CheckpointError, match="knows also '3', '4', '5' and 4 more; it must know exactly the 3 classes"
    ) as caught:
        plan_rounds(replace(configure(whole), teacher=str(teacher)), OPTIONS)
    assert caught.value.exit_code == 2


def test_a_threshold_that_leaves_nothing_is_said(whole, tmp_path):
    options, config = (
        replace(OPTIONS, threshold=1.0),
        replace(configure(whole), teacher=str(whole / "self" / "teacher")),
    )
    with pytest.raises(DataError, match="none of the 40 unlabelled images reaches a confidence of 1"):
        begin_rounds(plan_rounds(config, options), tmp_path / "self")


@pytest.mark.parametrize("role", ["once", "stand-in"])
def test_held_out_images_are_neither_learned_from_nor_measured_before_the_end(whole, tmp_path, role):
    data, more = tmp_path / "data", tmp_path / "more"
    for label in "012":
        files = sorted((whole / "labelled" / label).iterdir())
        for split, part in (("train", files[:10]), ("val", files[10:13]), ("test", files[13:16])):
            (data / split / label).mkdir(parents=True)
            for file in part:
                shutil.copy(file, data / split / label)
    shutil.copytree(whole / "more", more)
    for split in ("val", "test"):
        for file in (data / split).rglob("*.png"):
            shutil.copy(file, more / f"{split}-{file.name}")
    config = replace(configure(whole), data=DataConfig(str(data), unlabelled=str(more), test_split=role), batch=8)
    listener, options = Listener(), replace(OPTIONS, threshold=0.0, at_most=0)
    result = begin_rounds(plan_rounds(config, options), tmp_path / "self", listener)
    test = len(list((data / "test").rglob("*.png")))
    said = f"{9 + test} of {49 + test} unlabelled images are among the validation or test images, and are left out"
    assert listener.messages.count(said) == 2
    assert {row["path"] for row in read_labels(tmp_path / "self" / "labels-2.csv")} == {
        path.name for path in (whole / "more").iterdir()
    }
    measured = [path.parent.name for path in (tmp_path / "self").rglob("test.jsonl")]
    assert measured == (["final"] if role == "once" else [])
    assert result.metrics["top1"] == read_run(tmp_path / "self" / "final").metrics[-1]["top1"]
    for split in ("val", "test"):
        assert vitreous.evaluate(tmp_path / "self", data / split, speed=False).overlap is None
    seen = tmp_path / "seen"
    for number in (60, 61):  # labelled since, by hand
        (seen / str(number - 60)).mkdir(parents=True)
        shutil.copy(whole / "more" / f"{number:03}.png", seen / str(number - 60))
    (seen / "2").mkdir()
    shutil.copy(next((data / "test" / "2").iterdir()), seen / "2")
    assert vitreous.evaluate(tmp_path / "self", seen, speed=False).overlap.trained == 2
    with pytest.raises(
        DataError, match=f"{test} of {test} unlabelled images are among the validation or test images; name others"
    ):
        begin_rounds(
            plan_rounds(replace(config, data=replace(config.data, unlabelled=str(data / "test"))), options),
            tmp_path / "b",
        )


@pytest.mark.parametrize(
    "reached", [{"teacher": {}}, {"1": {"kept": [["a"]]}}, {"1": 3}, {"teacher": {"top1": "x"}}, [1], 3]
)
def test_results_that_are_none_are_one_line(whole, tmp_path, reached):
    plan = json.loads((whole / "self" / "self-training.json").read_text())
    (tmp_path / "self-training.json").write_text(json.dumps({**plan, "reached": reached}))
    with pytest.raises(RunError, match=r"self-training\.json can't be read"):
        read_plan(tmp_path)


def test_names_turn_no_text_around(whole):
    kept = [["\u202eabc", 9, 8, 8], ["d\x1b[2J", 5, 4, 4]]
    said = str(replace(read_plan(whole / "self"), results={"1": {"top1": 0.5, "kept": kept}}))
    assert said.count("\ufffdabc") == said.count("d\ufffd[2J") == 2 and len(said.splitlines()) == 3
    assert "\u202e" not in said and "\x1b" not in said


@pytest.mark.parametrize("text", ["[" * 200_000, '{"self_training": 1}', "[]", "3"])
def test_a_damaged_plan_is_one_line(tmp_path, text):
    (tmp_path / "self-training.json").write_text(text)
    with pytest.raises(RunError, match=r"self-training\.json"):
        read_plan(tmp_path)


def test_from_python_by_the_recipe_and_a_dry_run_before(whole, tmp_path):
    settings = {"duration": "4st", "evaluate_every": "4st", "workers": 0, "device": "cpu"}
    how = {"recipe": "noisy-student", "unlabelled": whole / "more", "settings": settings}
    planned = vitreous.train(whole / "labelled", **how, self_training={"rounds": 1}, dry_run=True)
    assert "each labels 40 images (soft, confidence at least 0.3)" in str(planned)
    assert planned.config.data.pseudo_ratio == 3
    result = vitreous.train(whole / "labelled", **how, self_training={"rounds": 1}, out=tmp_path / "self")
    assert (tmp_path / "self" / "labels-1.csv").exists()
    assert result.rounds is not None
    assert np.isfinite(result.metrics["loss"])
    with pytest.raises(ConfigError, match="did you mean 'rounds'"):
        vitreous.train(whole / "labelled", **how, self_training={"round": 1})
    assert "40 images" in describe_rounds(read_plan(tmp_path / "self"))


@pytest.mark.slow
def test_killed_within_and_between_runs_it_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    """SIGKILL as soon as a file of each stage is there: a checkpoint of a run, its end, labels before their student; and once before
    the model folder."""
    out = tmp_path / "self"
    plan = plan_rounds(configure(whole), OPTIONS)

    def work():
        if (out / "self-training.json").exists():
            vitreous.resume(out)
        else:
            begin_rounds(plan, out)
        return 0

    stages = (
        "teacher/checkpoints/step-4",
        "teacher/model",
        "labels-1.csv",
        "round-1/checkpoints/step-6",
        "round-1/model",
        "labels-2.csv",
        "final/checkpoints/step-2",
    )
    for stage in stages:
        process = Forked(work)
        while not (out / stage).exists() and process.poll() is None:
            time.sleep(0.0005)
        process.kill()
        said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
        assert not (out / "final" / "model").exists(), "it was over before it was killed"
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "save_model", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        process = Forked(work)
        said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert (out / "final" / "model").exists()
    assert not (out / "model").exists()
    last = Forked(work)
    said = last.communicate()
    assert last.returncode == 0, said
    assert digest(out) == digest(whole / "self")
    for number in (1, 2):
        assert (out / f"labels-{number}.csv").read_bytes() == (whole / "self" / f"labels-{number}.csv").read_bytes()
    assert read_plan(out).results == read_plan(whole / "self").results
