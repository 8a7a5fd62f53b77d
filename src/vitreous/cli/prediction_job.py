"""Store predictions for a file in parts, so that a killed command can continue after the last complete part.

`.preds.csv.parts/` next to `preds.csv` records what the predictions depend on (job.json), the parts as files of JSON lines,
written atomically, and which file was made from them (made.json). It is removed once that file is complete.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.inputs import Packed
from vitreous.prediction import Prediction
from vitreous.runtime.packages import find_version
from vitreous.settings import to_dict
from vitreous.storage.atomic import clear_partials, remove_folder, translate_write_errors, write_atomically
from vitreous.storage.job_facts import begin_facts
from vitreous.storage.limits import read_json
from vitreous.storage.lock import FolderLock
from vitreous.storage.presence import follow_links, is_folder, path_exists

if TYPE_CHECKING:
    from vitreous.predictor import Predictor

FORMAT = 1
"""Version of the folder's layout; a part's predictions have the fields of `Prediction`."""
PART = 256
"""Least number of predictions in a part, except for the last part."""
JOB, MADE = "job.json", "made.json"


def locate_parts(out: Path) -> Path:
    """Return the folder of a file's parts, next to the file that links lead to."""
    out = follow_links(out)
    return out.with_name(f".{out.name}.parts")


def is_own(out: Path) -> bool:
    """Return whether a file was made from the parts still next to it, by a command that was killed right afterwards."""
    with suppress(OSError, CheckpointError):
        if is_folder(out):
            return False
        return read_json(locate_parts(out) / MADE) == _identify(out.stat())
    return False


def describe_job(predictor: "Predictor", paths: Sequence[str | Packed], **options: Any) -> dict[str, Any]:
    """Return everything that predictions depend on, as JSON values: the model, its engine, the options, the images."""
    from vitreous.engines.exported_folder import ExportedFolder
    from vitreous.engines.selection import READERS

    folder, decision = predictor.folder, predictor.decision
    if isinstance(folder, ExportedFolder):
        digest, ranges, packages = folder.sha256, {}, READERS[folder.target]
    else:
        from vitreous.evaluation.probes.feature_cache import model_hash
        from vitreous.images.config import DecodeConfig

        usual = replace(folder, decode=DecodeConfig())  # how images are decoded is recorded separately
        digest, packages = model_hash(usual), ("torch",)
        ranges = folder.ranges if predictor.engine.precision == "int8" else {}
    head = [list(folder.classes), folder.multilabel, getattr(folder, "temperature", 1.0), *([ranges] if ranges else [])]
    state = hashlib.sha256()
    for path in paths:
        state.update(f"{path}\0{_describe_file(path)}\0".encode(errors="surrogateescape"))
    return {
        "vitreous_predictions": FORMAT,
        "model": hashlib.sha256(json.dumps([digest, head]).encode()).hexdigest(),
        "engine": getattr(predictor.engine, "requested", predictor.engine.name),
        "precision": predictor.engine.precision,
        "device": str(predictor.device),
        "versions": {name: find_version(name) for name in ("vitreous", *packages)},
        "merge": getattr(folder, "merge", 0),
        "decode": to_dict(folder.decode),
        "batch": predictor.batch,
        "top": predictor.top,
        "threshold": decision.threshold,
        "tta": decision.tta,
        **options,
        "images": {"count": len(paths), "sha256": state.hexdigest()},
    }


def _describe_file(path: str | Packed) -> str:
    """Return a file's size and time of modification; empty if there is no such file."""
    if isinstance(path, Packed):
        return path.stamp
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # the name has a NUL
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


class PredictionJob:
    """The parts of one output, locked while they are in use.

    Args:
        out: the file to make from them.
        facts: what the predictions depend on (`describe_job`).
        paths: those of the images and videos.

    Raises:
        ConfigError: the folder holds parts of another job. RunLocked: another process uses them.
        StorageError: they can't be written.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any], paths: Sequence[str | Packed]) -> None:
        self.out, self.folder, self.paths = out, locate_parts(out), paths
        self.facts = json.loads(json.dumps(facts))
        self.size = -(-PART // facts["batch"]) * facts["batch"]
        """Predictions in a part: whole batches, because the last digits of an image's numbers depend on the whole
        batch."""
        with translate_write_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        with ExitStack() as undo:
            undo.callback(self._remove_empty)
            self._lock = FolderLock(self.folder)
            undo.callback(self._lock.release, remove=True)
            self._begin()
            self.parts = [self._part(number) for number in range(self._count())]
            """Files of the complete parts."""
            undo.pop_all()

    @property
    def done(self) -> int:
        """Number of predictions stored."""
        return sum(len(self._read(part)) for part in self.parts[-1:]) + self.size * max(0, len(self.parts) - 1)

    def __enter__(self) -> "PredictionJob":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the parts if the file is made, or if there are none."""
        if kind is None or not self.parts:
            remove_folder(self.folder)
        elif issubclass(kind, KeyboardInterrupt):
            print(f"vitreous: the same command continues after the first {self.done:,}", file=sys.stderr)
        self._lock.release()

    def run(self, classify: Callable[[int], Iterator[Prediction]]) -> Iterator[Prediction]:
        """Yield the stored predictions, then the rest, each once its part is on disk.

        Args:
            classify: returns the predictions after the given number of images.
        """
        behind = self.done
        for part in self.parts:
            yield from self._read(part)
        fresh = classify(behind)
        while part := list(islice(fresh, self.size)):
            path = self._part(len(self.parts))
            write_atomically(path, "".join(f"{json.dumps(asdict(one))}\n" for one in part).encode())
            self.parts.append(path)
            yield from part

    def note_made(self, handle: int) -> None:
        """Record that an open file holds all predictions and is about to get its name."""
        write_atomically(self.folder / MADE, json.dumps(_identify(os.fstat(handle))).encode())

    def _remove_empty(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def _begin(self) -> None:
        """Compare the stored job with this one; raises ConfigError if they differ."""
        clear_partials(self.folder)
        made = follow_links(self.out)
        clear_partials(made.parent, made.name)
        begin_facts(self.folder / JOB, self.facts, path_exists(self._part(0)), self.out)

    def _count(self) -> int:
        """Count the complete parts from the first one on; only the last part may be short."""
        count = 0
        while path_exists(self._part(count)):
            count += 1
            if len(self._read(self._part(count - 1))) < self.size:
                break
        return count

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.jsonl"

    def _read(self, part: Path) -> list[Prediction]:
        with translate_write_errors(part):
            lines = part.read_bytes().splitlines()
        try:
            return [_revive(json.loads(line)) for line in lines]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{part} is damaged; remove {self.folder} to start over") from error


def _revive(values: dict[str, Any]) -> Prediction:
    """Build a prediction from its JSON values."""
    top = tuple((label, score) for label, score in values["top"])
    labels = None if values["labels"] is None else tuple(values["labels"])
    return Prediction(**{**values, "top": top, "labels": labels})


def _identify(status: os.stat_result) -> dict[str, int]:
    return {"device": status.st_dev, "inode": status.st_ino, "bytes": status.st_size}
