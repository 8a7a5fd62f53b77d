"""Runs as a table: what their folders say, in the order asked for, with the settings that differ."""

import json

import pytest
from tests.serving.board.test_board import ask, write_run

import vitreous
from vitreous.cli import run_lists
from vitreous.errors import ConfigError, UnknownName
from vitreous.metrics.classification import wilson_interval


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "a", top1=0.75)
    write_run(tmp_path / "deep" / "b", top1=0.9, settings={"batch": 32, "seed": 1})
    gone = {"kind": "stopped", "step": 4, "why": "diverged", "reason": "the loss became\x1b[31m nan"}
    write_run(tmp_path / "c", until=4, evaluated=False, ended=gone, settings={"optimizer": {"lr": 3.0}})
    return tmp_path


def test_each_run_has_its_row(folder):
    found = vitreous.runs(folder, sort="name")
    rows = [(one.name, one.state, one.step, one.steps, one.figure, one.value) for one in found.runs]
    assert rows == [
        ("a", "finished", 10, 10, "top1", 0.75),
        ("c", "diverged", 4, 10, None, None),
        ("deep/b", "finished", 10, 10, "top1", 0.9),
    ]
    assert found.runs[0].interval == wilson_interval(60, 80)
    assert found.differences == {"batch": [64, 64, 32], "optimizer.lr": [0.1, 3.0, 0.1], "seed": [None, None, 1]}
    assert [one.name for one in vitreous.runs(folder, sort="best").runs] == ["deep/b", "a", "c"]
    assert [one.name for one in vitreous.runs(folder, find="diverged").runs] == ["c"]
    assert list(found.to_pandas()["seed"].dropna()) == [1]


def test_images_that_a_run_learned_from_rank_it_last(tmp_path):
    for name, top1 in (("a", 0.5), ("final", 1.0)):
        write_run(tmp_path / name, top1=top1)
    config = json.loads((tmp_path / "final" / "config.json").read_text())
    config["data"]["validation_learned"] = True
    (tmp_path / "final" / "config.json").write_text(json.dumps(config))
    first, last = vitreous.runs(tmp_path, sort="best").runs
    assert (first.name, first.learned, last.name, last.learned, last.interval) == ("a", False, "final", True, None)
    assert last.best == "top-1 100.00% (on images that it learned from)"
    assert "<td>on images that it learned from</td>" in ask(tmp_path, "/").text


def test_the_table_and_the_settings_side_by_side(folder, capsys):
    assert run_lists.runs([str(folder), "--sort", "name"]) == 0
    head, *rows, problem = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "step", "best", "batch", "optimizer.lr", "seed"]
    assert rows[1].split() == ["c", "diverged", "4/10", "–", "64", "3.0", "–"]
    assert "90.00% (" in rows[2] and rows[2].startswith("deep/b") and "\x1b" not in problem
    assert run_lists.runs([str(folder), "--compare", "deep/b", "a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["deep/b", "a"]
    assert [line.split() for line in lines if line.startswith("*")] == [
        ["*", "batch", "32", "64"],
        ["*", "seed", "1", "–"],
    ]
    assert any(line.split() == ["optimizer.lr", "0.1", "0.1"] for line in lines)


def test_json_has_everything(folder, capsys):
    assert run_lists.runs([str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["settings"]["batch"] for one in found["runs"]} == {"a": 64, "c": 64, "deep/b": 32}
    assert set(found["differences"]) == {"batch", "optimizer.lr", "seed"}


def test_long_files_are_read_to_their_end(tmp_path, monkeypatch):
    write_run(tmp_path / "long", steps=5000, until=5000)
    monkeypatch.setattr("vitreous.serving.board.runs.WORK", 0.0)
    monkeypatch.setattr("vitreous.serving.board.runs.CHUNK", 1000)
    assert vitreous.runs(tmp_path).runs[0].step == 5000


def test_a_line_that_is_still_being_written_is_not_waited_for(tmp_path):
    run = write_run(tmp_path / "cut", steps=10, until=5)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert vitreous.runs(tmp_path).runs[0].step == 5


def test_what_is_not_there_is_refused_in_one_line(folder, tmp_path):
    with pytest.raises(ConfigError, match="name a folder of runs"):
        vitreous.runs(folder / "nowhere")
    with pytest.raises(UnknownName, match="deep/b"):
        vitreous.runs(folder, compare=["deep/c"])
    with pytest.raises(UnknownName, match="newest"):
        vitreous.runs(folder, sort="newst")
    (tmp_path / "empty").mkdir()
    assert str(vitreous.runs(tmp_path / "empty")).startswith("no runs in")
