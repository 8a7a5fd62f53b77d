"""Compare what a job that writes its output in parts depends on with what it was begun with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.errors import CheckpointError, ConfigError
from vitreous.storage.atomic import write_atomically
from vitreous.storage.limits import read_json


def begin_facts(file: Path, facts: Mapping[str, Any], begun: bool, out: Path) -> None:
    """Record what a job depends on or, if it has begun, compare that with the record.

    Args:
        file: holds the facts, next to the parts.
        facts: as JSON values; `images` may hold their count and a hash.
        begun: whether there are already parts.
        out: the user's name of the output, for messages.

    Raises:
        ConfigError: the facts differ. StorageError: they can't be written.
    """
    if not begun or not file.is_file():
        write_atomically(file, json.dumps(facts, indent=1).encode())
        return
    try:
        before = read_json(file)
    except CheckpointError as error:
        raise ConfigError(f"{error}; remove {file.parent} to start over") from error
    for name in [*facts, *before]:
        if before.get(name) != facts.get(name):
            raise ConfigError(
                f"{out} was begun with {explain_change(name, before.get(name), facts.get(name))}; repeat the command as it was, name another file with --out, or remove {file.parent} to start over"
            )


def explain_change(name: str, begun: Any, now: Any) -> str:
    """Describe how a fact differs."""
    if name == "model":
        return "another model"
    if name == "images":
        one, two = (found.get("count") if isinstance(found, dict) else None for found in (begun, now))
        return (
            f"{one:,} images, now there are {two:,}"
            if one != two
            else "other images: one of them was changed or renamed"
        )
    return f"{name} {begun}, now it is {now}"
