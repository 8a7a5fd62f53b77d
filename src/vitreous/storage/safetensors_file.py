"""Tensors in safetensors files, read without running anyone's code, and mapped into memory instead of copied.

The format (https://github.com/huggingface/safetensors#format): 8 bytes with the header's length, the header in JSON
(name -> dtype, shape, start and end of its bytes), then the bytes. Every claim of the header is checked against the
file before anything is read, so that a damaged or hostile file gives one clear line.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.settings import refuse_double_keys
from vitreous.storage.atomic import atomic_file, atomic_folder, write_atomically
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.limits import check_count, check_file
from vitreous.storage.mmap import FileMap

__all__ = [
    "atomic_folder",
    "load_tensors",
    "map_tensors",
    "read_header",
    "save_tensors",
    "write_atomically",
]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
ALIGNMENT = 64
"""The alignment, in bytes, of torch's own tensors on a CPU."""
MAX_HEADER = 100_000_000
"""Longest header that is read, in bytes; the format's own limit."""


class Entry(NamedTuple):
    """One tensor of a file, as its header describes it; start and end count bytes from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """The contents of a safetensors file according to its header, checked against the file's size."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    start: int
    """Offset of the tensors."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors atomically as safetensors and return the file's SHA-256, in hexadecimal.

    Tensors may lie on any device, share memory or have gaps: each is written in full, one at a time.

    Raises:
        StorageError: the disk is full, read-only or gone; the previous contents of `path` are untouched.
    """
    names = sorted(tensors, key=lambda name: _align(name, tensors[name]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": CODES[tensors[name].dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        for piece in _write_pieces(text, (tensors[name] for name in names)):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _align(name: str, tensor: Tensor) -> tuple[bool, int, str]:
    """Order tensors so that all whose size allows it begin at a multiple of `ALIGNMENT`, and the others at one of
    their elements' size."""
    ragged = tensor.numel() * tensor.element_size() % ALIGNMENT > 0
    return ragged, -tensor.element_size(), name


def _write_pieces(header: bytes, tensors: Iterator[Tensor]) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            yield memoryview(flat.view(torch.uint8).numpy())


class Loaded(NamedTuple):
    """The contents of a safetensors file, and the map that its tensors lie in."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    map: FileMap


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors by name, and its metadata; see `map_tensors`."""
    return map_tensors(path)[:2]


def map_tensors(path: Path, alignment: int = ALIGNMENT) -> Loaded:
    """Map a safetensors file into memory.

    The tensors are the file itself: pages are read when they are touched, and writing to a tensor changes the tensor and
    not the file.

    Args:
        path: the file.
        alignment: tensors that don't begin at a multiple of this many bytes are copied, since some kernels round
            differently on them. Files written by `save_tensors` are aligned except for a few small tensors; other code
            bases' files hardly ever are, and would be copied completely.

    Raises:
        CheckpointError: no such file, or not a sound safetensors file; the message says what is wrong with it.
    """
    header = read_header(path)
    with translate_read_errors(path):
        file = FileMap(path)
    tensors = {
        name: file.tensor(one.dtype, one.shape, header.start + one.start, alignment)
        for name, one in header.entries.items()
    }
    return Loaded(tensors, header.metadata, file)


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file, without reading the tensors.

    Raises:
        CheckpointError: no such file, or not a sound safetensors file.
    """
    with translate_read_errors(path):
        check_file(path)
    with translate_read_errors(path), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise _explain_other(path, start, size, length)
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=refuse_double_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a sound safetensors file: its header is not JSON ({str(error)[:120]})"
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not a sound safetensors file: its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise CheckpointError(f"{path} is not a sound safetensors file: its metadata must be text by name")
    check_count(str(path), len(header))
    entries = {name: _read_entry(path, name, value) for name, value in header.items()}
    _check_layout(path, entries, size - 8 - length)
    return Header(entries, metadata, 8 + length)


def _explain_other(path: Path, start: bytes, size: int, length: int) -> CheckpointError:
    if size < 8:
        return CheckpointError(f"{path} is not a safetensors file: it has only {size} bytes; was it cut short?")
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return CheckpointError(
            f"{path} is not a safetensors file but looks like a pickle (.pth, .pt), which can run code when "
            "it is opened"
        )
    return CheckpointError(
        f"{path} is not a safetensors file, or was cut short: its header claims {length:,} bytes, the file has {size:,}"
    )


def _read_entry(path: Path, name: str, value: Any) -> Entry:
    """Check one entry of a header."""

    def bad(reason: str) -> CheckpointError:
        return CheckpointError(f"{path} is not a sound safetensors file: tensor {_shorten(name)} {reason}")

    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise bad("is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise bad(f"has the unknown dtype {_shorten(dtype)}")
    if not _is_count(shape):
        raise bad(f"has the impossible shape {_shorten(shape)}")
    if not _is_count(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise bad(f"has the impossible offsets {_shorten(offsets)}")
    needed, given = math.prod(shape) * DTYPES[dtype].itemsize, offsets[1] - offsets[0]
    if needed != given:
        raise bad(f"needs {_shorten(needed)} bytes for shape {_shorten(shape)} of {dtype} but has {given}")
    return Entry(DTYPES[dtype], tuple(shape), offsets[0], offsets[1])


def _is_count(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _check_layout(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """Check that the tensors cover the file's bytes without gap or overlap."""
    end, before = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            what = f"overlaps tensor {_shorten(before)}" if entry.start < end else "begins after a gap"
            raise CheckpointError(f"{path} is not a sound safetensors file: tensor {_shorten(name)} {what}")
        end, before = entry.end, name
    if end != size:
        fault = "was cut short" if end > size else "has bytes that belong to no tensor"
        raise CheckpointError(
            f"{path} {fault}: its tensors take {_shorten(end)} bytes, but the file has {size} for them"
        )


def _shorten(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."
