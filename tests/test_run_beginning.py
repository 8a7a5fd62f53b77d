"""A run folder as it begins: only where nothing else is, whole or not at all, once, and durably."""

import errno
import fcntl
import os

import pytest
import torch

from vitreous import run_folder
from vitreous.errors import RunError, StorageError
from vitreous.run_folder import Run, read_run

CONFIG = {"config": {"model": {"width": 8}}, "steps": 10}
WEIGHTS = {"model.weight": torch.ones(8)}


def test_a_folder_in_use_is_refused(tmp_path):
    with Run.create(tmp_path / "run", CONFIG) as run:
        run.save_checkpoint(7, WEIGHTS, {})
    with pytest.raises(RunError, match=r"already holds a run, at step 7; resume it with `vitreous resume"):
        Run.create(run.path, CONFIG)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(RunError, match=r"is not empty \(it holds cat.jpg\); choose a new folder"):
        Run.create(tmp_path / "photos", CONFIG)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "photos" / "cat.jpg", CONFIG)


@pytest.mark.parametrize("late", [False, True], ids=["before the second look", "after it"])
def test_who_comes_second_leaves_the_first_ones_run_alone(tmp_path, monkeypatch, late):
    """On a file system without locks, where another process begins a run between our looks and our config.json."""

    def refuse(*given):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    looks, check, first = [], run_folder._check_free, []

    def look(path):
        check(path)
        looks.append(path)
        if len(looks) == 1 + late and not first:
            with monkeypatch.context() as then:
                then.setattr(run_folder, "_check_free", check)
                first.append(Run.create(path, CONFIG))

    monkeypatch.setattr(run_folder, "_check_free", look)
    with pytest.raises(RunError, match="already holds a run"):
        Run.create(tmp_path / "run", {"config": {}})
    first[0].log({"step": 1})
    first[0].save_checkpoint(1, WEIGHTS, {})
    record = read_run(tmp_path / "run")
    assert (record.config, record.metrics, record.checkpoints) == (CONFIG, [{"step": 1}], [1])


def test_every_new_folder_is_forced_to_the_disk_in_its_parent(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or sync(handle))
    with Run.create(tmp_path / "runs" / "run", CONFIG) as run:
        assert {place.stat().st_ino for place in (tmp_path, run.path.parent, run.path)} <= set(synced)
        synced.clear()
        run.save_checkpoint(1, WEIGHTS, {})
        assert run.path.stat().st_ino in synced


def test_an_empty_folder_is_welcome(tmp_path):
    Run.create(tmp_path, CONFIG).close()
    assert read_run(tmp_path).config == CONFIG


def test_nothing_is_left_when_creating_fails(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        Run.create(tmp_path / "a" / "b" / "run", CONFIG)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="disk is full"):
        Run.create(tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == []
