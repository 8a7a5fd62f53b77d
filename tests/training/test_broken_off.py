"""A run that breaks off, whatever died, keeps its last finished step, says so in one line, and goes on to the same bits."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.training import TINY, Listener, digest

from vitreous.errors import FailedError, ImageError, OutOfMeans, OutOfMemory, WorkerKilled, explain_exhaustion
from vitreous.objectives.classification import Classify
from vitreous.run_folder import list_checkpoint_steps
from vitreous.training import validate
from vitreous.training.optimizer import Optimizer
from vitreous.training.run import resume, train

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "137438953472 bytes. Error code 12 (Cannot allocate memory)"
)
CONFIG = replace(TINY, workers=2, ema=0.9, checkpoint_every="100st", evaluate_every="6st")


@pytest.fixture(autouse=True)
def looked_after_soon(monkeypatch):
    """Let torch wait for workers that have been killed, or hang by one that was, for half a second, not five."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return digest(train(replace(CONFIG, workers=0), tmp_path_factory.mktemp("straight") / "run").run)


def kill_a_worker(number: int = signal.SIGKILL) -> None:
    """Kill the newest of them: others may be left of a run before, with higher pids when those have begun anew."""
    newest = max(multiprocessing.active_children(), key=lambda child: int(child.name.rpartition("-")[2]))
    os.kill(newest.pid, number)
    os.waitid(os.P_PID, newest.pid, os.WEXITED | os.WNOWAIT)  # or the last batches are taken before it has died


class KillsAtStep(Listener):
    def progress(self, done, total, numbers):
        if done == 4 and "loss" in numbers:
            kill_a_worker()


def goes_on(run: Path, straight: str) -> None:
    assert digest(resume(run).run) == straight


def test_a_worker_killed_between_two_steps(tmp_path, straight):
    with pytest.raises(
        WorkerKilled, match=r"was killed by SIGKILL, most often for lack of memory; use fewer"
    ) as caught:
        train(CONFIG, tmp_path / "run", KillsAtStep())
    steps = list_checkpoint_steps(tmp_path / "run")
    assert steps[-1] >= 4
    assert f"Step {steps[-1]} is saved; go on with: vitreous resume {tmp_path / 'run'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    goes_on(tmp_path / "run", straight)


def test_a_worker_killed_in_the_middle_of_an_optimizer_step(tmp_path, straight, monkeypatch):
    """Torch's own handler would raise right there, and leave weights that belong to no step."""
    step, taken = Optimizer.step, []

    def killing(self, share):
        taken.append(share)
        if len(taken) == 4:
            kill_a_worker()
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                time.sleep(0.01)
        step(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "step", killing)
        with pytest.raises(WorkerKilled):
            train(CONFIG, tmp_path / "run")
    assert list_checkpoint_steps(tmp_path / "run")[-1] >= 4
    goes_on(tmp_path / "run", straight)


def test_a_worker_killed_while_evaluating(tmp_path, straight, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(validate, "judge", lambda *given: kill_a_worker())
        with pytest.raises(WorkerKilled, match="Step 6 is saved"):
            train(replace(CONFIG, batch=32, micro_batch=16), tmp_path / "run")
    assert list_checkpoint_steps(tmp_path / "run") == [6]


def failing(monkeypatch, kind, name, at, error):
    """Let the at-th call of a method raise, after half of its work for the optimizer."""
    before, calls = getattr(kind, name), []

    def fails(self, *arguments):
        calls.append(1)
        if len(calls) == at:
            if kind is Optimizer:
                before(self, *arguments)
            raise error
        return before(self, *arguments)

    monkeypatch.setattr(kind, name, fails)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            RuntimeError(ALLOCATOR),
            OutOfMemory,
            r"out of memory \(137438953472 bytes more were requested\); use a smaller",
        ),
        (ImageError("a.png is gone"), ImageError, r"a\.png is gone\. Step 4 is saved"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "a bug"),
    ],
    ids=["memory", "image", "bug"],
)
def test_a_failure_in_a_step_keeps_the_steps_before(tmp_path, straight, monkeypatch, error, kind, words):
    with monkeypatch.context() as patch:
        failing(patch, Classify, "forward", 5, error)
        with pytest.raises(kind, match=words) as caught:
            train(replace(CONFIG, workers=0), tmp_path / "run")
    assert list_checkpoint_steps(tmp_path / "run") == [4]
    assert "tep 4 is saved; go on with: vitreous resume" in "".join(
        (str(caught.value), *getattr(caught.value, "__notes__", ()))
    )
    goes_on(tmp_path / "run", straight)


def test_half_an_optimizer_step_is_not_saved(tmp_path, straight, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, Optimizer, "step", 8, MemoryError())
        with pytest.raises(OutOfMemory, match="Step 6 is saved"):
            train(replace(CONFIG, workers=0), tmp_path / "run")
    assert list_checkpoint_steps(tmp_path / "run") == [6]
    goes_on(tmp_path / "run", straight)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("unable to open shared memory object </torch_1_2_3> in read-write mode: Too many open files"), OutOfMeans),
        (RuntimeError("unable to write to file </torch_7_1_0>: No space left on device (28)"), OutOfMeans),
        (RuntimeError("unable to mmap 1000 bytes from file </torch_7>: Cannot allocate memory (12)"), OutOfMeans),
        (RuntimeError("Too many open files. Communication with the workers is no longer possible."), OutOfMeans),
        (RuntimeError("can't start new thread"), OutOfMeans),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), OutOfMeans),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemory),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), None),
        (KeyError("out of memory"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "out.png"), None),
    ],
)  # fmt: skip
def test_what_a_machine_runs_out_of(error, kind):
    found = explain_exhaustion(error)
    assert type(found) is (type(None) if kind is None else kind)
    assert isinstance(found, FailedError) == (kind is not None)
    assert "\n" not in str(found)


@pytest.mark.slow
def test_a_killed_worker_ends_the_command_with_one_line(tmp_path):
    """The whole way: a real command, a real kill, exit code 1."""
    code = (
        "import sys, os, multiprocessing\n"
        "from vitreous.cli import main\n"
        "from vitreous.training import progress\n"
        "class Kills(progress.Lines):\n"
        "    def progress(self, done, total, numbers):\n"
        "        if done == 3: os.kill(multiprocessing.active_children()[0].pid, 9)\n"
        "progress.Lines = Kills\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    options = ("--model=mu/4", "--duration=400st", "--batch=16", "--workers=2", "--schedule.warmup=1st", "--out=run")
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "digits", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("vitreous: error: a data worker (process ")
    assert "is saved; go on with: vitreous resume run" in done.stderr
