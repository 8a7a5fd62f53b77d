"""Read torch's files: torch.save's zip archives and its older files, and TorchScript archives; nobody's code runs.

A zip archive holds data.pkl, which describes a tree of objects (pickle_reader.py), and a record of bytes for each
storage. An older file is five pickles in a row (a number, the protocol, the system, the tree, the names of the
storages), followed by the storages, each after its length. The tensors are views of the mapped file. TorchScript's
archives, such as OpenAI's CLIP files, also hold a program, which is never read.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.limits import check_claims, check_count, check_file
from vitreous.storage.mmap import FileMap
from vitreous.weights.pickle_reader import Described, Harmful, Machine, Unfit, iterate_tensors

MOST_PICKLE = 64 * 2**20
"""Longest description that is read, in bytes."""
MAGIC = 0x1950A86A20F9469CFC6C
"""The number at the start of torch's older files."""
OLD = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
ZIP = b"PK\3\4"
FOREIGN = "its numbers are big-endian; save it again on a little-endian machine"
CONSTANTS = re.compile(r"[^/]+/constants\.pkl")


@dataclass
class TorchFile:
    """A file of torch's: the tree that it describes, and the location of its storages."""

    tree: Any
    map: FileMap
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The offset and the size of each storage, in bytes."""
    values: dict[tuple[str, torch.dtype], Tensor] = field(default_factory=dict)
    """Storages that were read, by key and type: tensors that share one share its memory."""

    def tensor(self, one: Described) -> Tensor:
        """Return a described tensor: a view of its storage's bytes in the mapped file; raises Unfit."""
        storage = one.storage
        if storage.device == "meta":
            raise Unfit("it was saved from torch's meta device: its tensors have shapes, but no values")
        if storage.key not in self.places:
            raise Unfit(f"it has no record {storage.key[:80]!r}")
        begin, size = self.places[storage.key]
        if storage.count * storage.dtype.itemsize > size:
            raise Unfit(f"its record {storage.key[:80]!r} doesn't hold {storage.count} values")
        known = storage.key, storage.dtype
        if known not in self.values:
            self.values[known] = self.map.tensor(storage.dtype, (size // storage.dtype.itemsize,), begin)
        return self.values[known].as_strided(one.shape, one.strides, one.offset)

    def tensors(self, found: dict[str, Described], where: str) -> dict[str, Tensor]:
        """Return described tensors, after checking their claims against the file; raises CheckpointError, Unfit."""
        check_count(where, len(found))
        check_claims(where, sum(one.bytes for one in found.values()), len(self.map.bytes))
        return {name: self.tensor(one) for name, one in found.items()}


def is_torch(path: Path) -> bool:
    """Return whether a file could be one of torch's, by its first bytes."""
    with translate_read_errors(path), path.open("rb") as file:
        start = file.read(len(OLD))
    return start == OLD or start[:4] == ZIP


def is_script(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive."""
    with translate_read_errors(path):
        check_file(path)
        try:
            if not zipfile.is_zipfile(path):
                return False
            with zipfile.ZipFile(path) as archive:
                return any(CONSTANTS.fullmatch(name) for name in archive.namelist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError):  # damaged: the next reader says how
            return False


def read_script(path: Path) -> tuple[dict[str, Tensor], FileMap]:
    """Read the tensors of a TorchScript archive under their modules' names, mapped from the file.

    Raises:
        CheckpointError: no sound archive, or one that does more than describe tensors.
    """
    with translate_errors(
        path, f"{path} is no archive of weights that vitreous reads: ", f"{path} is a damaged TorchScript archive"
    ):
        file = read_archive(path)
        return file.tensors(dict(iterate_tensors(file.tree)), str(path)), file.map


@contextmanager
def translate_errors(path: Path, unfit: str, damaged: str) -> Iterator[None]:
    """Turn any fault of a file of torch's into one clear line; pickletools and zipfile raise almost anything."""
    with translate_read_errors(path):
        try:
            yield
        except (OSError, CheckpointError):
            raise
        except Unfit as error:
            raise CheckpointError(f"{unfit}{error}") from error
        except (Exception, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            raise CheckpointError(f"{damaged} ({reason})") from error


def read_pickled(path: Path) -> TorchFile:
    """Read what torch.save wrote.

    Raises:
        CheckpointError: no such file, damaged, or one that would do more than hold data when other programs open it.
    """
    start = f"{path} can't be read as weights only: "
    broken = (
        f"{start}it is no pth file as torch writes them, was cut short, or is damaged; get it again, or as safetensors"
    )
    with translate_errors(path, start, broken):
        check_file(path)
        with path.open("rb") as file:
            old = file.read(len(OLD)) == OLD
        try:
            return read_old(path) if old else read_archive(path)
        except Harmful as error:
            what = str(error).partition("'")[2].rstrip("'").replace(" ", ".").removeprefix("__builtin__.")
            raise CheckpointError(
                f"{start}it holds more than tensors ({what.removeprefix('builtins.')}), which could run code; if you trust who "
                "wrote it, load it with its own library and save its state_dict as safetensors"
            ) from error


def read_archive(path: Path) -> TorchFile:
    """Read a zip archive; raises Unfit, or what zipfile raises."""
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name))
        info, parent = archive.getinfo(root), root.removesuffix("data.pkl")
        if info.file_size > MOST_PICKLE:
            raise Unfit(f"its description has {info.file_size:,} bytes")
        if f"{parent}byteorder" in archive.NameToInfo:
            with archive.open(f"{parent}byteorder") as file:
                if file.read(6) != b"little":
                    raise Unfit(FOREIGN)
        tree, mapped = Machine().run(archive.read(root)), FileMap(path)
        records = {name.removeprefix(f"{parent}data/"): info for name, info in archive.NameToInfo.items()}
    places = {key: place for key, info in records.items() if (place := locate_record(mapped, info)) is not None}
    return TorchFile(tree, mapped, places)


def locate_record(file: FileMap, info: zipfile.ZipInfo) -> tuple[int, int] | None:
    """Return the offset and the size of a record; None if it is compressed or missing."""
    start = info.header_offset
    header = bytes(file.bytes[start : start + 30])
    begin = start + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
    if not stored or header[:4] != ZIP or begin + info.file_size > len(file.bytes):
        return None
    return begin, info.file_size


def read_old(path: Path) -> TorchFile:
    """Read a file in torch's format before 1.6, which it still writes on request; raises Unfit, or what pickletools
    raises."""
    with path.open("rb") as whole:
        file = io.BytesIO(whole.read(MOST_PICKLE))  # reads no more than there is, whatever an instruction claims
    magic, _, system = (Machine().run(file) for _ in range(3))
    if magic != MAGIC or not (isinstance(system, dict) and system.get("little_endian", True)):
        raise Unfit(FOREIGN)
    machine = Machine()
    tree, keys, mapped = machine.run(file), Machine().run(file), FileMap(path)
    return TorchFile(tree, mapped, dict(locate_storages(mapped, file.tell(), keys, machine)))


def locate_storages(
    file: FileMap, end: int, keys: list[str], machine: Machine
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the location of each storage, starting at `end`: each follows its number of elements."""
    for key in keys:
        count, begin = int.from_bytes(file.bytes[end : end + 8], "little"), end + 8
        end = begin + count * machine.storages[key].dtype.itemsize
        if end > len(file.bytes):
            raise Unfit(f"it was cut short: its record {key[:80]!r} claims {count:,} values")
        yield key, (begin, end - begin)
