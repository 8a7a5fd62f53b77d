"""Run a study, cell by cell. It can be resumed after a kill at any instant: STUDY holds everything.

STUDY/study.json              what it is, its scale and data, and each cell's settings
STUDY/data.csv                at laptop scale, the images that it uses
STUDY/runs/CELL/              an ordinary run folder, and in it result.json once the cell is measured
STUDY/results.json, table.md, figure.svg, report.html      its conclusion
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vitreous.errors import NonFiniteLoss, RunError, UnknownName
from vitreous.reports.notebook import embed_page
from vitreous.run_folder import is_run, read_run
from vitreous.runtime.display import Shown, format_text
from vitreous.settings import refuse_double_keys, to_dict, to_json
from vitreous.storage.atomic import translate_write_errors, write_atomically
from vitreous.storage.lock import FolderLock
from vitreous.studies.engine.data_subset import find_other_images
from vitreous.studies.engine.page import REPORT, TABLE, WORDS, write_conclusion
from vitreous.studies.engine.progress import CellReporter, Clock
from vitreous.studies.engine.settings_diff import explain_difference, list_differences
from vitreous.studies.engine.study import Cell, CellResult, CellResults, Conclusion, Setting, Study, Trained
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.rules import find_outdated
from vitreous.training.run import TrainResult
from vitreous.training.run_group import begin_or_resume

STUDY_FORMAT = 1
RESULT, ABOUT = "result.json", "study.json"
AGAIN = "Remove that folder to run it again, or choose another --out"


@dataclass(frozen=True, repr=False)
class StudyResult(Shown):
    """The result of a study."""

    folder: Path
    conclusion: Conclusion | None
    """None if nothing can be concluded yet."""
    done: int
    cells: int
    signal: int | None = None
    """Number of the signal that interrupted it."""

    def __str__(self) -> str:
        verdicts = self.conclusion.verdicts if self.conclusion else ()
        lines = [f"{WORDS[one.seen]}: {one.claim}. {one.sentence}" for one in verdicts]
        return "\n".join([*lines, f"  report  {self.folder / REPORT}", f"  table   {self.folder / TABLE}"])

    def _repr_html_(self) -> str:
        """Return the study's page for a notebook, or its progress."""
        page = self.folder / REPORT
        return (
            embed_page(page.read_text(encoding="utf-8"))
            if self.conclusion
            else format_text(f"{self.done} of {self.cells} cells")
        )


def run_study(study: Study, setting: Setting, reporter: Reporter | None = None, only: str = "*") -> StudyResult:
    """Run a study's remaining cells, conclude, and write its pages.

    Args:
        study: the study.
        setting: its scale, data and folder, from `open_setting`.
        reporter: receives the progress.
        only: a pattern of cells' names; other cells, except those that these need, are left out for now.

    Raises:
        RunError: the folder holds another study, or one of other data, or cells of other settings.
        UnknownName: no cell matches `only`.
    """
    reporter = reporter or Silent()
    cells = check_study_cells(study.cells(setting))
    wanted = choose_cells(cells, only)
    with translate_write_errors(setting.folder):
        setting.folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(setting.folder)
    try:
        begin_study(study, setting, cells)
        left = [cell for cell in wanted if read_result(setting, cell.name) is None]
        reporter.message(f"study {study.name}: {len(left)} of {len(cells)} cells to run, in {setting.folder}")
        clock = Clock(setting, left)
        for cell in left:
            signal = run_cells(cell, setting, CellReporter(reporter, clock, cell))
            if signal is not None:
                return StudyResult(setting.folder, None, count_finished(setting, cells), len(cells), signal)
            clock.finish(cell)
        reporter.close()
        conclusion = write_conclusion(study, setting, read_results(setting, cells))
        return StudyResult(setting.folder, conclusion, count_finished(setting, cells), len(cells))
    finally:
        reporter.close()
        lock.release()


