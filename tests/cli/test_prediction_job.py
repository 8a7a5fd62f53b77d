"""Predictions in a file: killed at any instant and started again, the command comes to what an undisturbed one does."""

import csv
import json
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as parquet
import pytest
from tests.support import forked
from tests.support.pictures import encoded, picture, write
from tests.support.processor import needs_bf16

from vitreous.cli import prediction_job
from vitreous.errors import StorageError
from vitreous.prediction import Prediction
from vitreous.predictor import Predictor
from vitreous.weights.model_folder import load_model, save_model


@pytest.fixture
def images(here):
    """Write 30 images, one of them broken, one whose name is no UTF-8."""
    for number in range(30):
        write(here / "images" / f"{number:02}.png", encoded(picture(number, 9, 9, 1)))
    write(here / "images" / "07.png", b"no image")
    write(here / "images" / os.fsdecode(b"08-\xff.png"), encoded(picture(50, 9, 9, 1)))
    return here / "images"


@pytest.fixture
def small_parts(monkeypatch):
    """Let parts be of four images."""
    monkeypatch.setattr(prediction_job, "PART", 4)


def options(run, name, *more):
    return ("predict", run, "images", "--out", name, "--batch=2", "--top=3", *more)


def break_off(monkeypatch, after, number=9):
    """Let a command die at once, as by SIGKILL, when it has classified so many images."""
    classify = Predictor._classify

    def dying(self, group):
        dying.seen = getattr(dying, "seen", 0) + len(group)
        if dying.seen > after:
            os.kill(os.getpid(), number)
        yield from classify(self, group)

    monkeypatch.setattr(Predictor, "_classify", dying)


def test_a_job_that_can_not_begin_leaves_nothing(here, monkeypatch):
    def fail(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(prediction_job, "begin_facts", fail)
    with pytest.raises(StorageError):
        prediction_job.PredictionJob(here / "o.csv", {"batch": 2}, [])
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_killed_and_started_again_comes_to_the_same_file(
    vitreous, trained, images, small_parts, here, monkeypatch, kind
):
    assert vitreous(*options(trained, f"whole.{kind}")).code == 1  # one image is broken
    before = 0
    for after in (0, 3, 11, 2, 7):
        with monkeypatch.context() as patch:
            break_off(patch, after)
            done = forked.run(forked.vitreous(*options(trained, f"o.{kind}")))
        assert done.returncode == -9
        assert not (here / f"o.{kind}").exists()
        there = len(list((here / f".o.{kind}.parts").glob("part-*")))
        assert before <= there <= before + after // 4
        before = there
    seen = []
    monkeypatch.setattr(Predictor, "_classify", counted(Predictor._classify, seen))
    ended = vitreous(*options(trained, f"o.{kind}"))
    assert ended.code == 1
    assert before >= 2
    assert f"continuing after the first {4 * before:,}" in ended.out
    assert sum(seen) == 31 - 4 * before  # 31 images
    assert "vitreous: 1 of 31 images could not be read" in ended.err
    assert (here / f"o.{kind}").read_bytes() == (here / f"whole.{kind}").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["images", f"o.{kind}", f"whole.{kind}"]


def counted(classify, seen):
    def counting(self, group):
        seen.append(len(group))
        yield from classify(self, group)

    return counting


@pytest.mark.slow
def test_sigkill_at_random_instants(trained, images, small_parts, here):
    """What is there is never half of a file, and the end is always the same."""
    begun = time.monotonic()
    assert forked.run(forked.vitreous(*options(trained, "whole.csv"))).returncode == 1
    whole, chance = time.monotonic() - begun, np.random.default_rng(0)
    for number in range(5):
        name = f"{number}.csv"
        while True:
            process = forked.Forked(forked.vitreous(*options(trained, name, "--overwrite")))
            time.sleep(chance.uniform(0, 1.1 * whole))
            process.kill()
            process.communicate()
            if (here / name).exists():
                assert (here / name).read_bytes() == (here / "whole.csv").read_bytes()
                break
        assert forked.run(forked.vitreous(*options(trained, name, "--overwrite"))).returncode == 1
        assert (here / name).read_bytes() == (here / "whole.csv").read_bytes()
        assert not list(here.glob(f".{name}*"))


def test_killed_after_the_file_took_its_name(vitreous, trained, images, small_parts, here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prediction_job, "remove_folder", lambda _: os.kill(os.getpid(), 9))
        assert forked.run(forked.vitreous(*options(trained, "o.csv"))).returncode == -9
    before = (here / "o.csv").read_bytes()
    assert (here / ".o.csv.parts").exists()
    assert vitreous(*options(trained, "o.csv")).code == 1
    assert (here / "o.csv").read_bytes() == before
    assert not (here / ".o.csv.parts").exists()
    vitreous(*options(trained, "o.csv")).refused("o.csv already exists")


def test_a_file_that_another_made_meanwhile_stays(vitreous, trained, images, small_parts, here, monkeypatch):
    begin(monkeypatch, trained)
    write(here / "o.csv", b"mine")
    vitreous(*options(trained, "o.csv")).refused("o.csv already exists")
    assert (here / "o.csv").read_bytes() == b"mine"


def begin(monkeypatch, run):
    """Begin o.csv, and let the command be killed behind two parts."""
    with monkeypatch.context() as patch:
        break_off(patch, 10)
        assert forked.run(forked.vitreous(*options(run, "o.csv"))).returncode == -9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--top=2"], "was begun with top 3, now it is 2"),
        (["--threshold=0.4"], "was begun with threshold None, now it is 0.4"),
        (["--tta=flip"], "was begun with tta none, now it is flip"),
        (["--batch=4"], "was begun with batch 2, now it is 4"),
        pytest.param(["--precision=bf16"], "was begun with precision fp32, now it is bf16", marks=needs_bf16),
        (["--decode=reduced"], "was begun with decode"),
        (["--every=2"], "was begun with every 1.0, now it is 2.0"),
        ("added", "was begun with 31 images, now there are 32"),
        ("changed", "other images: one of them was changed or renamed"),
        ("model", "another model"),
        ("versions", "now it is {'vitreous': '0', 'torch': '0'}"),
        ("damaged", "remove .o.csv.parts to start over"),
    ],
)
def test_what_has_changed_is_refused(vitreous, trained, images, small_parts, here, monkeypatch, change, words):
    begin(monkeypatch, trained)
    if change == "added":
        write(images / "99.png", encoded(picture(1, 9, 9, 1)))
    if change == "changed":
        write(images / "20.png", encoded(picture(99, 9, 9, 1)))
    if change == "damaged":
        part = here / ".o.csv.parts" / "part-000000.jsonl"
        part.write_bytes(part.read_bytes()[:-9])
    if change == "model":
        save_model(here / "other", replace(load_model(trained), classes=tuple("abcdefghij")))
    if change == "versions":
        monkeypatch.setattr(prediction_job, "find_version", lambda name: "0")
    model = "other" if change == "model" else trained
    vitreous(*options(model, "o.csv", *(change if isinstance(change, list) else ()))).refused(words)
    assert not (here / "o.csv").exists()
    assert (here / ".o.csv.parts" / "job.json").exists()


