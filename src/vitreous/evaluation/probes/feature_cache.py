"""A cache of features on disk, in ~/.cache/vitreous/features or below $VITREOUS_CACHE. Deleting it costs only time.

A key is a hash of everything that the numbers depend on: weights, architecture, preprocessing, images, layer,
precision, kind of device and version of torch. An entry is a folder with `vectors.npy` and the hash of that file; an
incomplete one is computed again.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from vitreous.data.sources.base import Source
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.images.config import DecodeConfig
from vitreous.model.factory import Model
from vitreous.model.kinds import get_kind
from vitreous.settings import to_dict
from vitreous.shapes import Float32
from vitreous.storage.atomic import atomic_folder, clear_partials
from vitreous.storage.cache import find_cache
from vitreous.storage.hashing import file_hash
from vitreous.weights.model_folder import ModelFolder

FORMAT = 1
"""Part of every key; to be increased when the same request gives other numbers."""
VECTORS, DIGEST = "vectors.npy", "vectors.sha256"


def cache_folder() -> Path:
    """Return the cache's folder."""
    return find_cache() / "features"


def cache_key(folder: ModelFolder, source: Source, layer: str, bf16: bool, device: str) -> str:
    """Hash everything that the features depend on."""
    facts = {
        "format": FORMAT,
        "kind": get_kind(folder.model.config),
        "architecture": to_dict(folder.model.config),
        "weights": weights_hash(folder.model),
        "preprocess": to_dict(folder.preprocess),
        "decode": to_dict(folder.decode),
        "data": [source.fingerprint, len(source)],
        "layer": layer,
        "bf16": bf16,
        "device": device,
        "torch": torch.__version__,
    }
    state = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in source.names:  # a subset may have the fingerprint of the whole source
        state.update(f"{name}\0".encode(errors="surrogateescape"))
    return state.hexdigest()


def weights_hash(model: Model) -> str:
    """Hash all of a model's tensors, with their names, types and shapes."""
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def model_hash(folder: ModelFolder | ExportedFolder) -> str:
    """Hash everything that maps pixels to a model's output: its architecture, weights, decoding and preprocessing; of an export its files."""
    if isinstance(folder, ExportedFolder):
        return folder.sha256
    facts = {
        "kind": get_kind(folder.model.config),
        "architecture": to_dict(folder.model.config),
        "weights": weights_hash(folder.model),
        "preprocess": to_dict(folder.preprocess),
    }
    usual = to_dict(DecodeConfig())
    decode = {
        name: value
        for name, value in to_dict(folder.decode).items()
        if not name.startswith("max_") and value != usual[name]  # limits change no pixel
    }
    if decode:  # left out where it is as usual, so that hashes of earlier versions stay valid
        facts["decode"] = decode
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find(key: str, count: int) -> Float32[np.ndarray, "example features"] | None:
    """Return the vectors under a key, mapped from disk, or None if there are no complete ones."""
    entry = cache_folder() / key
    try:
        if file_hash(entry / VECTORS) != (entry / DIGEST).read_text():
            return None
        vectors = np.load(entry / VECTORS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == count else None


def keep(
    key: str | None, chunks: Iterable[Float32[np.ndarray, "batch features"]], count: int
) -> Float32[np.ndarray, "example features"]:
    """Write the vectors under a key as they arrive; return them, mapped from disk.

    Without a key, or if nothing can be written, they are gathered in memory.

    Raises:
        StorageError: the disk became full, or failed, during writing.
    """
    entry = cache_folder() / key if key is not None else None
    if entry is None or not _make_room(entry):
        return _gather(chunks, count)
    with atomic_folder(entry) as partial:
        with (partial / VECTORS).open("xb") as file:
            _write(file, chunks, count)
        (partial / DIGEST).write_text(file_hash(partial / VECTORS))
    return np.load(entry / VECTORS, mmap_mode="r", allow_pickle=False)


def _write(file: BinaryIO, chunks: Iterable[Float32[np.ndarray, "batch features"]], count: int) -> None:
    """Write an .npy file of `count` rows."""
    first = True
    for chunk in chunks:
        if first:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, chunk.shape[1])}
            np.lib.format.write_array_header_1_0(file, header)
            first = False
        file.write(np.ascontiguousarray(chunk, dtype="<f4").data)


def _gather(
    chunks: Iterable[Float32[np.ndarray, "batch features"]], count: int
) -> Float32[np.ndarray, "example features"]:
    """Combine the vectors into one array, without ever holding them twice."""
    whole, done = np.empty((0, 0), np.float32), 0
    for chunk in chunks:
        if not done:
            whole = np.empty((count, chunk.shape[1]), np.float32)
        whole[done : done + len(chunk)] = chunk
        done += len(chunk)
    return whole


def _make_room(entry: Path) -> bool:
    """Make room for an entry; return whether it can be written."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        clear_partials(entry.parent)
        return os.access(entry.parent, os.W_OK)
    except OSError:
        return False
