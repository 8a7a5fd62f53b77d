"""A run's report.html: whole whatever the names, and what can't be had is said in its place."""

import json
import shutil

import pytest
from tests.reports.test_blocks import Reader
from tests.support.runs import HOSTILE, write_images, write_run

from vitreous.reports.run.page import SECTIONS, write_report

ANCHORS = [anchor for anchor, _, _ in SECTIONS if anchor != "pseudo-labels"]


def read(run):
    page = write_report(run).read_text(encoding="utf-8")
    reader = Reader(page)
    assert not reader.open
    assert [attributes["id"] for tag, attributes in reader.tags if tag == "section"] == ANCHORS
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "iframe")]
    assert not [value for _, attributes in reader.tags for name, value in attributes.items() if name.startswith("on")]
    for tag, attributes in reader.tags:
        if tag == "img":
            assert attributes["src"].startswith("data:image/")
    return reader, "".join(reader.words)


def test_a_finished_run_has_every_part(tmp_path):
    reader, words = read(write_run(tmp_path / "run"))
    assert not [attributes for _, attributes in reader.tags if attributes.get("class") == "missing"]
    labels = [attributes["aria-label"] for tag, attributes in reader.tags if tag == "svg"]
    assert sum("Reliability diagram" in label for label in labels) == 2
    assert any("Confusion matrix of 10 classes" in label for label in labels)
    assert "After temperature scaling" in words
    assert "Most frequent confusions" in words
    assert "Each class, by F1, the worst first" in words


def test_names_as_hostile_as_a_file_system_lets_them_be(tmp_path):
    _, words = read(write_run(tmp_path / "run", str(write_images(tmp_path / "data"))))
    for name in HOSTILE[:2]:
        assert name.replace("/", "\u2044") in words
    assert "\u202e" not in words


@pytest.mark.parametrize(
    ("options", "words"),
    [({"exported": False}, "no model has been exported yet"), ({"finished": False}, "Not at its planned end.")],
)
def test_what_is_not_there_yet_is_said(tmp_path, options, words):
    assert words in read(write_run(tmp_path / "run", **options))[1]


@pytest.mark.parametrize("why", ["diverged", "failed"])
def test_why_it_broke_off_is_said(tmp_path, why):
    run = write_run(tmp_path / "run", exported=False, finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "stopped", "step": 3, "why": why, "reason": "loss is NaN; lower it"}) + "\n")
    words = read(run)[1]
    assert ("Diverged." in words, "Broken off." in words) == (why == "diverged", why == "failed")
    assert "loss is NaN; lower it (step 3 of 8)" in words and "Not at its planned end" not in words
    assert ("vitreous resume" in words) == (why == "failed")


def test_what_was_measured_on_images_it_learned_from_is_said(tmp_path):
    run = write_run(tmp_path / "run", exported=False)
    config = json.loads((run / "config.json").read_text())
    config["data"]["validation_learned"] = True
    (run / "config.json").write_text(json.dumps(config))
    words = read(run)[1]
    assert "Not held out." in words and "images that it learned from" in words and "95% interval" not in words


def test_data_that_is_gone_is_said(tmp_path):
    run = write_run(tmp_path / "run", str(write_images(tmp_path / "data", ("a", "b"))))
    shutil.rmtree(tmp_path / "data")
    _, words = read(run)
    assert words.count("there is no data to measure on") == 5
    assert "Learning curves" in words
