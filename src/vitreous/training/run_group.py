"""Several runs in one folder, a sweep, a search of rates or a cross-validation: beginning, recording in a file of their own,
and reading."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from vitreous.errors import RunError
from vitreous.run_folder import is_run
from vitreous.settings import from_dict, refuse_double_keys, to_dict, to_json
from vitreous.storage.atomic import translate_write_errors, write_atomically
from vitreous.storage.lock import FolderLock, has_never_begun
from vitreous.storage.presence import expand_home, path_exists
from vitreous.storage.relocation import locate, note_places
from vitreous.training.config import RunConfig
from vitreous.training.distributed import get_world, join
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.run import TrainResult, resume, train

T = TypeVar("T")
Places = dict[str, dict[str, str]]
"""The paths in the configuration when the runs began (see `storage/relocation.py`)."""


def begin_or_resume(config: RunConfig, path: Path, reporter: Reporter | None = None) -> TrainResult:
    """Begin the run in a folder, or go on with the one that is there, begun with this configuration.

    Raises:
        UserError, FailedError: those of `train` and `resume`.
    """
    begun = get_world().share(is_run(path))
    return resume(path, reporter) if begun else train(config, path, reporter)


def claim_group(out: Path, complaint: str = "") -> None:
    """Make the folder; raises RunError, which says `complaint` of it, for one that is in use."""
    if path_exists(out) and (not out.is_dir() or not has_never_begun(out)):
        hint = f"is not empty; choose another folder with --out, or go on with `vitreous resume {out}`"
        raise RunError(f"{out} {complaint or hint}")
    with translate_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)


def begin_group(
    out: Path,
    plan: T,
    write: Callable[[T, Path], None],
    run: Callable[[T, Path, Reporter], TrainResult],
    reporter: Reporter | None,
) -> TrainResult:
    """Carry out a plan of runs in a new folder, which `write` notes there first; raises RunError if the folder is in use."""
    claim_group(out)
    with FolderLock(out):
        write(plan, out)
        return run(plan, out, reporter or Silent())


def continue_group(
    out: Path,
    what: str,
    read: Callable[[Path], T],
    run: Callable[[T, Path, Reporter], TrainResult],
    reporter: Reporter | None,
    check: Callable[[T], None] = lambda _: None,
) -> TrainResult:
    """Go on with the plan of runs in a folder, once `check` has nothing against it.

    Raises:
        RunError: it can't be read, or several processes were started for what is many models. RunLocked: another process
            goes on with it.
    """
    with join() as world:
        world.refuse_others(f"{out} is {what}, many models")
    check(read(out))
    with FolderLock(out):
        return run(read(out), out, reporter or Silent())


def write_group(
    file: Path, layout: tuple[str, int], config: RunConfig, places: Places, values: Mapping[str, Any]
) -> None:
    """Write the configuration and the results of runs, atomically; raises StorageError.

    Args:
        file: in the folder of the runs.
        layout: the key that identifies the file, and its version.
        config: the common configuration of the runs.
        places: as they were read; empty: the current ones.
        values: everything else, as JSON values.
    """
    key, version = layout
    places = places or note_places((*config.data.paths, config.weights, config.teacher), file.parent)
    write_atomically(file, to_json({key: version, "config": to_dict(config), "places": places, **values}))


def read_group(file: Path, layout: tuple[str, int], build: Callable[[RunConfig, Places, dict[str, Any]], T]) -> T:
    """Read what `write_group` wrote, and pass the configuration, the places and the document to `build`.

    Raises:
        RunError: it can't be read, or is of another version.
    """
    key, version = layout
    try:
        document: dict[str, Any] = json.loads(file.read_bytes(), object_pairs_hook=refuse_double_keys)
        if document[key] != version:
            raise RunError(f"{file} is of version {document[key]}; this vitreous reads {version}")
        config = from_dict(RunConfig, document["config"], "config")
        places = dict(document.get("places") or {})
        found = build(relocate_config(config, places, file.parent), places, document)
        str(found)  # results that can't be told are damage too
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, RunError):
            raise
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise RunError(f"{file} can't be read: {reason}") from error


def read_version(file: Path, key: str) -> Any:
    """Return the version under `key` in a file of `write_group`; None without the file or the key, or if it can't be read."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document.get(key) if isinstance(document, dict) else None


def relocate_config(config: RunConfig, known: Mapping[str, Any], out: Path) -> RunConfig:
    """Return the configuration with paths that lead from this folder to the same places as when the runs began."""

    def now(path: str) -> str:
        if path_exists(path) and expand_home(path).resolve() == Path(known.get(path, {}).get("absolute", "")):
            return path
        return locate(path, known, out)

    models = {name: (path := getattr(config, name)) and now(path) for name in ("weights", "teacher")}
    return replace(config, data=config.data.relocate(now), **models)
