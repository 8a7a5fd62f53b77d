"""Several labels an image at the command line: from the manifest to predictions."""

import csv
import json

import pytest
from tests.support.quadrants import QUARTERS, quadrants

from vitreous.cli.main import main

SHORT = ("--duration=4st", "--evaluate-every=2st", "--batch=16", "--workers=0", "--schedule.warmup=1st")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return quadrants(tmp_path_factory.mktemp("sets"), split=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, sets):
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", str(sets), "--out", str(out), *SHORT]) == 0
    return out


def test_training_tells_what_it_does(vitreous, sets, here):
    shown = vitreous("train", sets, "--out=run", *SHORT).worked(
        "several labels an image: a sigmoid for each of the 4 labels (objective.loss sigmoid)",
        "step 2: validation mAP ",
        "finished: validation mAP ",
        "next: vitreous predict run IMAGES...   or   vitreous evaluate run",
    )
    assert "top-1" not in shown
    vitreous("inspect", "run").worked("validation  mAP 0.", "next: vitreous evaluate run")
    vitreous("inspect", "run/model").worked("top left, top right; several an image, or none", "validation mAP 0.")
    vitreous("inspect", sets).worked("classes     4", "several labels an image: ")


def test_softmax_is_refused(vitreous, sets, here):
    vitreous("train", sets, "--objective.loss=softmax", "--out=run").refused("several labels an image", "sigmoid")
    assert not (here / "run").exists()


def test_predictions_list_the_labels_that_are_there(vitreous, run, sets):
    images = sets.parent / "images"
    rows = list(csv.DictReader(vitreous("predict", run, images, "--format=csv", "--top=4").worked().splitlines()))
    lines = [
        json.loads(line) for line in vitreous("predict", run, images, "--format=jsonl", "--top=4").worked().splitlines()
    ]
    table = vitreous("predict", run, images, "--top=4").worked().splitlines()
    assert len(rows) == len(lines) == len(table) == 64
    for row, line, shown in zip(rows, lines, table, strict=True):
        there = [row[f"label{n}"] for n in ("", 2, 3, 4) if float(row[f"score{n}"]) >= 0.5]
        assert row["labels"] == ";".join(there)
        assert line["labels"] == there
        each = [f"{one['label']} {one['score']:.1%}" for one in line["top"]]
        first, others = "   ".join(each[: len(there)]) or "none", "   ".join(each[len(there) :])
        assert shown == f"{row['name']}  {first}" + (f"   ({others})" if others else "")


@pytest.mark.parametrize("data", ["", "sets"])
def test_evaluation_reports_labels(vitreous, run, sets, here, data):
    named = [sets] if data else []
    shown = vitreous("evaluate", run, *named, "--out=found", "--json=all.json", "--no-speed").worked(
        "mean average precision"
    )
    assert "top-1" not in shown
    found = json.loads((here / "all.json").read_text())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["mean_average_precision"] == pytest.approx(last["map"])
    assert [one["name"] for one in found["per_label"]] == list(QUARTERS)
    assert "Each label, by average precision" in (here / "found" / "report.html").read_text()


def test_one_label_an_image_is_a_set_of_one(vitreous, run, sets, here):
    (here / "top left").mkdir()
    (here / "top left" / "a.png").write_bytes((sets.parent / "images" / "1.png").read_bytes())
    (here / "one.csv").write_text("path,label\ntop left/a.png,top left\n")
    vitreous("evaluate", run, "one.csv", "--out=found", "--no-speed").worked(
        "mean average precision    1.0000", "with 1 labels"
    )


def test_what_needs_one_label_is_refused(vitreous, run, trained, sets, here):
    needs = "several labels per image, but comparisons, corruptions, merge curves and packed images need one label per image"
    vitreous("evaluate", run, "--corruptions=all").refused(f"{run} gives {needs}")
    vitreous("evaluate", run, "--compare", run).refused(f"{run} gives {needs}")
    vitreous("evaluate", trained, "--compare", run).refused(f"{run} gives {needs}")
    vitreous("evaluate", run, "--protocol=knn").refused("several labels an image, but a probe of features needs one")
    vitreous("evaluate", run, sets, "--protocol=few-shot").refused("a probe of features needs one label an image")
    vitreous("study", "positions", "--data", sets, "--scale=smoke").refused("a study needs one label an image")
    (here / "lion.csv").write_text(f"path,labels\n{sets.parent}/images/1.png,lion\n")
    vitreous("evaluate", run, "lion.csv").refused("not trained on: 'lion'", "known: bottom left")


def test_where_it_looks_is_told_with_sigmoids(vitreous, run, sets, here):
    vitreous("explain", run, sets.parent / "images" / "1.png", "--out=looks").worked("page")
    assert (here / "looks" / "index.html").is_file()
