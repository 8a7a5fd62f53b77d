"""Write and read the run folder. It is all that a run needs: whenever a process dies, the run can be resumed.

    RUN/config.json               the complete configuration, the format, the versions and its own hash; makes it a run
    RUN/metrics.jsonl             one JSON record per line, in the order of the steps
    RUN/checkpoints/step-N/       tensors.safetensors, state.json and the SHA256SUMS of both
    RUN/model/                    the exported model, a model folder
    RUN/best/                     the model of the best evaluation, if another one is exported
    RUN/measured/                 the model that was measured, if the exported one's head has been refitted since
    RUN/report.html               what the report draws
    RUN/.lock                     locked while a process writes; the lock ends with the process

One process writes (`Run`), holding the lock; any number of processes read (`read_run`) without it, even during writing.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from vitreous.errors import CheckpointError, RunError, StorageError
from vitreous.settings import SEAL, hash_document
from vitreous.storage.atomic import (
    check_name,
    clear_partials,
    find_settled,
    make_folder,
    recover_all,
    remove_folder,
    translate_write_errors,
    write_atomically,
    write_new,
)
from vitreous.storage.jsonl import RecordWriter, read_records
from vitreous.storage.lock import LOCK, FolderLock, has_never_begun
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    FORMAT_KEY,
    MEASURED,
    METRICS,
    MODEL,
    REPORT,
    RUN_FORMAT,
    encode_document,
    is_run,
    read_config,
    strip_document,
)
from vitreous.storage.shards import Pieces
from vitreous.storage.snapshot import read_snapshot, read_state, write_snapshot


@dataclass(frozen=True)
class Checkpoint:
    """A run at one step: everything needed to resume it."""

    step: int
    tensors: dict[str, Tensor | Pieces]
    """Flat, under prefixed names such as "model.head.weight"; on the CPU, mapped from the file, or several files."""
    state: dict[str, Any]
    config: dict[str, Any] | None = None
    """The run's configuration when this was written; None in checkpoints of earlier versions."""


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder, for reports and for people."""

    path: Path
    config: dict[str, Any]
    """The configuration given to `Run.create`."""
    metrics: list[dict[str, Any]]
    model: Path | None
    """The exported model folder, if there is one yet."""
    checkpoints: list[int]
    """Steps of the checkpoints, ascending; damage is found only when one is read."""
    best: Path | None = None
    """The model folder of the best evaluation, if another one is exported."""
    measured: Path | None = None
    """The model folder that was measured, if the exported one's head has been refitted since."""

    @property
    def report_path(self) -> Path:
        """Where the report goes."""
        return self.path / REPORT

    def evaluation_at(self, step: int | None) -> dict[str, Any] | None:
        """Return the newest evaluation of a step's weights, if there was one."""
        of_step = (one for one in reversed(self.metrics) if one.get("kind") == "evaluation" and one.get("step") == step)
        return next(of_step, None)


