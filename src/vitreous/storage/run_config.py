"""config.json of a run folder: it makes a folder a run, and holds its own hash, so that manual edits are noticed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.errors import ConfigError, RunError
from vitreous.settings import SEAL, hash_document, refuse_double_keys, to_json
from vitreous.storage.lock import LOCK, has_never_begun
from vitreous.storage.presence import path_exists

RUN_FORMAT = 2
"""Version of the run folder's layout that is written: 2 since settings have their current names
(`RunConfig.RENAMED`)."""
READABLE = (1, 2)
"""Versions that can be read."""
FORMAT_KEY = "vitreous_run"
"""The key of this version in config.json."""
CONFIG, METRICS = "config.json", "metrics.jsonl"
CHECKPOINTS, MODEL, BEST, MEASURED, REPORT = "checkpoints", "model", "best", "measured", "report.html"
FINAL = "final"
"""The folder of the last run of a rate search, a cross-validation or a self-training, whose model is exported."""


def is_run(path: str | Path) -> bool:
    """Return whether a folder is a run folder, of any format."""
    try:
        document = json.loads((Path(path) / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and FORMAT_KEY in document


def find_run(path: Path) -> Path | None:
    """Return the run that a path leads to: the folder itself, or the one that contains a model folder; None if there
    is none."""
    return next((place for place in (path, path.resolve().parent) if is_run(place)), None)


def find_last_run(path: Path) -> Path | None:
    """Return the last run of the rate search, cross-validation or self-training that a path leads to: the folder
    itself, or the one that contains a model folder; None if there is none."""
    return next((place / FINAL for place in (path, path.resolve().parent) if is_run(place / FINAL)), None)


def find_own_run(path: Path) -> Path | None:
    """Return the run that a model's path leads to, or else the last one of several; None if there is none."""
    return find_run(path) or find_last_run(path)


def find_inner_run(path: Path) -> Path | None:
    """Return a run within a folder: the last run of a group, if there is one, or else the first, as in a sweep."""
    try:
        with os.scandir(path) as entries:
            inner = sorted(
                entry.name for entry in entries if entry.is_dir()
            )  # names only: a folder of many images isn't read
    except OSError:
        return None
    return next((path / name for name in (FINAL, *inner) if is_run(path / name)), None)


def suggest_run(path: Path) -> str:
    """Return a question suggesting the run that was probably meant, for the end of an error; empty if there is none."""
    inner = find_inner_run(path)
    return f"; did you mean {inner}?" if inner else ""


def encode_document(config: Mapping[str, Any]) -> bytes:
    """Return the contents of config.json: the format, the run's configuration, and the hash of both."""
    document = {FORMAT_KEY: RUN_FORMAT, **config}
    return to_json({**document, SEAL: hash_document(document)})


def strip_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the run's configuration."""
    return {key: value for key, value in document.items() if key not in (FORMAT_KEY, SEAL)}


def read_config(path: Path) -> dict[str, Any]:
    """Read and check config.json; raises RunError."""
    if not path_exists(path):
        raise RunError(f"{path} is not a run folder: there is no such folder")
    if not path.is_dir():
        raise RunError(f"{path} is not a run folder: it is a file")
    try:
        document = json.loads((path / CONFIG).read_bytes(), object_pairs_hook=refuse_double_keys)
    except FileNotFoundError as error:
        meant = find_inner_run(path) or next((parent for parent in path.resolve().parents if is_run(parent)), None)
        hint = f"did you mean {meant}?" if meant else "`vitreous train` writes run folders"
        if path_exists(path / LOCK) and has_never_begun(path, METRICS):
            raise RunError(
                f"{path} holds a run that ended before its first step: there is nothing to resume. Repeat the "
                f"`vitreous train` command, with --out {path} if you like"
            ) from error
        raise RunError(f"{path} is not a run folder: it has no {CONFIG}; {hint}") from error
    except OSError as error:
        raise RunError(f"can't read {path / CONFIG}: {error.strerror}") from error
    except ConfigError as error:
        raise RunError(f"{path / CONFIG}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path / CONFIG} is damaged: it is not JSON ({error})") from error
    _check_document(path, document)
    return document


def _check_document(path: Path, document: Any) -> None:
    if not isinstance(document, dict) or FORMAT_KEY not in document:
        model = isinstance(document, dict) and "vitreous_model" in document
        above = path.resolve().parent
        hint = f"; did you mean {above}?" if is_run(above) else ""
        raise RunError(f"{path} is {'a model folder and ' if model else ''}not a run folder{hint}")
    if document[FORMAT_KEY] not in READABLE:
        raise RunError(
            f"{path} is a run folder of format {document[FORMAT_KEY]!r}; this vitreous reads formats {READABLE[0]} to {RUN_FORMAT}. "
            "Use the vitreous that wrote it (its config.json names the version)"
        )
