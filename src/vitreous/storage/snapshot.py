"""A folder with tensors and JSON state, written whole, and checked against its hashes on every read.

tensors.safetensors    state.json    SHA256SUMS (as `sha256sum -c` reads it)
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

TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"


def write_snapshot(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a snapshot atomically and durably, replacing an existing one as a whole. Raises StorageError."""
    text = json.dumps(state, indent=1).encode() + b"\n"
    with atomic_folder(path) as partial:
        sums = {TENSORS: save_tensors(partial / TENSORS, tensors), STATE: hashlib.sha256(text).hexdigest()}
        (partial / STATE).write_bytes(text)
        (partial / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read_snapshot(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Verify and read a snapshot: its tensors (mapped from the file) and its state. Raises CheckpointError."""
    state = read_state(path)
    _verify(path, TENSORS)
    return load_tensors(path / TENSORS)[0], state


def read_state(path: Path) -> dict[str, Any]:
    """Verify and read a snapshot's state alone. Raises CheckpointError."""
    _verify(path, STATE)
    with translate_read_errors(path / STATE):
        return json.loads((path / STATE).read_bytes())


def _verify(path: Path, name: str) -> None:
    """Check one file against the hash that was written with it."""
    with translate_read_errors(path / SUMS):
        lines = (path / SUMS).read_bytes().decode("ascii", "replace").splitlines()
    sums = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
    if name not in sums:
        raise CheckpointError(f"{path / SUMS} is damaged: it has no hash of {name}")
    if file_hash(path / name) != sums[name]:
        raise CheckpointError(f"{path / name} is damaged: its SHA-256 differs from the one it was written with")
