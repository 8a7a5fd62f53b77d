"""One process of several is killed, at random instants, in training and while saving, or hangs: the others end, and the run goes on to
the same bits."""

import json
import os
import platform
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from tests.support.forked import Forked
from tests.support.ranks import STUCK, run_ranks, start_ranks
from tests.support.training import TINY
from tests.training.test_distributed import EXACT, read_whole, told_by

from vitreous.cli.main import report_error
from vitreous.errors import ProcessLost, StorageError, VitreousError
from vitreous.run_folder import list_checkpoint_steps
from vitreous.storage import shard_writer
from vitreous.training import distributed, loop, watch
from vitreous.training.config import RunConfig
from vitreous.training.distributed import get_world, join
from vitreous.training.run import resume, train
from vitreous.training.watch import Watch

SIZE = 2
PATIENCE = 0.1
"""Minutes that a process waits for one that may have been killed before they met."""


def start(folder: Path, config: RunConfig) -> list[Forked]:
    """Begin a run in several processes, or go on with it."""
    return start_ranks(lambda rank: work(folder, config, PATIENCE), SIZE)


def work(folder: Path, config: RunConfig, timeout: float = distributed.TIMEOUT) -> int:
    try:
        with join(timeout):
            done = resume(folder) if (folder / "config.json").exists() else train(config, folder)
    except VitreousError as error:
        return report_error(error)
    return 0 if done.stopped == "finished" else 3


def finish(folder: Path, config: RunConfig) -> None:
    """Let a run come to its end."""
    for code, out, err in run_ranks(lambda rank: work(folder, config), SIZE):
        assert code == 0, (out, err)


def read_last(folder: Path) -> dict[str, torch.Tensor]:
    return read_whole(folder / "checkpoints" / f"step-{list_checkpoint_steps(folder)[-1]}")


class Kill(NamedTuple):
    """One kill of a process, and what it found."""

    number: int
    rank: int
    seconds: float
    """Since the processes were started."""
    reached: int
    """The newest step on record."""
    saved: int
    """The newest step that was saved when both processes had ended."""
    saving: bool
    """Whether a checkpoint was being written."""


def kill_and_finish(tmp_path: Path, kills: int, config: RunConfig, seed: int = 0) -> list[Kill]:
    """Run again and again, killing a random process at a random instant, until as many have been killed; every run ends at the
    undisturbed one's bits, and none loses a step that was saved."""
    straight, began = tmp_path / "straight", time.monotonic()
    finish(straight, config)
    whole, expected = time.monotonic() - began, read_last(straight)
    chance, log, folder, before = random.Random(seed), list[Kill](), tmp_path / "broken-0", 0
    while len(log) < kills:
        processes, rank, seconds = start(folder, config), chance.randrange(SIZE), chance.uniform(0, 0.6 * whole)
        time.sleep(seconds)
        killed = processes[rank].poll() is None
        if killed:
            processes[rank].kill()
        saving = any((folder / "checkpoints").glob(".*.partial"))
        said = [process.communicate(STUCK + 30) for process in processes]
        codes = [process.returncode for process in processes]
        assert all(is_expected(code, err) for code, (_, err) in zip(codes, said, strict=True)), said
        saved = max(list_checkpoint_steps(folder), default=0)
        assert saved >= before
        if killed:
            log.append(Kill(len(log) + 1, rank, seconds, read_reached(folder), saved, saving))
        before = saved
        if codes[0] == 0:
            check(folder, config, expected)
            folder, before = tmp_path / f"broken-{len(log)}", 0
    check(folder, config, expected)
    return log


def is_expected(code: int | None, err: str) -> bool:
    """Return whether a process finished, was killed, or reported that it lost the other, without hanging."""
    return "Timeout (" not in err and (code in (0, 1, -9) or (code == 2 and "1 of 2 processes have come" in err))


def read_reached(folder: Path) -> int:
    """Return the newest step that a run has recorded; its last line may be torn."""
    lines = (
        (folder / "metrics.jsonl").read_text().splitlines(keepends=True) if (folder / "metrics.jsonl").exists() else []
    )
    return max((json.loads(line).get("step", 0) for line in lines if line.endswith("\n")), default=0)