@dataclass
class Run:
    """A run folder that this process writes. Made by `Run.create` or `Run.open`; holds the lock until `close`."""

    path: Path
    config: dict[str, Any]
    """The configuration given to `create`, complete and resolved; config.json also holds the format's version."""
    keep: int
    """Checkpoints kept, newest first."""
    lock: FolderLock
    metrics: RecordWriter
    notices: list[str] = field(default_factory=list)
    """Warnings for the user, such as damaged checkpoints that were skipped."""
    sealed: bool | None = True
    """Whether config.json is unchanged since a run last wrote it; None if it holds no hash, as in earlier versions."""
    looked: float = 0.0
    """Time of the last look of `check_presence`, by the monotonic clock."""
    listeners: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)
    """Called with each record once it is written."""
    damaged: set[int] = field(default_factory=set)
    """Steps whose checkpoints were skipped because they are damaged; the next checkpoint replaces them."""
    leads: ClassVar[bool] = True
    """Whether this process writes the folder."""

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], keep: int = 2) -> "Run":
        """Begin a run in a new or empty folder.

        Args:
            path: the run folder; created with its parents if necessary.
            config: everything about the run that is settled when it begins, as JSON values: the complete, resolved
                configuration, and what it was resolved on (data, versions, machine).
            keep: checkpoints to keep, newest first, at least 1.

        Raises:
            RunError: the folder is not empty. RunLocked: another process has just begun a run there.
            StorageError: the disk is full or read-only; nothing is left behind.
        """
        path = Path(path)
        text = encode_document(config)
        _check_free(path)
        with translate_write_errors(path), _make_folder(path) as lock:
            _check_free(path)
            metrics = RecordWriter(path / METRICS)
            try:
                if not write_new(path / CONFIG, text):
                    _check_free(path)  # refuses the run that another process has just begun
            except BaseException:
                metrics.close()
                raise
        return cls(path, strip_document(json.loads(text)), keep, lock, metrics, _explain_lock(lock))

    @classmethod
    def open(cls, path: str | Path, keep: int = 2) -> "Run":
        """Open a run to resume it; finish, undo or clear what a dead process left behind.

        Raises:
            RunError: not a run folder, of another format, or damaged. RunLocked: another process is writing to it.
            StorageError: the folder can't be written.
        """
        path = Path(path)
        read_config(path)
        lock = FolderLock(path)
        try:
            document = read_config(path)  # again, now that nobody else writes it
            with translate_write_errors(path):
                _tidy(path)
                metrics = RecordWriter(path / METRICS)
            sealed = document[SEAL] == hash_document(document) if SEAL in document else None
            run = cls(path, strip_document(document), keep, lock, metrics, _explain_lock(lock), sealed)
            run._drop_torn_record()
        except BaseException:
            lock.release()
            raise
        return run

    def _drop_torn_record(self) -> None:
        records = read_records(self.path / METRICS)
        if self.metrics.cut(records[-1][1] if records else 0):
            self.notices.append(f"{METRICS}: dropped a torn record after {len(records)} whole ones")

    def check_presence(self, every: float = 0.0) -> None:
        """Make sure that the run's path still leads to this run, if the last check was at least `every` seconds ago.

        Raises:
            StorageError: the folder was removed, renamed or replaced; nothing is recreated in its place.
        """
        now = time.monotonic()
        if now - self.looked < every:
            return
        self.looked = now
        if not self.lock.is_there() and not self.metrics.is_there():
            raise StorageError(
                f"{self.path} was removed, renamed or replaced while this run was writing to it; nothing more is "
                "written there. If it was renamed, resume it under its new name with `vitreous resume`"
            )

    def rewrite(self, config: Mapping[str, Any]) -> None:
        """Replace the contents of config.json; raises StorageError."""
        self.check_presence()
        text = encode_document(config)
        write_atomically(self.path / CONFIG, text)
        self.config, self.sealed = strip_document(json.loads(text)), True

    def log(self, *records: Mapping[str, Any]) -> None:
        """Append records, each with its "step", to metrics.jsonl, then call the listeners. Once this returns, the records
        survive the process. NaN and infinities are written as null.

        Raises:
            StorageError: the disk is full or gone; earlier records stay intact.
        """
        self.check_presence()
        for record in records:
            self.metrics.append(dict(record))
        for record in records:
            for listen in self.listeners:
                listen(record)

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, durably, and only then remove older ones beyond the newest `keep`.

        Args:
            step: optimizer steps taken, 0 or more; names the folder.
            tensors: flat, under prefixed names; on any device, sharing memory or not.
            state: JSON values.

        Raises:
            StorageError: the disk is full or gone; everything saved before is untouched.
        """
        write_snapshot(self.checkpoint_path(step), tensors, self.describe_checkpoint(step, state))
        self.prune(step)

    def describe_checkpoint(self, step: int, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checkpoint holds besides tensors, and make the records so far durable. Raises StorageError."""
        self.check_presence()
        end = self.metrics.sync()
        metrics = {"metrics_bytes": end, "metrics_sha256": self.metrics.hash(end)}
        state = {"state": state, "config": self.config.get("config")}
        return {FORMAT_KEY: RUN_FORMAT, "step": step, **metrics, **state}

    def prune(self, newest: int) -> None:
        """Remove checkpoints beyond the newest `keep`, those of steps after `newest`, which it replaces, and damaged
        ones."""
        self.damaged.discard(newest)
        steps = list_checkpoint_steps(self.path)
        kept = [step for step in steps if step <= newest and step not in self.damaged][-max(1, self.keep) :]
        for step in set(steps) - set(kept):
            remove_folder(self.checkpoint_path(step))

    def find_latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest undamaged checkpoint, or None if none was ever saved.

        Each is checked against its hashes. A damaged one is skipped, and a line in `notices` says so.

        Raises:
            RunError: there are checkpoints, but every one is damaged.
        """
        failures: list[str] = []
        for step in reversed(list_checkpoint_steps(self.path)):
            try:
                tensors, document = read_snapshot(self.checkpoint_path(step))
            except CheckpointError as error:
                failures.append(f"step-{step}: {error}")
                self.damaged.add(step)
                continue
            self.notices += [f"skipped a damaged checkpoint and resumed from step {step} ({why})" for why in failures]
            self._hold_metrics_against(step, document)
            return Checkpoint(step, tensors, document["state"], document.get("config"))
        if failures:
            raise RunError(
                f"{self.path} can't be resumed: all its checkpoints are damaged ({failures[0]}); restore one from "
                f"a copy, or train again in another folder with the settings in {self.path / CONFIG}"
            )
        if path_exists(find_settled(self.model_path)):  # never exported before a checkpoint
            raise RunError(
                f"{self.path} can't be resumed: its checkpoints are gone; put them back, or begin a new run from "
                f"its model with --weights {self.path}"
            )
        return None

    def _hold_metrics_against(self, step: int, document: Mapping[str, Any]) -> None:
        """Add a notice if metrics.jsonl differs from its state when a checkpoint was written."""
        end, before = document["metrics_bytes"], document.get("metrics_sha256")
        now = self.metrics.hash(end)
        if now is not None and now == (before or now):
            return
        what = f"was cut: it held {end:,} bytes" if now is None else "was edited: it held other records"
        self.notices.append(
            f"{METRICS} {what} when step {step} was saved; the run reaches the same weights, but its curves have "
            "a gap or are wrong"
        )

    def cut_metrics(self, step: int) -> None:
        """Cut metrics.jsonl back to its length when the checkpoint of this step was saved; without such a checkpoint
        the run starts again without records. Raises StorageError."""
        end = most = 0
        with suppress(CheckpointError):
            most = read_state(self.checkpoint_path(step))["metrics_bytes"]
        for record, after in read_records(self.path / METRICS):
            if record.get("step", 0) > step or after > most:
                break
            end = after
        self.metrics.cut(end)

    def checkpoint_path(self, step: int) -> Path:
        """Return where the checkpoint of a step goes."""
        return self.path / CHECKPOINTS / f"step-{step}"

    @property
    def model_path(self) -> Path:
        """Where the exported model folder goes."""
        return self.path / MODEL

    @property
    def best_path(self) -> Path:
        """Where the model folder of the best evaluation goes, if another one is exported."""
        return self.path / BEST

    def close(self) -> None:
        """Release the lock. The run can't be written through this object any more; closing twice is fine."""
        self.metrics.close()
        self.lock.release()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def read_run(path: str | Path) -> RunRecord:
    """Read a run folder without its lock, even while it is being written.

    Raises:
        RunError: not a run folder, of another format, or damaged.
    """
    path = Path(path)
    config = read_config(path)
    models = [find_settled(path / name) for name in (MODEL, BEST, MEASURED)]
    model, best, measured = (one if (one / CONFIG).is_file() else None for one in models)
    metrics = [record for record, _ in read_records(path / METRICS)]
    return RunRecord(path, strip_document(config), metrics, model, list_checkpoint_steps(path), best, measured)