def test_two_at_once_and_an_interruption(vitreous, trained, images, small_parts, here, monkeypatch):
    with monkeypatch.context() as patch:
        break_off(patch, 10, number=2)
        done = forked.run(forked.vitreous(*options(trained, "o.csv")))
    assert done.returncode == 130
    assert "vitreous: the same command continues after the first " in done.stderr
    with prediction_job.FolderLock(here / ".o.csv.parts"):
        vitreous(*options(trained, "o.csv")).refused(".o.csv.parts is already open in this process")
    assert vitreous(*options(trained, "o.csv")).code == 1


def test_parquet_holds_what_json_lines_do(vitreous, trained, images, here):
    for name in ("o.parquet", "o.jsonl", "o.csv"):
        done = vitreous(*options(trained, name, "--threshold=0.2"))
        assert f"30 predictions are in {name}\nnext: python -c" in done.out
    rows = parquet.read_table(here / "o.parquet").to_pylist()
    lines = [json.loads(line) for line in (here / "o.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines) == 31
    for row, line in zip(rows, lines, strict=True):
        assert row["name"].replace("\ufffd", "\udcff") == line["name"]
        assert (row["unknown"], row["reduction"]) == (line.get("unknown", False), 1)
        assert all(row[key] == line[key] for key in ("label", "score", "top", "error"))
    assert [row["error"] for row in rows if row["label"] is None] == [lines[7]["error"]]
    assert next(csv.reader((here / "o.csv").open(errors="surrogateescape")))[0] == "name"


def test_parquet_needs_a_file_and_pyarrow(vitreous, trained, images, here, monkeypatch):
    vitreous("predict", trained, "images", "--format=parquet").refused("name it with --out")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    vitreous("predict", "nowhere", "images", "--out=o.parquet").refused("pip install 'vitreous[data]'", "--format csv")
    assert sorted(path.name for path in here.iterdir()) == ["images"]


def test_predictions_come_back_as_they_were():
    top = (("a\udcff", 0.1 + 0.2), ("b", 1e-300))
    for one in (
        Prediction("x\udcff\n", "a\udcff", 0.1 + 0.2, top, reduction=4, unknown=True, filled=True, certainty=0.25),
        Prediction("x", error="broken", partial=True),
        Prediction("x", "b", 0.5, top, labels=("b",), certainty=0.0),
    ):
        values = json.loads(json.dumps(prediction_job.asdict(one)))
        assert prediction_job._revive(values) == one
