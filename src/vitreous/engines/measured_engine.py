"""The fastest of several engines for an exported model, measured on the images themselves. Imports no torch."""

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from vitreous.engines.base import Engine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import StorageError, UserError
from vitreous.runtime.packages import find_version
from vitreous.runtime.processor import read_cpu_model
from vitreous.runtime.threads import count_threads
from vitreous.settings import to_json
from vitreous.shapes import Float32, Pixels
from vitreous.storage.atomic import write_atomically
from vitreous.storage.cache import find_cache
from vitreous.storage.limits import read_json

BEGIN = 2.0
"""Seconds of computing before another engine is tried: with fewer images a trial costs more than it saves."""
TRIAL = 0.3
"""Approximate seconds of one timed pass."""
CLEARLY = 1.05
"""Factor by which another engine must be faster to be chosen."""


class MeasuredEngine:
    """An engine that tries the others after computing for a while, and continues with the fastest.

    Single images and batches are measured separately. Results are kept by model, processor, threads and versions, and
    used from the start next time.

    Args:
        folder: the export.
        names: engines that run it here, the one to begin with first.
        precision: as requested.
        build: returns the engine with a name.
    """

    requested = "auto"

    def __init__(
        self, folder: ExportedFolder, names: tuple[str, ...], precision: str, build: Callable[[str], Engine]
    ) -> None:
        self.folder, self.names, self.precision_asked, self.build = folder, names, precision, build
        self.built: dict[str, Engine] = {}
        self._lock = threading.Lock()
        """Held while engines are built and measured."""
        self.kept = {kind: self._read(kind) for kind in ("one", "many")}
        self.seconds = {"one": 0.0, "many": 0.0}
        self.chosen = ""
        """The choice and its reason; empty before it is made."""
        self.engine = self._get(self.kept["many"].get("engine") or names[0])
        """Who computed last."""

    @property
    def name(self) -> str:
        """Who computed last."""
        return self.engine.name

    @property
    def precision(self) -> str:
        """Its precision."""
        return self.engine.precision

    @property
    def device(self) -> object:
        """Its device."""
        return self.engine.device

    @property
    def threads(self) -> int:
        """Its threads."""
        return self.engine.threads

    @property
    def notes(self) -> tuple[str, ...]:
        """The chosen engine's own description, and the reason for the choice."""
        waiting = f"auto: begun with {self.names[0]}; too few images to try {' or '.join(self.names[1:])}"
        return (*self.engine.notes, *(() if self.chosen else (waiting,)))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that only one kind of engine has."""
        if name.startswith("_") or name == "engine":
            raise AttributeError(name)
        return getattr(self.engine, name)

    def logits(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return the model's outputs."""
        return self._compute("logits", pixels)

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return each class's probability, at the model's temperature."""
        return self._compute("probabilities", pixels)

    def features(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch features"]:
        """Return each image's features."""
        return self._compute("features", pixels)

    def fix(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> None:
        """Measure now, unless the fastest is known, and let it compute everything from here on, single images too."""
        kind = "one" if len(pixels) == 1 else "many"
        if not self.kept[kind]:
            self._measure("probabilities", pixels, kind)
        self.kept = dict.fromkeys(self.kept, self.kept[kind])
        self.engine = self._get(self.kept[kind]["engine"])
        self.requested = self.engine.name

    def _compute(self, what: str, pixels: np.ndarray) -> np.ndarray:
        kind = "one" if len(pixels) == 1 else "many"
        with self._lock:
            if not self.kept[kind] and self.seconds[kind] >= BEGIN:
                self._measure(what, pixels, kind)
            kept = self.kept[kind]
            engine = self.engine = self._get(kept.get("engine") or self.names[0])
            self.chosen = kept.get("said", "")
        begun = time.perf_counter()
        found = getattr(engine, what)(pixels)
        self.seconds[kind] += time.perf_counter() - begun
        return found

    def _get(self, name: str) -> Engine:
        if name not in self.built:
            self.built[name] = self.build(name)
        return self.built[name]

    def _measure(self, what: str, pixels: np.ndarray, kind: str) -> None:
        """Time every engine on some of these images, and record the fastest."""
        one = time_pass(self._get(self.names[0]), what, pixels[:2]) / len(pixels[:2])
        part = pixels[: max(1, min(len(pixels), int(TRIAL / max(one, 1e-6))))] if kind == "many" else pixels
        if kind == "many" and len(part) < 2 <= len(pixels):
            part = pixels[:2]
        taken: dict[str, float] = {}
        failed: dict[str, Exception] = {}
        for name in self.names:
            try:
                engine = self._get(name)
                time_pass(engine, what, part)
                taken[name] = min(time_pass(engine, what, part) for _ in range(2))
            except (UserError, RuntimeError, MemoryError) as error:  # it doesn't stop an engine that can
                failed[name] = error
        if not taken:
            raise failed[self.names[0]]
        first, best = self.names[0], min(taken, key=lambda name: taken[name])
        if taken.get(first, math.inf) < taken[best] * CLEARLY:
            best = first
        others = [f"{name} takes {taken[name] / taken[best]:.2f} times as long" for name in taken if name != best]
        others += [f"{name} can't compute the export" for name in failed]
        images = "one image" if len(part) == 1 else f"{len(part)} images"
        said = f"{best} computes: of {images} {', '.join(others)} on this machine; --engine chooses another"
        self.kept[kind] = {"engine": best, "said": said, "seconds": taken}
        with suppress(StorageError, OSError):
            self._file(kind).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(kind), to_json(self.kept[kind]))

    def _read(self, kind: str) -> dict[str, Any]:
        try:
            found = read_json(self._file(kind))
        except (OSError, UserError):
            return {}
        known = isinstance(found, dict) and found.get("engine") in self.names and isinstance(found.get("said"), str)
        return found if known else {}

    def _file(self, kind: str) -> Any:
        facts = {
            "files": [one.sha256 for one in self.folder.files],
            "processor": read_cpu_model(),
            "threads": count_threads(),
            "versions": {name: find_version(name) for name in (*self.names, "vitreous")},
            "precision": self.precision_asked,
            "images": kind,
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return find_cache() / "engines" / f"{key}.json"


def time_pass(engine: Engine, what: str, pixels: np.ndarray) -> float:
    """Return the seconds of one pass."""
    begun = time.perf_counter()
    getattr(engine, what)(pixels)
    return time.perf_counter() - begun
