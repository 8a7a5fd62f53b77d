"""What a run learns from, found again when it is resumed, and compared with what it began with: data, and a teacher."""

from dataclasses import replace
from pathlib import Path

from vitreous.data.content_sample import find_changed, hash_sample
from vitreous.data.dataset import Dataset, is_built_in
from vitreous.data.listing.listing import format_names
from vitreous.data.sources.hub_sets import is_hub_set
from vitreous.data.sources.objects import is_object
from vitreous.errors import CheckpointError, ConfigError, DataError, RunError
from vitreous.run_folder import Run, RunRecord
from vitreous.storage.presence import path_exists
from vitreous.storage.relocation import locate
from vitreous.training.assembly import open_data
from vitreous.training.changes import AS_BEFORE, Changes
from vitreous.training.config import RunConfig
from vitreous.training.distributed import World
from vitreous.training.reporter import Reporter
from vitreous.training.teacher import Teacher, open_teacher


def locate_paths(config: RunConfig, run: Run, changes: Changes = AS_BEFORE) -> RunConfig:
    """Return the configuration with the current paths of data, weights and teacher, from any working directory."""

    def find(path: str) -> str:
        return locate(path, run.config.get("places"), run.path)

    data = config.data.relocate(find)
    if changes.validation is not None and data.validation is None:
        raise ConfigError(
            "--validation is the new path of separate validation data, but this run has none; leave it out"
        )
    if changes.teacher is not None and config.teacher is None:
        raise ConfigError("--teacher is the new path of a run's teacher, but this run has none; leave it out")
    data = replace(data, path=changes.data or data.path, validation=changes.validation or data.validation)
    teacher = changes.teacher or (config.teacher and find(config.teacher))
    return replace(config, data=data, weights=config.weights and find(config.weights), teacher=teacher)


def hash_dataset(dataset: Dataset) -> str:
    """Identify the examples of both parts, pseudo-labelled ones included."""
    return f"{dataset.learned.fingerprint}:{dataset.validation.fingerprint}"


def open_located(config: RunConfig, run: Path, reporter: Reporter) -> Dataset:
    """Open a run's data; raises DataError, and if the data is missing, says how to name its new path."""
    try:
        return open_data(config, reporter)
    except DataError as error:
        path = config.data.path
        if path_exists(path) or is_built_in(path) or is_object(path) or is_hub_set(path):
            raise
        raise DataError(f"{error}. If it was moved, say where it is: vitreous resume {run} --data PATH") from error


def hash_samples(dataset: Dataset, seed: int) -> dict[str, dict[str, str]]:
    """Return the hashes of a few files of each part by name, drawn with the run's seed."""
    return {name: hash_sample(part, seed) for name, part in dataset.parts.items()}


RESTORE = "Restore it, say where it is now (--data PATH), or start a new run with --weights"


def check_same_data(run: Run | RunRecord, dataset: Dataset, remedy: str = RESTORE) -> None:
    """Refuse to go on with data other than the run began with, by the scan, or by the contents of a few files;
    raises RunError, which ends with the remedy."""
    before = run.config["data"]
    known = before.get("sample") or {}
    parts = dataset.parts
    others = [name for part in known if part in parts for name in find_changed(parts[part], known[part])]
    looked = sum(map(len, known.values()))
    which = f"; of {looked} files compared, {len(others)} differ: {format_names(others)}" if others else ""
    if before["fingerprint"] != hash_dataset(dataset) or others:
        raise RunError(
            f"the data has changed since this run began: {before['train']:,} + {before['validation']:,} images then, "
            f"{len(dataset.train):,} + {len(dataset.validation):,} now (or others by name, label or content){which}. {remedy}"
        )


def open_known_teacher(
    config: RunConfig, run: Run, dataset: Dataset, reporter: Reporter, world: World
) -> Teacher | None:
    """Open the teacher of a run that is resumed; raises RunError for another one than it began with, CheckpointError for none."""
    try:
        teacher = open_teacher(config, dataset, reporter, world)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. If the teacher was moved, say where it is: vitreous resume {run.path} --teacher PATH"
        ) from error
    known = run.config.get("teacher")
    if teacher is not None and known is not None and teacher.sha256 != known["sha256"]:
        raise RunError(
            f"{config.teacher} is not the teacher that this run began with: its weights, architecture or preprocessing differ. "
            "Restore it, say where it is now (--teacher PATH), or start a new run with --weights"
        )
    return teacher
