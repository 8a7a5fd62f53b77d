"""Read weights from other code bases' files without running anyone's code: safetensors, npz, pth, and folders of
them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.limits import check_count, check_file, read_json
from vitreous.storage.mmap import FileMap
from vitreous.storage.presence import explain_absence, path_exists
from vitreous.storage.safetensors_file import map_tensors
from vitreous.weights.contents import explain_contents
from vitreous.weights.exported import GRAPHS
from vitreous.weights.npz import read_npz
from vitreous.weights.options import StatedFacts
from vitreous.weights.state_dicts import find_state
from vitreous.weights.torch_files import is_script, is_torch, read_pickled, read_script, translate_errors

SAFE, PICKLED = (".safetensors",), (".pth", ".pt", ".bin", ".ckpt", ".pyth")
ENDINGS = (*SAFE, ".npz", *PICKLED)
"""Extensions of files of weights; a .tar or .pkl is one if torch wrote it (.pth.tar)."""
LONGEST = 500
"""Most letters of a tensor's name."""
INDEX, INDICES = "model.safetensors.index.json", (".safetensors.index.json", ".bin.index.json")
"""The usual name of an index of shards, and the endings of all such names."""
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.(safetensors|bin)$")
"""The ending of a shard's name: its number, and the number of shards."""
CANDIDATES = (
    "model.safetensors",
    INDEX,
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Weights:
    """Foreign tensors by name, with the contents of the files next to them."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    """config.json (or open_clip_config.json) beside the weights, if there is one."""
    preprocessor: dict[str, Any] = field(default_factory=dict)
    """preprocessor_config.json beside the weights, if there is one."""
    notes: tuple[str, ...] = ()
    """What was unwrapped, for the report."""
    maps: tuple[FileMap, ...] = ()
    """The files that tensors are mapped from, if vitreous mapped them itself."""
    aside: tuple[str, ...] = ()
    """Names of tensors that belong to another model in the same file, such as a student next to its teacher."""
    stated: StatedFacts = field(default_factory=StatedFacts)
    """The user's statements about the weights."""


def read_weights(path: str | Path) -> Weights:
    """Read a file of weights, or a folder that holds one.

    Raises:
        CheckpointError: there is nothing, or it has no known format, or is damaged or hostile; no code in it is ever
            run.
    """
    path = Path(path)
    if not path_exists(path):
        raise CheckpointError(explain_absence(path))
    with translate_read_errors(path):
        file = _find_inside(path) if path.is_dir() else path
        refuse_pieces(file)
        check_file(file)
    try:
        tensors, maps, notes = _read_file(file)
    except CheckpointError as error:
        if told := explain_contents(file):
            raise CheckpointError(f"{file} can't be read as weights: {told}") from error
        raise
    check_names(tensors, str(file))
    folder = file.parent
    config = _read_json(folder / "config.json") or _read_json(folder / "open_clip_config.json")
    return Weights(file, tensors, config, _read_json(folder / "preprocessor_config.json"), notes, maps)


def _read_file(file: Path) -> tuple[dict[str, Tensor], tuple[FileMap, ...], tuple[str, ...]]:
    """Read a file by its extension: its tensors, the files that they are mapped from, and notes for the report."""
    if file.name.endswith(INDICES):
        tensors, maps = _read_shards(file)
        return tensors, tuple(maps), ()
    if file.suffix.lower() in SAFE:
        tensors, _, mapped = map_tensors(file, alignment=1)
        return tensors, (mapped,), ()
    if file.suffix.lower() == ".npz":
        return read_npz(file), (), ()
    if file.suffix.lower() in GRAPHS:
        raise CheckpointError(
            f"{file} is a graph for other runtimes; of those vitreous opens the folders that its own export writes"
        )
    if not is_weights(file):
        raise CheckpointError(
            f"{file} is not a file of weights that vitreous reads: .safetensors, .npz, .pth, .pt, .bin, .ckpt, .pth.tar"
        )
    if is_script(file):
        tensors, mapped = read_script(file)
        return tensors, (mapped,), ("took the tensors of a TorchScript archive; its code was not run",)
    tensors, mapped, notes = _read_pickled(file)
    return tensors, (mapped,), notes


def refuse_pieces(file: Path) -> None:
    """Refuse a file that is one of several which make sense only together; raises CheckpointError."""
    if file.suffix == ".distcp":
        raise CheckpointError(
            f"{file} is a piece of a checkpoint of torch.distributed (DCP, FSDP); put it together with "
            f"`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {file.parent} weights.pth`, and open that"
        )
    match = SHARD.search(file.name)
    if match is not None and int(match[2]) > 1:
        raise CheckpointError(
            f"{file} is shard {int(match[1])} of {int(match[2])}; name their folder, or the .index.json next to them"
        )


def has_weights(path: Path) -> bool:
    """Return whether a path is, by extension, a file of weights or an index of shards, or a folder that contains such a
    file."""
    files = path.iterdir() if path.is_dir() else [path]
    return any((is_weights(file) or file.name.endswith(INDICES)) and not file.is_dir() for file in files)


def is_weights(file: Path) -> bool:
    """Return whether a file is, by extension, one of weights; files with ambiguous extensions are opened."""
    if file.suffix.lower() in (".tar", ".pkl"):
        return file.is_file() and is_torch(file)
    return file.suffix.lower() in (*ENDINGS, ".distcp")


def _find_inside(folder: Path) -> Path:
    """Find the weights in a folder."""
    for name in CANDIDATES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(folder.iterdir())
    found = [file for file in files if is_weights(file)] or [file for file in files if file.name.endswith(INDICES)]
    if len(found) == 1 or (found and all(file.suffix == ".distcp" for file in found)):
        return found[0]
    listed = ", ".join(file.name for file in found[:5]) or "none"
    raise CheckpointError(
        f"{folder} holds no model.safetensors, and no single file of weights (found: {listed}); name the file"
    )


def _read_shards(index: Path) -> tuple[dict[str, Tensor], list[FileMap]]:
    """Read the shards that an index lists, which must be in its folder."""
    places = _read_json(index).get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index} is not an index of shards: it has no weight_map of names")
    tensors: dict[str, Tensor] = {}
    maps = []
    for shard in sorted(set(places.values())):
        plain = shard.isprintable() and "\\" not in shard and PurePosixPath(shard).name == shard
        if not plain or Path(shard).suffix not in _list_endings(index):
            raise CheckpointError(
                f"{index} names the shard {shard!r}; shards must be {_list_endings(index)[0]} files next to it"
            )
        if Path(shard).suffix in SAFE:
            found, _, mapped = map_tensors(index.parent / shard, alignment=1)
        else:
            found, mapped, _ = _read_pickled(index.parent / shard)
        maps.append(mapped)
        tensors |= {name: tensor for name, tensor in found.items() if places.get(name) == shard}
    absent = [name for name in places if name not in tensors]
    if absent:
        raise CheckpointError(f"{index} lists {len(absent)} tensors that its shards don't hold, such as {absent[0]}")
    return tensors, maps


def _list_endings(index: Path) -> tuple[str, ...]:
    """Return the extensions of an index's shards: those of pickles only if its own name says so."""
    return (".bin",) if index.name.endswith(".bin.index.json") else SAFE


def _read_pickled(path: Path) -> tuple[dict[str, Tensor], FileMap, tuple[str, ...]]:
    """Read a file of torch's, and find the weights in it."""
    file = read_pickled(path)
    with translate_errors(path, f"{path} can't be read as weights only: ", f"{path} is damaged"):
        state = find_state(file.tree, str(path))
        return file.tensors(state.tensors, str(path)), file.map, state.notes


def _read_json(path: Path) -> dict[str, Any]:
    """Read an optional JSON object next to the weights; a missing one is empty."""
    if not path_exists(path):
        return {}
    with translate_read_errors(path):
        found = read_json(path)
    return found if isinstance(found, dict) else {}


def check_names(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError for unprintable names, which no library writes."""
    check_count(where, len(tensors))
    strange = next((name for name in tensors if not name.isprintable() or len(name) > LONGEST), None)
    if strange is not None:
        raise CheckpointError(f"{where} has a tensor of the impossible name {ascii(strange)[:80]}")