def check(folder: Path, config: RunConfig, expected: dict[str, torch.Tensor]) -> None:
    """Let a run come to its end, and hold its weights, averages and optimizer state against those of the undisturbed one."""
    finish(folder, config)
    found = read_last(folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_a_killed_process_costs_no_bit(tmp_path: Path) -> None:
    kill_and_finish(
        tmp_path, 2, replace(EXACT, duration="24st", evaluate_every="9st", checkpoint_every="3st", export="best")
    )


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["none", "all"])
def test_a_hundred_kills_cost_no_bit(shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty for each way to divide a run; -s shows the log. A checkpoint is being written most of the time."""
    monkeypatch.setattr(distributed, "LAST_WORDS", 0.2)
    config = replace(EXACT, duration="40st", evaluate_every="11st", checkpoint_every="2st", export="best", shard=shard)
    log = kill_and_finish(tmp_path, 50, config)
    print(f"\nshard {shard}\nkill  process  seconds  reached  saved  while saving")
    for one in log:
        print(
            f"{one.number:>4}  {one.rank:>7}  {one.seconds:>7.2f}  {one.reached:>7}  {one.saved:>5}  {one.saving!s:>12}"
        )


def test_the_last_finished_step_is_saved_where_another_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = loop.advance

    def die(*given: Any) -> None:
        advance(*given)
        if get_world().rank == 1 and given[0].progress.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(loop, "advance", die)

    def work(rank: int) -> None:
        train(replace(TINY, checkpoint_every="100%", evaluate_every="100%"), tmp_path / "run")

    codes, lines = told_by(work, 2)
    assert codes == [1, -9]
    assert (
        len(lines) == 1
        and "another process of this run has ended" in lines[0]
        and "Step 7 is saved; go on with" in lines[0]
    )
    assert list_checkpoint_steps(tmp_path / "run") == [7]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_while_they_meet_is_missed(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    initialise = dist.init_process_group

    def die(*given: Any, rank: int, **named: Any) -> None:
        if rank == lost:
            os.kill(os.getpid(), signal.SIGKILL)
        initialise(*given, rank=rank, **named)

    monkeypatch.setattr(dist, "init_process_group", die)
    monkeypatch.setattr(distributed, "LAST_WORDS", 0.2)

    def work(rank: int) -> None:
        with join(0.03):
            raise AssertionError

    codes, lines = told_by(work, 2)
    assert codes[lost] == -9 and codes[1 - lost] == 1
    assert len(lines) == 1 and "another process of this run has ended" in lines[0]


def test_a_watch_whose_store_has_gone_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store ends with the first process; to connect to it again is tried for as long as the processes' timeout."""
    monkeypatch.setattr(watch, "LAST_LOOK", 0.2)

    def work(rank: int) -> int:
        with join(0.5) as world:
            if world.leads:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.5)
            with Watch(world):
                raise ProcessLost("the first process has gone")
        return 0

    first, second = start_ranks(work, 2)
    _, err = second.communicate(20)
    assert "ProcessLost: the first process has gone" in err
    first.communicate(5)


@pytest.mark.parametrize("stopped", [False, True], ids=["waits", "stopped"])
def test_a_process_that_hangs_is_named(stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows where it is; one that is stopped, and can't, is named by the first that can."""
    advance = loop.advance

    def hang_in_a_file(*given: Any) -> None:
        advance(*given)
        if get_world().rank == 1 and given[0].progress.step == 3:
            os.kill(os.getpid(), signal.SIGSTOP) if stopped else time.sleep(60)

    monkeypatch.setattr(loop, "advance", hang_in_a_file)
    monkeypatch.setattr(watch, "EARLY", 0.5)

    def work(rank: int) -> int:
        with join(0.1):
            train(replace(TINY, checkpoint_every="100%", evaluate_every="100%"), tmp_path / "run")
        return 0

    processes = start_ranks(work, 2)
    first = processes[0].communicate(30)
    if stopped:
        processes[1].kill()
    second = processes[1].communicate(30)
    said = first[1] + second[1]
    assert processes[0].returncode == 1
    (line,) = [one for one in said.splitlines() if one.startswith("vitreous: ")]
    assert line.startswith(f"vitreous: error: process 1 of 2 ({platform.node()}, process {processes[1].pid}) has ")
    assert "has been silent" in line if stopped else "has not moved" in line
    assert ("in hang_in_a_file" in said) != stopped


@pytest.mark.parametrize("shard", [pytest.param("none", marks=pytest.mark.slow), "all"])
@pytest.mark.slow
def test_a_disk_that_is_full_in_one_process_is_said_once(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoints before it are whole, nothing half-written is left, and with room again the run goes on."""
    config = replace(TINY, checkpoint_every="2st", evaluate_every="100%", shard=shard)
    save, written = shard_writer.save_tensors, []

    def fill(path: Path, tensors: Any) -> str:
        written.append(path)
        if get_world().rank == 1 and len(written) == 3:
            raise StorageError(f"can't write {path}: the disk is full")
        return save(path, tensors)

    with monkeypatch.context() as then:
        then.setattr(shard_writer, "save_tensors", fill)
        codes, lines = told_by(lambda rank: train(config, tmp_path / "run"), 2)
    assert codes == [1, 1]
    assert len(lines) == 1 and "the disk is full" in lines[0]
    assert list_checkpoint_steps(tmp_path / "run") == [2, 4]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert [code for code, *_ in run_ranks(lambda rank: work(tmp_path / "run", config), 2)] == [0, 0]
