"""What is written to metrics.jsonl, given to trackers of experiments too. metrics.jsonl stays the truth; each tracker has a copy.

A tracker that fails is left behind with a message; the run goes on.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vitreous.run_folder import read_run
from vitreous.runtime.packages import require_packages
from vitreous.settings import flatten, to_dict
from vitreous.storage.atomic import write_atomically
from vitreous.training.callbacks import Callback
from vitreous.training.config import TRACKERS, RunConfig
from vitreous.training.reporter import Reporter

PROJECT = "vitreous"
"""Project or experiment of runs, where the tracker's own environment variables name no other."""
IDS = "tracking.json"
"""In the run folder: by which id each tracker knows the run, so that a resumed one continues it."""


class Tracker(Callback):
    """One run at one tracker."""

    name: ClassVar[str]

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.alive, self.run = reporter, False, Path()

    def on_begin(self, run: Path, config: RunConfig, step: int) -> None:
        """Begin the run there, or go on with it; raises ConfigError where the tracker isn't installed."""
        require_packages([TRACKERS[self.name]], f"--track {self.name}", "track")
        self.run, self.alive = run, True
        self._try("begin", flatten(to_dict(config)), step)

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Pass a record's numbers on."""
        if numbers := dict(list_numbers(record)):
            self._try("log", numbers, int(record.get("step", 0)))

    def on_end(self, stopped: str) -> None:
        """End the run there."""
        self._try("end", stopped)

    def _try(self, what: str, *given: Any) -> None:
        if not self.alive:
            return
        try:
            getattr(self, what)(*given)
        except Exception as error:  # whatever a tracker's library raises, the run is worth more
            self.alive = False
            said = " ".join(str(error).split())[:200] or type(error).__name__
            self.reporter.message(f"--track {self.name} broke off ({said}); metrics.jsonl goes on")

    def begin(self, settings: dict[str, Any], step: int) -> None:
        """Begin the run, or go on with it from a step; `settings`: by dotted name."""
        raise NotImplementedError

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Pass numbers on."""
        raise NotImplementedError

    def end(self, stopped: str) -> None:
        """End the run: see `Callback.on_end`."""
        raise NotImplementedError

    @property
    def id(self) -> str | None:
        """By which id the tracker knows this run; None before it has one."""
        found = read_ids(self.run).get(self.name)
        return found if isinstance(found, str) else None

    @id.setter
    def id(self, value: str) -> None:
        write_atomically(self.run / IDS, json.dumps({**read_ids(self.run), self.name: value}).encode())


def read_ids(run: Path) -> dict[str, Any]:
    """Return the ids of a run by tracker; none where nothing is noted."""
    try:
        found = json.loads((run / IDS).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def list_numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a record's numbers by name.

    >>> dict(list_numbers({"kind": "layers", "step": 3, "weight_norm": {"head": 2.0}}))
    {'layers/weight_norm/head': 2.0}
    """
    for name, value in record.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for below, number in inner:
            if isinstance(number, bool | int | float) and name != "step":
                yield "/".join(filter(None, (str(record.get("kind")), name, below))), float(number)


class TensorBoard(Tracker):
    """Event files in RUN/tensorboard, written anew from metrics.jsonl when a run is resumed."""

    name = "tensorboard"

    def begin(self, settings: dict[str, Any], step: int) -> None:
        """Write what the run has recorded so far."""
        from tensorboard.summary import Writer  # pyrefly: ignore[missing-import]

        folder = self.run / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = Writer(str(folder))
        for record in read_run(self.run).metrics:
            self.log(dict(list_numbers(record)), int(record.get("step", 0)))

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Write numbers."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step=step)

    def end(self, stopped: str) -> None:
        """Close the files."""
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases; without a key of its own, or with WANDB_MODE=offline, into RUN/wandb, for `wandb sync`."""

    name = "wandb"

    def begin(self, settings: dict[str, Any], step: int) -> None:
        """Begin a run, or go on with the one of the same id."""
        import wandb  # pyrefly: ignore[missing-import]

        mode = os.environ.get("WANDB_MODE") or ("online" if has_key(wandb) else "offline")
        known = self.id
        self.tracked = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=self.run.resolve().name,
            id=known,
            resume="allow" if known else None,
            dir=self.run,
            config=settings,
            mode=mode,
        )
        self.id = self.tracked.id
        self.tracked.define_metric("step")
        self.tracked.define_metric("*", step_metric="step")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers over the run's own steps, which go back when it is resumed."""
        self.tracked.log({**numbers, "step": step})

    def end(self, stopped: str) -> None:
        """Finish the run."""
        self.tracked.finish(exit_code=int(stopped == "failed"))


def has_key(wandb: Any) -> bool:
    """Return whether this machine is logged in to Weights & Biases."""
    try:
        return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
    except Exception:  # an old netrc, a server that doesn't answer
        return False


class Trackio(Tracker):
    """Trackio, on this machine."""

    name = "trackio"

    def begin(self, settings: dict[str, Any], step: int) -> None:
        """Begin a run, or go on with the one of the same name."""
        import trackio  # pyrefly: ignore[missing-import]

        known = self.id or f"{self.run.resolve().name}-{os.urandom(3).hex()}"
        self.tracked = trackio.init(project=PROJECT, name=known, config=settings, resume="allow", embed=False)
        self.id = known

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers."""
        self.tracked.log(numbers, step=step)

    def end(self, stopped: str) -> None:
        """Finish the run."""
        self.tracked.finish()


class MLflow(Tracker):
    """MLflow: where MLFLOW_TRACKING_URI says, in the experiment that MLFLOW_EXPERIMENT_NAME says."""

    name = "mlflow"

    def begin(self, settings: dict[str, Any], step: int) -> None:
        """Begin a run, or go on with the one of the same id."""
        from mlflow.entities import Param  # pyrefly: ignore[missing-import]
        from mlflow.tracking import MlflowClient  # pyrefly: ignore[missing-import]

        self.client, known = MlflowClient(), self.id
        if known is None:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
            found = self.client.get_experiment_by_name(title)
            experiment = found.experiment_id if found else self.client.create_experiment(title)
            known = self.client.create_run(experiment, run_name=self.run.resolve().name).info.run_id
            self.id = known
            pairs = [Param(name, str(value)[:500]) for name, value in settings.items()]
            for first in range(0, len(pairs), 100):  # as many as it takes at once
                self.client.log_batch(known, params=pairs[first : first + 100])
        else:
            self.client.set_terminated(known, "RUNNING")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers."""
        from mlflow.entities import Metric  # pyrefly: ignore[missing-import]

        now, pairs = int(time.time() * 1000), list(numbers.items())
        for first in range(0, len(pairs), 1000):
            metrics = [Metric(name, value, now, step) for name, value in pairs[first : first + 1000]]
            self.client.log_batch(self.id, metrics=metrics)

    def end(self, stopped: str) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.id, {"failed": "FAILED", "interrupted": "KILLED"}.get(stopped, "FINISHED"))


KINDS: dict[str, type[Tracker]] = {one.name: one for one in (TensorBoard, WandB, Trackio, MLflow)}


def list_trackers(config: RunConfig, reporter: Reporter) -> list[Tracker]:
    """Return the trackers that a run's settings name."""
    return [KINDS[name](reporter) for name in config.track]
