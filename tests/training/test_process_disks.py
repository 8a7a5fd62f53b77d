"""Several processes whose disk really fills up, or really can't be written: what was saved is whole, and the run goes on."""

import ctypes
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.forked import Forked
from tests.support.ranks import run_ranks
from tests.support.training import TINY
from tests.training.test_distributed import read_whole, told_by
from tests.training.test_kill_processes import work

from vitreous.run_folder import list_checkpoint_steps
from vitreous.training import loop
from vitreous.training.distributed import get_world
from vitreous.training.run import resume, train

NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS of unshare(2)."""


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def with_own_mounts(act: Callable[[], None]) -> None:
    """Do something in a process that may mount file systems, which nobody else sees; skip where that isn't allowed."""

    def enter() -> int:
        if ctypes.CDLL(None).unshare(NEW_MOUNTS):
            return 77
        mount("--make-rprivate", "/")
        act()
        return 0

    process = Forked(enter)
    said = process.communicate(120)
    if process.returncode == 77:
        pytest.skip("this user can't mount a small disk")
    assert process.returncode == 0, said[1]


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["none", "all"])
def test_a_disk_that_is_full_then_read_only_loses_nothing(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, checkpoint_every="2st", evaluate_every="100%", shard=shard)
    straight, disk = tmp_path / "straight", tmp_path / "disk"
    assert [code for code, *_ in run_ranks(lambda rank: work(straight, config), 2)] == [0, 0]
    expected = read_whole(straight / "checkpoints" / "step-12")
    disk.mkdir()
    folder, filler, advance = disk / "run", disk / "filler", loop.advance

    def fill(*given: Any) -> None:
        advance(*given)
        if get_world().rank == 1 and given[0].progress.step == 5:
            while not (folder / "checkpoints" / "step-4").exists():
                time.sleep(0.01)
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 65536):
                        pass
                except OSError:
                    pass

    def act() -> None:
        mount("-t", "tmpfs", "-o", "size=8m", "none", disk)
        with monkeypatch.context() as then:
            then.setattr(loop, "advance", fill)
            codes, lines = told_by(lambda rank: train(config, folder), 2)
        assert codes == [1, 1] and len(lines) == 1, ("full", codes, lines)
        assert "the disk is full. What was saved before is untouched; free some space" in lines[0]
        steps = list_checkpoint_steps(folder)
        assert steps[-1] == 4, steps
        assert [one.name for one in folder.rglob(".*") if one.name != ".lock"] == []
        filler.unlink()
        mount("-o", "remount,ro", disk)
        codes, lines = told_by(lambda rank: resume(folder), 2)
        assert codes == [1, 1] and len(lines) == 1, ("read-only", codes, lines)
        assert "the file system is read-only" in lines[0]
        mount("-o", "remount,rw", disk)
        (folder / "checkpoints").mkdir(exist_ok=True)
        mount("--bind", folder / "checkpoints", folder / "checkpoints")
        mount("-o", "remount,bind,ro", folder / "checkpoints")
        codes, lines = told_by(lambda rank: resume(folder), 2)
        assert codes == [1, 1] and len(lines) == 1, ("read-only checkpoints", codes, lines)
        assert "the file system is read-only" in lines[0]
        assert list_checkpoint_steps(folder) == steps
        subprocess.run(["umount", str(folder / "checkpoints")], check=True)
        assert [code for code, *_ in run_ranks(lambda rank: work(folder, config), 2)] == [0, 0]
        found = read_whole(folder / "checkpoints" / "step-12")
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []

    with_own_mounts(act)
