"""Weights as other code bases write them, read without running anyone's code: safetensors, npz, pth, and folders of them."""

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreous.checkpoints.files import map_tensors, reading
from vitreous.checkpoints.mapped import FileMap
from vitreous.checkpoints.torchscript import is_script, read_script
from vitreous.errors import CheckpointError, absent, is_there

SAFE, PICKLED = (".safetensors",), (".pth", ".pt", ".bin", ".ckpt")
ENDINGS = (*SAFE, ".npz", *PICKLED)
"""Of files of weights."""
WRAPPERS = ("model_ema", "state_dict_ema", "ema", "teacher", "target_encoder", "model", "state_dict", "module")
"""Keys under which training scripts keep the weights; the average is preferred to the raw ones."""
MOST_JSON = 16 * 2**20
INDEX, INDICES = "model.safetensors.index.json", (".safetensors.index.json", ".bin.index.json")
"""The index of shards by its usual name, and how the names of all end."""
CANDIDATES = (
    "model.safetensors",
    INDEX,
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Weights:
    """Somebody's tensors by name, with what lay beside them."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    """config.json (or open_clip_config.json) beside the weights, if there is one."""
    preprocessor: dict[str, Any] = field(default_factory=dict)
    """preprocessor_config.json beside the weights, if there is one."""
    notes: tuple[str, ...] = ()
    """What was unwrapped, for the report."""
    maps: tuple[FileMap, ...] = ()
    """The files that tensors are mapped from, where vitreous mapped them itself."""
    aside: tuple[str, ...] = ()
    """Names of tensors that belong to another model in the same file, such as a student beside its teacher."""


def read_weights(path: str | Path) -> Weights:
    """Read a file of weights, or a folder that holds one.

    Raises:
        CheckpointError: nothing there, not a known format, damaged, or hostile; no code in it is ever run.
    """
    path = Path(path)
    if not is_there(path):
        raise CheckpointError(absent(path))
    file = path if path.is_file() else _inside(path)
    notes: tuple[str, ...] = ()
    maps: list[FileMap] = []
    if file.name.endswith(INDICES):
        tensors, maps = _sharded(file)
    elif file.suffix in SAFE:
        tensors, _, mapped = map_tensors(file, alignment=1)
        maps = [mapped]
    elif file.suffix == ".npz":
        tensors = read_npz(file)
    elif file.suffix in PICKLED and is_script(file):
        tensors, mapped = read_script(file)
        maps, notes = [mapped], ("took the tensors of a TorchScript archive; its code was not run",)
    elif file.suffix in PICKLED:
        tensors, notes = _pickled(file)
    else:
        raise CheckpointError(f"{file} is no file of weights that vitreous reads: .safetensors, .npz, .pth, .pt, .bin")
    folder = file.parent
    config = _json(folder / "config.json") or _json(folder / "open_clip_config.json")
    return Weights(file, tensors, config, _json(folder / "preprocessor_config.json"), notes, tuple(maps))


def holds_weights(path: Path) -> bool:
    """Tell, by their endings, whether a path is a file of weights or an index of shards, or a folder with one inside."""
    files = path.iterdir() if path.is_dir() else [path]
    return any(file.suffix in ENDINGS or file.name.endswith(INDICES) for file in files)


def _inside(folder: Path) -> Path:
    """Find the weights in a folder."""
    for name in CANDIDATES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(folder.iterdir())
    found = [file for file in files if file.suffix in ENDINGS] or [
        file for file in files if file.name.endswith(INDICES)
    ]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(file.name for file in found[:5]) or "none"
    raise CheckpointError(
        f"{folder} holds no model.safetensors, and no single file of weights (found: {listed}); name the file"
    )


def _sharded(index: Path) -> tuple[dict[str, Tensor], list[FileMap]]:
    """Read the shards that an index lists, which must lie beside it."""
    places = _json(index).get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index} is no index of shards: it has no weight_map of names")
    tensors: dict[str, Tensor] = {}
    maps = []
    for shard in sorted(set(places.values())):
        if PurePosixPath(shard).name != shard or "\\" in shard or Path(shard).suffix not in SAFE:
            raise CheckpointError(f"{index} names the shard {shard!r}; shards must be .safetensors files beside it")
        found, _, mapped = map_tensors(index.parent / shard, alignment=1)
        maps.append(mapped)
        tensors |= {name: tensor for name, tensor in found.items() if places.get(name) == shard}
    absent = [name for name in places if name not in tensors]
    if absent:
        raise CheckpointError(f"{index} lists {len(absent)} tensors that its shards don't hold, such as {absent[0]}")
    return tensors, maps


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read a NumPy archive, without pickle; bfloat16, which NumPy writes as two raw bytes, is understood.

    Raises:
        CheckpointError: no archive, or a member that claims more than it holds, or of a type that is no number.
    """
    tensors = {}
    with reading(path):
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    tensors[member.filename.removesuffix(".npy")] = _array(path, archive, member)
        except CheckpointError:
            raise
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no sound npz file: {str(error).splitlines()[0]}") from error
    return tensors


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    """Read one member, after holding its header against its size."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if header is None:
            raise CheckpointError(f"{path}: {member.filename} is written in NumPy format {version}, which nobody needs")
        shape, fortran, dtype = header(file)
        needed = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or dtype.kind not in "fiuV" or (dtype.kind == "V" and dtype.itemsize != 2):
            raise CheckpointError(f"{path}: {member.filename} is of type {dtype}, which is no number")
        if any(side < 0 for side in shape) or needed > member.file_size:
            raise CheckpointError(
                f"{path}: {member.filename} claims the shape {shape}, {needed:,} bytes, but holds {member.file_size:,}"
            )
        data = file.read(needed)
    if len(data) != needed:
        raise CheckpointError(f"{path}: {member.filename} was cut short")
    raw = np.frombuffer(bytearray(data), dtype=np.uint16 if dtype.kind == "V" else dtype.newbyteorder("="))
    if dtype.byteorder == ">":
        raw = raw.byteswap()
    if dtype.kind == "u" and dtype.itemsize > 1:
        raw = raw.astype(np.int64)
    values = torch.from_numpy(
        raw.reshape(shape, order="F" if fortran else "C").copy() if fortran else raw.reshape(shape)
    )
    return values.view(torch.bfloat16) if dtype.kind == "V" else values


def _pickled(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a pth file through torch's restricted unpickler, and find the weights in it."""
    with reading(path):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except OSError:
            raise
        except Exception as error:
            raise CheckpointError(f"{path} can't be read as weights only: {_refusal(str(error))}") from error
    notes = []
    while isinstance(content, Mapping) and not _is_state(content):
        key = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        notes.append(f"took {key!r} of the file's {', '.join(map(str, list(content)[:6]))}")
        content = content[key]
    if not isinstance(content, Mapping) or not _is_state(content):
        raise CheckpointError(f"{path} holds no state_dict: no mapping of names to tensors was found in it")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}, tuple(notes)


def _refusal(text: str) -> str:
    """Say why torch's restricted unpickler refused a file, from its own words."""
    found = re.search(r"GLOBAL ([\w.]+)", text)
    if found is None:
        return "it is no pth file as torch writes them, was cut short, or is damaged; get it again, or as safetensors"
    return (
        f"it holds more than tensors ({found[1][:80]}), which could run code; if you trust who wrote it, load it with its "
        "own library and save its state_dict as safetensors"
    )


def _is_state(content: Mapping) -> bool:
    tensors = sum(isinstance(value, Tensor) for value in content.values())
    return tensors > 0 and 2 * tensors >= len(content)


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object that may lie beside the weights; an absent one is empty."""
    if not path.is_file():
        return {}
    with reading(path):
        if path.stat().st_size > MOST_JSON:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; that is no configuration")
        text = path.read_bytes()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is no JSON ({error})") from error
    return found if isinstance(found, dict) else {}
