"""The runs of a folder as they are now: what each is, how far, how good, and whether it still goes on."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

from vitreous.metrics.classification import wilson_interval
from vitreous.metrics.headline import find_headline
from vitreous.serving.board.curves import CHUNK, Metrics, is_drawable
from vitreous.serving.board.folder import Folder
from vitreous.settings import flatten
from vitreous.storage.lock import LOCK, is_held
from vitreous.storage.run_config import CONFIG, FORMAT_KEY, strip_document

State = Literal["running", "interrupted", "finished", "diverged"]
MOST_CONFIG = 64 << 20
"""Bytes of the largest config.json that is read; one with a hundred thousand classes has a few million."""
LOOK, WORK = 2.0, 0.3
"""Seconds between two searches for new runs; seconds of reading after which what was read is shown first."""
SILENT = 180.0
"""Seconds without a record after which a run on another machine counts as interrupted."""


@dataclass
class BoardRun:
    """One run, followed."""

    name: str
    """Its path below the board's folder; "" is that folder itself."""
    folder: Folder
    metrics: Metrics
    document: dict[str, Any] = field(default_factory=dict)
    """Its config.json."""
    settings: dict[str, Any] = field(default_factory=dict)
    """By dotted name."""
    problem: str = ""
    """Why config.json can't be read; empty if it can."""
    state: State = "interrupted"

    @property
    def title(self) -> str:
        """What it is called on the page."""
        return self.name or self.folder.path.name

    @property
    def steps(self) -> int:
        """Planned steps."""
        steps = self.document.get("steps")
        return int(steps) if is_drawable(steps) else 0

    @property
    def step(self) -> int:
        """The last step on record."""
        return self.metrics.step

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else float(self.state == "finished")

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training that are left of a run that goes on, by its pace so far; None: not known."""
        last = self.metrics.last.get("train", {})
        seconds, step = last.get("seconds"), last.get("step")
        if self.state != "running" or not is_drawable(seconds) or not is_drawable(step) or not step:
            return None
        since = max(0.0, time.time() - self.metrics.changed)
        left = max(0.0, (self.steps - step) * seconds / step - since)
        return left if is_drawable(left) else None

    @property
    def data(self) -> Mapping[str, Any]:
        """What config.json says of its images."""
        data = self.document.get("data")
        return data if isinstance(data, Mapping) else {}

    @property
    def images(self) -> int:
        """Validation images."""
        count = self.data.get("validation")
        return int(count) if is_drawable(count) else 0

    @property
    def learned(self) -> bool:
        """Whether the validation images are some that it learned from, so that its figures say nothing of others."""
        return bool(self.data.get("validation_learned"))

    @property
    def figure(self) -> tuple[str, float] | None:
        """The name and the value of what judges the best evaluation: top1, map or loss; None before the first."""
        best = self.metrics.best or {}
        name = find_headline(best) or "loss"
        return (name, float(best[name])) if is_drawable(best.get(name)) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of an accuracy (Wilson), for the images it was measured on; None of anything else, or if it learned from them."""
        figure = self.figure
        if self.learned or figure is None or figure[0] != "top1" or not self.images or not 0 <= figure[1] <= 1:
            return None
        return wilson_interval(round(figure[1] * self.images), self.images)

    @property
    def reason(self) -> str:
        """Why it broke off, if it has said so."""
        return str((self.metrics.ended or {}).get("reason") or "")

    def path(self, name: str) -> str:
        """Return the path of one of its files below the board's folder."""
        return f"{self.name}/{name}".lstrip("/")


class Runs:
    """All runs under a folder. `refresh` brings them up to date; several threads may call it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.by_name: dict[str, BoardRun] = {}
        self._configs: dict[str, tuple[int, int]] = {}
        self._looked = self._read = float("-inf")
        self._lock = Lock()

    def refresh(self, every: float = 0.5) -> None:
        """Read what is new, unless that was done in the last `every` seconds. Long files are read in parts, one after each
        call, those that changed last first."""
        with self._lock:
            now = time.monotonic()
            if now - self._read < every:
                return
            if now - self._looked >= LOOK:
                self._look()
                self._looked = now
            end = now + WORK
            for run in sorted(self.by_name.values(), key=lambda run: -run.metrics.changed):
                while run.metrics.read(CHUNK):
                    run.state = self._find_state(run)
                    if time.monotonic() > end:
                        break
                if time.monotonic() > end:
                    break
            self._read = time.monotonic()

    @property
    def unread(self) -> int:
        """Bytes of records that are still to be read."""
        return sum(run.metrics.unread for run in self.all)

    @property
    def all(self) -> list[BoardRun]:
        """The runs of now; `by_name` may change while it is gone through."""
        return list(self.by_name.values())

    def _look(self) -> None:
        names = self.folder.find_runs()
        for gone in self.by_name.keys() - set(names):
            del self.by_name[gone]
            self._configs.pop(gone, None)
        for name in names:
            self._open(name)
        for run in self.by_name.values():
            run.state = self._find_state(run)

    def _open(self, name: str) -> None:
        """Read a run's config.json if it is new or was written anew."""
        path = f"{name}/{CONFIG}".lstrip("/")
        with suppress(OSError):
            found = (self.folder.path / path).lstat()
            mark = (found.st_mtime_ns, found.st_size)
            if self._configs.get(name) == mark:
                return
            self._configs[name] = mark
        run = self.by_name.get(name) or BoardRun(name, self.folder, Metrics(self.folder, name))
        try:
            document = json.loads(self.folder.read(path, MOST_CONFIG))
            if not isinstance(document, dict) or FORMAT_KEY not in document:
                self.by_name.pop(name, None)
                return
            run.document, run.problem = strip_document(document), ""
            settings = run.document.get("config")
            run.settings = flatten(settings) if isinstance(settings, Mapping) else {}
        except (OSError, ValueError, RecursionError) as error:
            run.problem = " ".join(str(error).split())
        self.by_name[name] = run

    def _find_state(self, run: BoardRun) -> State:
        """Tell how a run is, from its folder alone."""
        if (run.metrics.ended or {}).get("why") == "diverged":
            return "diverged"
        with suppress(OSError):
            held = is_held(self.folder.read(run.path(LOCK), 4096))
            if held is None:
                held = time.time() - run.metrics.changed < SILENT and not self._is_finished(run)
            if held:
                return "running"
        return "finished" if self._is_finished(run) else "interrupted"

    def _is_finished(self, run: BoardRun) -> bool:
        """Return whether a run reached its end: all steps and their evaluation, or the end of its patience."""
        evaluated = run.metrics.last.get("evaluation", {}).get("step")
        if is_drawable(evaluated) and evaluated >= run.steps and "steps" in run.document:
            return True
        return self._has_stopped_early(run)

    def _has_stopped_early(self, run: BoardRun) -> bool:
        """Return whether the newest checkpoint is of a run that stopped since evaluations no longer improved."""
        patience = run.settings.get("early_stop.patience")
        evaluated = run.metrics.last.get("evaluation", {}).get("step")
        if not patience or evaluated is None or evaluated != run.step:
            return False
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            state = json.loads(self.folder.read(run.path(f"checkpoints/step-{evaluated}/state.json"), MOST_CONFIG))
            return bool(state["state"]["finished"])
        return False


def list_settings(runs: list[BoardRun]) -> Iterator[tuple[str, list[Any], bool]]:
    """Yield each setting's name, its value in each run, and whether they differ: those that do first."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = [(name, [run.settings.get(name) for run in runs]) for name in names]
    told = [(name, values, any(value != values[0] for value in values)) for name, values in rows]
    yield from sorted(told, key=lambda row: not row[2])
