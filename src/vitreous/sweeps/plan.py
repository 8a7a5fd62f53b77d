"""A sweep's runs, and the file that records them.

SWEEP/sweep.json                    each run's settings and whole configuration, and its figures once it is done
SWEEP/lr=0.001,seed=0/              one run; the same command with more values or seeds adds more
SWEEP/logs/lr=0.001,seed=0.txt      what a run in processes of its own has said
SWEEP/.lock                         held while a process goes on with it
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.errors import RunError
from vitreous.settings import refuse_double_keys, to_dict, to_json
from vitreous.storage.atomic import write_atomically
from vitreous.storage.hashing import hash_bytes
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import is_run, read_config
from vitreous.sweeps.grid import Variant, format_value
from vitreous.training.changes import find_differences, format_differences
from vitreous.training.config import RunConfig

PLAN, LOGS = "sweep.json", "logs"
KEY, VERSION = "vitreous_sweep", 2
"""The key that identifies sweep.json, and its version; version 1 was a search of rates (see `rate_search.py`)."""
LONGEST = 100
"""Characters of a run folder's name, without its hash."""
SHORT_HASH, LONG_HASH = 6, 32
"""Digits of that hash: usually, and where two runs would have the same."""
Figures = dict[str, Any]
"""Of a run that is done: its last evaluation, and under "test" that of the test split; empty where it diverged."""


@dataclass(frozen=True)
class SweepCell:
    """One run of a sweep."""

    name: str
    """Of its folder."""
    variant: Variant
    seed: int
    config: RunConfig
    """Complete."""
    images: str = ""
    """Hash of its data, as its run records it."""


@dataclass
class SweepPlan:
    """The runs of a sweep, and what is done."""

    folder: Path
    cells: Sequence[SweepCell]
    results: dict[str, Figures] = field(default_factory=dict)
    """By a run's name."""
    others: dict[str, Any] = field(default_factory=dict)
    """What sweep.json records of runs that this command doesn't ask for."""

    @property
    def pending(self) -> list[SweepCell]:
        """The runs that aren't done."""
        return [cell for cell in self.cells if cell.name not in self.results]

    def find_run(self, cell: SweepCell) -> Path:
        """Return a run's folder."""
        return self.folder / cell.name

    def find_log(self, cell: SweepCell) -> Path:
        """Return the file for what a run in processes of its own says; locked while one of them lives."""
        return self.folder / LOGS / f"{cell.name}.txt"

    def record(self, cell: SweepCell, figures: Figures) -> None:
        """Record that a run is done; raises StorageError."""
        self.results[cell.name] = figures
        self.write()

    def write(self) -> None:
        """Write sweep.json, atomically; raises StorageError."""
        runs = dict(self.others)
        for cell in self.cells:
            runs[cell.name] = {"variant": cell.variant, "seed": cell.seed, "config": to_dict(cell.config)}
            if cell.name in self.results:
                runs[cell.name]["reached"] = self.results[cell.name]
        write_atomically(self.folder / PLAN, to_json({KEY: VERSION, "runs": runs}))


def build_cells(configs: Sequence[tuple[Variant, RunConfig, str]], seeds: int) -> list[SweepCell]:
    """Return the runs of variants with their configurations and the hashes of their data: each with so many seeds, from the
    configuration's on."""
    short = shorten_names([name for variant, *_ in configs for name in variant])
    cells: dict[str, SweepCell] = {}
    for variant, config, images in configs:
        words = [f"{short[name]}={format_value(value)}" for name, value in variant.items()]
        for seed in range(config.seed, config.seed + seeds):
            text = ",".join([*words, f"seed={seed}"])
            if (name := name_folder(text)) in cells:  # once in thousands of settings
                name = name_folder(text, LONG_HASH)
            cells[name] = SweepCell(name, variant, seed, replace(config, seed=seed), images)
    return list(cells.values())


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return the last word of each dotted name or, where others end in it too, the whole.

    >>> shorten_names(["optimizer.lr", "model.width", "objective.width"])
    {'optimizer.lr': 'lr', 'model.width': 'model.width', 'objective.width': 'objective.width'}
    """
    every = dict.fromkeys(names)
    last = [name.rpartition(".")[2] for name in every]
    return {name: end if last.count(end) == 1 else name for name, end in zip(every, last, strict=True)}


def name_folder(text: str, digits: int = SHORT_HASH) -> str:
    """Return a folder's name for a variant and a seed: with a hash where characters were replaced.

    >>> name_folder("lr=0.001,seed=0"), name_folder("model=S/16")
    ('lr=0.001,seed=0', 'model=S-16-8ac1f2')
    """
    plain = re.sub(r"[^\w.,=+-]", "-", text, flags=re.ASCII)[:LONGEST].strip(".-")
    return plain if plain == text else f"{plain}-{hash_bytes(text.encode(errors='surrogateescape'))[:digits]}"


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep."""
    try:
        return json.loads((folder / PLAN).read_bytes()).get(KEY) == VERSION
    except (OSError, ValueError, RecursionError, AttributeError):
        return False


def open_plan(folder: Path, cells: Sequence[SweepCell]) -> SweepPlan:
    """Return the runs of a sweep with what its folder says is done.

    Raises:
        RunError: it holds something else, can't be read, or has one of these runs with another configuration or other images.
    """
    plan = SweepPlan(folder, cells)
    path = folder / PLAN
    if not path_exists(path):
        return plan
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=refuse_double_keys)
        if document.get(KEY) != VERSION:
            raise RunError(f"{path} is of another kind or version; choose another folder with --out")
        known: Mapping[str, Any] = document["runs"]
        plan.others = {name: one for name, one in known.items() if name not in {cell.name for cell in cells}}
        for cell in cells:
            if cell.name not in known:
                continue
            if found := find_differences(known[cell.name]["config"], cell.config):
                raise RunError(
                    f"{folder} holds another sweep, whose {cell.name} differs: {format_differences(found)}; choose another folder "
                    "with --out"
                )
            if "reached" in known[cell.name] and is_run(plan.find_run(cell)):
                check_images(plan, cell)
                plan.results[cell.name] = dict(known[cell.name]["reached"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(
            f"{path} can't be read: {error!r:.120}; restore it, or choose another folder with --out"
        ) from error
    return plan


def check_images(plan: SweepPlan, cell: SweepCell) -> None:
    """Refuse a run that is done with other images than there are now, to which others would be compared; raises RunError."""
    before = read_config(plan.find_run(cell))["data"]["fingerprint"]
    if cell.images and before != cell.images:
        raise RunError(
            f"the images have changed since {cell.name} in {plan.folder} was trained; restore them, or choose another folder with "
            "--out"
        )
