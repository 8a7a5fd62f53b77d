"""Runs in processes of their own: several at once, or each of several processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vitreous.errors import ConfigError, FailedError, UserError
from vitreous.runtime.threads import count_threads
from vitreous.settings import to_dict, to_json
from vitreous.storage.atomic import translate_write_errors, write_atomically
from vitreous.storage.lock import lock_while_open
from vitreous.storage.run_config import is_run
from vitreous.sweeps.plan import SweepCell, SweepPlan

EVERY = 0.2
"""Seconds between two looks at the processes."""
ERROR = "vitreous: error: "
"""Begins the line by which the command ends that has failed."""
MOST = 1024
"""Most runs at once, and most processes of one."""


@dataclass(frozen=True)
class Sharing:
    """How runs share this machine."""

    jobs: int = 1
    """Runs at once."""
    processes: int = 1
    """Processes of each run."""

    def __post_init__(self) -> None:
        for name, value in (("jobs", self.jobs), ("processes", self.processes)):
            if type(value) is not int or not 1 <= value <= MOST:
                raise ConfigError(f"--{name} is {value!r}; it must be 1 to {MOST}")

    @property
    def here(self) -> bool:
        """Whether one run after another is computed by this process."""
        return self.jobs == self.processes == 1

    def list_variables(self, slot: int, gpus: int) -> dict[str, str]:
        """Return the environment of the run in a slot: its share of the cores and, where there are enough, its own GPUs of those
        that this process may use.

        >>> Sharing(2, 2).list_variables(1, gpus=4)["CUDA_VISIBLE_DEVICES"]
        '2,3'
        """
        found = {"OMP_NUM_THREADS": str(max(1, count_threads() // (self.jobs * self.processes)))}
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        own = list(map(str, range(gpus))) if given is None else given.split(",")[:gpus]
        if len(own) >= self.jobs * self.processes:
            first = slot * self.processes
            found["CUDA_VISIBLE_DEVICES"] = ",".join(own[first : first + self.processes])
        return found


@dataclass(frozen=True)
class Job:
    """A run in processes of its own."""

    cell: SweepCell
    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    begins: int
    """Where in the log it begins, in bytes."""

    @classmethod
    def start(cls, plan: SweepPlan, cell: SweepCell, slot: int, sharing: Sharing, gpus: int) -> "Job":
        """Begin a run, or go on with it."""
        folder, log = plan.find_run(cell), plan.find_log(cell)
        with translate_write_errors(log.parent):
            log.parent.mkdir(exist_ok=True)
        config = log.parent / f"{cell.name}.json"
        optimizer = cell.config.optimizer.name
        if is_run(folder):
            command = ["resume", str(folder), *(["--optimizer", optimizer] if ":" in optimizer else [])]
        else:
            write_atomically(config, to_json(to_dict(cell.config)))
            command = ["train", "--config", str(config), "--out", str(folder)]
            command += ["--optimizer.name", optimizer] if ":" in optimizer else []
        if sharing.processes > 1:
            command += ["--processes", str(sharing.processes)]
        with translate_write_errors(log), log.open("ab") as said:
            lock_while_open(said)
            begins = said.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "vitreous", *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, **sharing.list_variables(slot, gpus)},
                start_new_session=True,  # it is ended by `stop`, after a checkpoint, not by the terminal
            )
        return cls(cell, slot, process, log, begins)

    @property
    def ended_by(self) -> signal.Signals | None:
        """The signal that has ended it, or that it has told by its exit code; None if none has."""
        code = self.process.returncode
        number = -code if code < 0 else code - 128
        return signal.Signals(number) if number in set(signal.Signals) else None

    def explain(self) -> FailedError | UserError:
        """Return the error for a run that has failed, with the last error or else the last line that it has said."""
        said = self.log.read_bytes()[self.begins :].decode(errors="replace").split("\n")
        lines = [line for line in said if line.strip()] or ["it said nothing"]
        *_, last = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)] or lines
        if self.ended_by is not None:
            last = f"it was ended by {self.ended_by.name}"
            last += "; perhaps the machine has no more memory" if self.ended_by == signal.SIGKILL else ""
        kind = UserError if self.process.returncode == 2 else FailedError
        return kind(f"{self.cell.name}: {last} ({self.log} has all of it); the same command goes on with the sweep")


def stop(jobs: Sequence[Job]) -> None:
    """Let runs stop after a checkpoint, and wait for it."""
    for job in jobs:
        with suppress(OSError):
            job.process.terminate()
    for job in jobs:
        job.process.wait()


def count_gpus() -> int:
    """Return the number of GPUs, without a context on any."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def wait_for_one(jobs: Sequence[Job]) -> Job:
    """Return a job that has ended."""
    while True:
        for job in jobs:
            if job.process.poll() is not None:
                return job
        time.sleep(EVERY)
