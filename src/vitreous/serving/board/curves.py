"""Follow a metrics.jsonl: read only what is new, and keep of each line of a chart a few hundred points."""

import json
import os
from array import array
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vitreous.errors import is_number
from vitreous.metrics.headline import rank_evaluation
from vitreous.serving.board.folder import Folder
from vitreous.storage.run_config import METRICS

POINTS = 402
"""Points of one line at which neighbours are merged: an even number, above the records of a run of ours."""
LINES = 24
"""Most lines of one kind of record; a run writes a third of that."""
CHUNK = 1 << 20
"""Bytes that are read at once; a longer record is passed over."""
EDGE = 64
"""Bytes before the place of reading that tell whether the file is still the same."""
LARGEST = 1e39
"""Numbers beyond it, more than float32 holds, are damage."""
CLOCKS = ("step", "epoch", "samples", "seconds")
"""Numbers that tell when, and are no line of a chart."""


class Curve:
    """One line, thinned as it grows: each point stands for equally many neighbours, by their mean, least and most."""

    def __init__(self) -> None:
        self.each = 1
        """Records that a point stands for."""
        self.columns = [array("d") for _ in range(4)]
        """x, mean, least and most of each point."""
        self._waiting: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Add a record's number; x ascends."""
        self._waiting.append((x, y))
        if len(self._waiting) < self.each:
            return
        self._append()
        if len(self.columns[0]) == POINTS:
            self._halve()

    def _append(self) -> None:
        values = [y for _, y in self._waiting]
        point = (self._waiting[-1][0], sum(values) / len(values), min(values), max(values))
        for column, value in zip(self.columns, point, strict=True):
            column.append(value)
        self._waiting = []

    def _halve(self) -> None:
        x, mean, low, high = self.columns
        means = array("d", ((a + b) / 2 for a, b in zip(mean[::2], mean[1::2], strict=True)))
        lows, highs = array("d", map(min, low[::2], low[1::2])), array("d", map(max, high[::2], high[1::2]))
        self.columns, self.each = [x[1::2], means, lows, highs], 2 * self.each

    def means(self) -> list[tuple[float, float]]:
        """Return (x, mean) of each point, with what hasn't yet made a whole one."""
        found = list(zip(*self.columns[:2], strict=True))
        if self._waiting:
            values = [y for _, y in self._waiting]
            found.append((self._waiting[-1][0], sum(values) / len(values)))
        return found

    def extremes(self) -> list[tuple[float, float]]:
        """Return least and most in turn, so that no peak is lost; of a line that isn't thinned, its points."""
        if self.each == 1:
            return self.means()
        x, _, low, high = self.columns
        pairs = range(0, len(x) - 1, 2)
        return [
            point
            for at in pairs
            for point in ((x[at], min(low[at], low[at + 1])), (x[at + 1], max(high[at], high[at + 1])))
        ]


class Metrics:
    """What a run has recorded so far."""

    def __init__(self, folder: Folder, run: str) -> None:
        self.folder, self.name = folder, f"{run}/{METRICS}".lstrip("/")
        self.changed = 0.0
        """When the file was last written, in seconds since 1970; 0: there is none."""
        self._begin(None)
        with suppress(OSError):
            found = (folder.path / self.name).lstat()
            self.changed, self.unread = found.st_mtime, found.st_size

    def _begin(self, file: tuple[int, int] | None) -> None:
        self._file, self._at, self._edge, self._skipping = file, 0, b"", False
        self.curves: dict[str, dict[str, Curve]] = {"train": {}, "evaluation": {}}
        self.last: dict[str, dict[str, Any]] = {}
        """The newest record of each kind."""
        self.best: dict[str, Any] | None = None
        """The best evaluation."""
        self.ended: dict[str, Any] | None = None
        """Why the run broke off, if that is its last record."""
        self.step = 0
        self.unread = 0
        """Bytes that are still to be read."""
        self.damaged = 0
        """Lines that are no records."""

    def read(self, most: int = CHUNK) -> bool:
        """Read what is new, of it about `most` bytes; return whether anything was.

        A file that was cut back (by resuming) or replaced is read anew.
        """
        try:
            handle = self.folder.open(self.name)
        except OSError:
            known, self.changed = self.changed, 0.0
            self._begin(None)
            return bool(known)
        try:
            return self._read(handle, most)
        except OSError:
            return False
        finally:
            os.close(handle)

    def _read(self, handle: int, most: int) -> bool:
        found = os.fstat(handle)
        file, before = (found.st_dev, found.st_ino), self._at
        same = file == self._file and os.pread(handle, len(self._edge), self._at - len(self._edge)) == self._edge
        if not same:
            self._begin(file)
        self.changed = found.st_mtime
        end = min(found.st_size, self._at + most)
        while self._at < end and self._take(os.pread(handle, min(CHUNK, found.st_size - self._at), self._at)):
            pass
        self._edge = os.pread(handle, min(EDGE, self._at), max(0, self._at - EDGE))
        self.unread = found.st_size - self._at
        return not same or self._at != before

    def _take(self, data: bytes) -> bool:
        """Take whole lines from what was read; return False if there are none yet."""
        whole, newline, _ = data.rpartition(b"\n")
        if not newline:
            if len(data) < CHUNK:
                return False
            self._at, self._skipping = self._at + len(data), True
            return True
        self._at += len(whole) + 1
        lines = whole.split(b"\n")
        if self._skipping:
            self.damaged, self._skipping, lines = self.damaged + 1, False, lines[1:]
        for line in lines:
            self._add(line)
        return True

    def _add(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            kind = str(record["kind"])
            record = {name: value for name, value in record.items() if not is_damaged(value)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.damaged += 1
            return
        self.ended = record if kind == "stopped" else None
        step = record.get("step")
        self.step = max(self.step, int(step)) if is_drawable(step) else self.step
        if kind not in self.curves:
            return
        self.last[kind] = record
        if kind == "evaluation" and (self.best is None or is_better(record, self.best)):
            self.best = record
        self._extend(self.curves[kind], record)

    @staticmethod
    def _extend(curves: dict[str, Curve], record: Mapping[str, Any]) -> None:
        at = record.get("epoch", record.get("step"))
        if not is_drawable(at):
            return
        for name, value in record.items():
            if name in CLOCKS or not is_drawable(value) or (name not in curves and len(curves) >= LINES):
                continue
            curves.setdefault(name, Curve()).add(float(at), float(value))


def is_drawable(value: Any) -> bool:
    """Return whether a JSON value is a number that can be drawn."""
    return is_number(value) and abs(value) <= LARGEST


def is_damaged(value: Any) -> bool:
    """Return whether a JSON value is a number, but none that a run records: NaN, infinite, or beyond all bounds."""
    return is_number(value) and not is_drawable(value)


def is_better(record: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Return whether an evaluation is better than another one; a damaged one never is."""
    with suppress(TypeError, ValueError):
        return rank_evaluation(record) > rank_evaluation(before)
    return False
