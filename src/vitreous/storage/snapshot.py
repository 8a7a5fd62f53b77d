"""A folder with tensors and JSON state, written completely or not at all, and checked against its hashes on every read.

tensors.safetensors    state.json    SHA256SUMS (as `sha256sum -c` reads it)

Several processes write the tensors as shards instead (`shards.py`). Any number of processes can read a folder of either
kind.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.storage.atomic import atomic_folder
from vitreous.storage.hashing import file_hash, translate_read_errors
from vitreous.storage.safetensors_file import load_tensors, save_tensors
from vitreous.storage.shards import SHARDS, Pieces, read_shards

TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"


def write_snapshot(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a snapshot atomically and durably, replacing an existing one as a whole. Raises StorageError."""
    with atomic_folder(path) as partial:
        complete_snapshot(partial, {TENSORS: save_tensors(partial / TENSORS, tensors)}, state)


def complete_snapshot(partial: Path, sums: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Write the state next to a snapshot's tensors, and the hashes of all files; `sums`: the hashes of the tensors'
    files."""
    text = json.dumps(state, indent=1).encode() + b"\n"
    (partial / STATE).write_bytes(text)
    sums = {**sums, STATE: hashlib.sha256(text).hexdigest()}
    (partial / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read_snapshot(path: Path, *, verify: bool = True) -> tuple[dict[str, Tensor | Pieces], dict[str, Any]]:
    """Verify and read a snapshot: its tensors (mapped from the files) and its state. Raises CheckpointError.

    `verify`: False if another process has just verified it.
    """
    state, sharded = read_state(path), (path / SHARDS).exists()
    for name in list(_read_sums(path)) if verify and sharded else [TENSORS] if verify else []:
        _verify(path, name)
    return dict(read_shards(path)) if sharded else dict(load_tensors(path / TENSORS)[0]), state


def read_state(path: Path) -> dict[str, Any]:
    """Verify and read only a snapshot's state. Raises CheckpointError."""
    _verify(path, STATE)
    with translate_read_errors(path / STATE):
        return json.loads((path / STATE).read_bytes())


def _verify(path: Path, name: str) -> None:
    """Check one file against its recorded hash."""
    sums = _read_sums(path)
    if name not in sums:
        raise CheckpointError(f"{path / SUMS} is damaged: it has no hash of {name}")
    if file_hash(path / name) != sums[name]:
        raise CheckpointError(f"{path / name} is damaged: its SHA-256 differs from the one it was written with")


def _read_sums(path: Path) -> dict[str, str]:
    """Return the recorded hashes of a snapshot's files, by name."""
    with translate_read_errors(path / SUMS):
        lines = (path / SUMS).read_bytes().decode("ascii", "replace").splitlines()
    return {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