def list_checkpoint_steps(path: Path) -> list[int]:
    """List the steps of a run's checkpoints, ascending, damaged ones included."""
    numbers = (folder.name.removeprefix("step-") for folder in (path / CHECKPOINTS).glob("step-*"))
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit())


def _explain_lock(lock: FolderLock) -> list[str]:
    warning = f"{lock.path.parent} is on a file system without locks; make sure that no other process writes to it"
    return [] if lock.effective else [warning]


def _tidy(path: Path) -> None:
    for folder in (path, path / CHECKPOINTS):
        recover_all(folder)
        clear_partials(folder)


@contextmanager
def _make_folder(path: Path) -> Iterator[FolderLock]:
    """Make a folder and lock it; an error inside the block removes everything made, but no run that has begun there."""
    new = [folder for folder in (path, *path.parents) if not path_exists(folder)]
    lock = None
    try:
        make_folder(path)
        lock = FolderLock(path)
        yield lock
    except BaseException:
        begun = is_run(path)
        if lock is not None and not begun:
            (path / METRICS).unlink(missing_ok=True)
        if lock is not None:
            lock.release(remove=not begun)
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _check_free(path: Path) -> None:
    """Refuse a folder that holds anything but the traces of a run that never began."""
    check_name(path)
    if not path_exists(path):
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder for the run")
    if is_run(path):
        steps = list_checkpoint_steps(path)
        at = f"at step {steps[-1]}" if steps else "without checkpoints yet"
        raise RunError(
            f"{path} already holds a run, {at}; resume it with `vitreous resume {path}`, or choose another folder"
        )
    with translate_write_errors(path):
        clear_partials(path, CONFIG)
        if has_never_begun(path, METRICS):
            return
        found = min(entry.name for entry in path.iterdir() if entry.name != LOCK)
    raise RunError(f"{path} is not empty (it holds {found}); choose a new folder for the run")