def check_study_cells(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Check a study's cells."""
    seen: set[str] = set()
    for cell in cells:
        assert cell.name not in seen, f"two cells are called {cell.name}"
        assert cell.name == Path(cell.name).name, f"{cell.name} can't be the name of a folder"
        assert seen.issuperset(cell.needs), f"{cell.name} needs cells that don't come before it"
        seen.add(cell.name)
    return cells


def choose_cells(cells: Sequence[Cell], only: str) -> list[Cell]:
    """Return the cells whose names match a pattern and the cells that they need, in order."""
    names = {cell.name for cell in cells if fnmatch(cell.name, only)}
    if not names:
        raise UnknownName("cell", only, [cell.name for cell in cells])
    for cell in reversed(cells):
        if cell.name in names:
            names.update(cell.needs)
    return [cell for cell in cells if cell.name in names]


def begin_study(study: Study, setting: Setting, cells: Sequence[Cell]) -> None:
    """Write data.csv and study.json, or check that the existing ones are of this study; raises RunError."""
    path = setting.folder / ABOUT
    about = {"study": study.name, "scale": setting.scale, "classes": len(setting.facts.classes)}
    if path.exists():
        before = read_json_object(path)
        listed = ", ".join(list_differences({name: before.get(name) for name in about}, about))
        listed = listed or explain_difference(before.get("data"), setting.data)
        listed = listed or find_other_images(before.get("images"), setting.images)
        if listed:
            raise RunError(f"{setting.folder} holds another study: {listed}. Choose another --out")
        check_cells(setting, cells, before.get("cells"))
    cells_now = {cell.name: to_dict(cell.config) for cell in cells}
    images = {"named": setting.images.named, "fingerprint": setting.images.fingerprint}
    about |= {"data": to_dict(setting.data), "images": images, "cells": cells_now}
    if setting.images.listed is not None:
        write_atomically(Path(setting.data.path), setting.images.listed)
    write_atomically(path, to_json({"vitreous_study": STUDY_FORMAT, **about}))


def check_cells(setting: Setting, cells: Sequence[Cell], stored: Any) -> None:
    """Raise RunError if a cell was run, or begun, with other settings than it has now, or under other rules."""
    before = stored if isinstance(stored, dict) else {}
    for cell in cells:
        if not setting.run(cell.name).exists():
            continue
        known = read_run(setting.run(cell.name)).config if is_run(setting.run(cell.name)) else None
        listed = explain_difference(before.get(cell.name), cell.config, known and known["config"])
        if listed:
            raise RunError(
                f"{setting.run(cell.name)} was run with other settings than the study has now: {listed}. {AGAIN}"
            )
        otherwise = find_outdated(known) if known else ""
        if otherwise:
            raise RunError(f"{setting.run(cell.name)} was run by a vitreous that {otherwise}. {AGAIN}")


def run_cells(cell: Cell, setting: Setting, reporter: CellReporter) -> int | None:
    """Begin or continue one cell, measure it and record the result; return the signal that interrupted it, if any."""
    folder = setting.run(cell.name)
    started = time.perf_counter()
    failed = [name for name in cell.needs if read_failure(setting, name)]
    if failed:
        with translate_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        record_result(
            setting, CellResult(cell.name, cell.group, cell.seed, {}, f"it starts from {failed[0]}, which failed"), 0.0
        )
        return None
    if cell.prepare is not None and not is_run(folder):
        cell.prepare(setting)
    try:
        result: TrainResult = begin_or_resume(cell.config, folder, reporter)
    except NonFiniteLoss as error:
        record_result(
            setting, CellResult(cell.name, cell.group, cell.seed, {}, str(error)), time.perf_counter() - started
        )
        return None
    if result.stopped == "interrupted":
        return result.signal or 2
    reporter.phase("measuring")
    numbers = cell.measure(Trained(folder, cell.config, result.metrics, setting))
    record_result(setting, CellResult(cell.name, cell.group, cell.seed, numbers), time.perf_counter() - started)
    return None


def record_result(setting: Setting, result: CellResult, seconds: float) -> None:
    """Write a cell's result.json, which marks the cell as done."""
    write_atomically(setting.run(result.cell) / RESULT, to_json({**asdict(result), "seconds": seconds}))


def read_failure(setting: Setting, name: str) -> str | None:
    """Return why the cell with this name failed, if it did."""
    found = read_result(setting, name)
    return found and found.failed


def read_result(setting: Setting, name: str) -> CellResult | None:
    """Return the recorded result of the cell with this name, if it is done."""
    path = setting.run(name) / RESULT
    if not path.exists():
        return None
    found = read_json_object(path)
    found.pop("seconds", None)
    try:
        return CellResult(**found)
    except TypeError as error:
        raise RunError(f"{path} is damaged ({error}); remove it to measure the cell again") from error


def read_results(setting: Setting, cells: Sequence[Cell]) -> CellResults:
    """Return the results of all finished cells, in the study's order."""
    found = [read_result(setting, cell.name) for cell in cells]
    return CellResults([one for one in found if one is not None], len(cells))


def count_finished(setting: Setting, cells: Sequence[Cell]) -> int:
    """Count the finished cells."""
    return len(read_results(setting, cells).all)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises RunError."""
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=refuse_double_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} can't be read ({error}); remove it, and it is written again") from error
    if not isinstance(document, dict):
        raise RunError(f"{path} is not a JSON object; remove it, and it is written again")
    return document
