"""Tensors of TorchScript archives, such as OpenAI's CLIP files, read without running or compiling the code in them.

An archive is a zip: data.pkl describes a tree of objects in pickle's instructions, data/0, data/1, ... hold the tensors'
bytes, code/ a program that is never looked at. A machine that knows only the instructions needed to build such a tree
carries them out: classes are names, objects are dicts of their attributes, and the only functions are those that
describe a tensor. Everything else is refused.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitreous.checkpoints.files import reading
from vitreous.checkpoints.mapped import FileMap
from vitreous.errors import CheckpointError

MOST_PICKLE, MOST_NAMES, DEEPEST = 64 * 2**20, 100_000, 64
"""Longest description that is read, in bytes; most tensors' names; deepest nesting of modules."""
STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
EMPTY = "collections OrderedDict"
LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")


class Storage(NamedTuple):
    """Where a tensor's bytes lie: their type, the name of their record, how many elements."""

    dtype: torch.dtype
    key: str
    count: int


class Described(NamedTuple):
    """A tensor as the archive describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Name(str):
    """A class or function, as a word: nothing is imported."""


class Unfit(Exception):
    """What an archive asks for that no archive of weights needs."""


@dataclass
class Machine:
    """Carries out the instructions of a description."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, text: bytes) -> Any:
        """Return the tree that a description builds; raises Unfit, or any error of Python's, where it makes no sense."""
        for opcode, argument, _ in pickletools.genops(text):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise Unfit("it has no end")

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name == "GLOBAL":
            self.stack.append(Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ACTIONS:
            ACTIONS[name](self)
        elif name != "PROTO":
            raise Unfit(f"its description has the instruction {name}")

    def marked(self) -> list[Any]:
        """Take everything off the stack that was laid there since the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def taken(self, count: int) -> list[Any]:
        """Take some values off the stack."""
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def called(self) -> None:
        """Describe a tensor, or make an empty dict; call nothing."""
        function, arguments = self.taken(2)
        if function == TENSOR:
            storage, offset, shape, strides = arguments[:4]
            self.stack.append(described(storage, offset, shape, strides))
        elif function == EMPTY and not arguments:
            self.stack.append({})
        elif function == PARAMETER or function in [f"torch.jit._pickle {name}" for name in LISTS]:
            self.stack.append(arguments[0])
        else:
            raise Unfit(f"it calls {str(function)[:80]!r}")

    def created(self) -> None:
        """Make an object of a class of the archive's own: a dict for its attributes."""
        kind, _ = self.taken(2)
        if not isinstance(kind, Name) or not kind.startswith("__torch__"):
            raise Unfit(f"it makes a {str(kind)[:80]!r}")
        self.stack.append({})

    def filled(self) -> None:
        """Give an object its attributes."""
        made, attributes = self.taken(2)
        self.stack.append(made)
        made.update(attributes)

    def stored(self) -> None:
        """Take a reference to a record for what it is."""
        word, kind, key, _, count = self.stack.pop()
        if word != "storage" or kind not in STORAGES or not isinstance(key, str) or not isinstance(count, int):
            raise Unfit(f"it refers to {str(kind)[:80]!r}")
        self.stack.append(Storage(STORAGES[kind], key, count))

    def itemised(self) -> None:
        """Put pairs into a dict."""
        items = self.marked()
        self.stack[-1].update(dict(zip(items[::2], items[1::2], strict=True)))


CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
ACTIONS: dict[str, Any] = {
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": lambda machine: machine.stack.append(tuple(machine.taken(1))),
    "TUPLE2": lambda machine: machine.stack.append(tuple(machine.taken(2))),
    "TUPLE3": lambda machine: machine.stack.append(tuple(machine.taken(3))),
    "APPENDS": lambda machine: (items := machine.marked(), machine.stack[-1].extend(items)),
    "SETITEMS": Machine.itemised,
    "REDUCE": Machine.called,
    "NEWOBJ": Machine.created,
    "BUILD": Machine.filled,
    "BINPERSID": Machine.stored,
}


def described(storage: Any, offset: Any, shape: Any, strides: Any) -> Described:
    """Check a tensor's description against itself; raises Unfit."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise Unfit("it describes a tensor without storage")
    if not all(type(number) is int and 0 <= number < 2**62 for number in (*numbers, storage.count)):
        raise Unfit(f"it describes a tensor of the impossible shape {tuple(shape)!r:.80}")
    count = 1
    for side in shape:
        count *= side
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) if count else 0
    if count > storage.count or (count and last >= storage.count):
        raise Unfit(f"a tensor of shape {tuple(shape)!r:.80} lies outside its {storage.count} values")
    return Described(storage, offset, tuple(shape), tuple(strides))


def is_script(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive."""
    with reading(path):
        if not zipfile.is_zipfile(path):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return any(re.fullmatch(r"[^/]+/constants\.pkl", name) for name in archive.namelist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError):  # damaged: whoever reads it next says how
            return False


def read_script(path: Path) -> tuple[dict[str, Tensor], FileMap]:
    """Read the tensors of a TorchScript archive under the names that its modules give them, mapped from the file.

    Raises:
        CheckpointError: no sound archive, or one that asks for more than to describe tensors.
    """
    with reading(path):
        try:
            with zipfile.ZipFile(path) as archive:
                root = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name))
                if archive.getinfo(root).file_size > MOST_PICKLE:
                    raise Unfit(f"its description has {archive.getinfo(root).file_size:,} bytes")
                found = dict(named(Machine().run(archive.read(root))))
                file = FileMap(path)
                parent = root.removesuffix("data.pkl")
                tensors = {name: placed(archive, file, f"{parent}data/", one) for name, one in found.items()}
        except Unfit as error:
            raise CheckpointError(f"{path} is no archive of weights that vitreous reads: {error}") from error
        except OSError:
            raise
        except Exception as error:  # pickletools and zipfile raise almost anything on damaged files
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            raise CheckpointError(f"{path} is a damaged TorchScript archive ({reason})") from error
    return tensors, file


def named(tree: Any) -> Iterator[tuple[str, Described]]:
    """Yield the tensors of a tree of modules, by their path of attributes; raises Unfit for one that is too large."""
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    seen = 0
    while waiting:
        path, node, depth = waiting.pop()
        seen += 1
        if seen > MOST_NAMES or depth > DEEPEST:
            raise Unfit("its modules are nested without end")
        if isinstance(node, Described):
            yield path, node
        elif isinstance(node, dict):
            inside = [(f"{path}.{key}" if path else str(key), value, depth + 1) for key, value in node.items()]
            waiting += reversed(inside)


def placed(archive: zipfile.ZipFile, file: FileMap, folder: str, one: Described) -> Tensor:
    """Return a described tensor: a view of its record's bytes in the mapped file."""
    record = f"{folder}{one.storage.key}"
    if record not in archive.NameToInfo:
        raise Unfit(f"it has no record {one.storage.key[:80]!r}")
    info = archive.getinfo(record)
    needed = one.storage.count * one.storage.dtype.itemsize
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise Unfit(f"its record {one.storage.key[:80]!r} is compressed")
    start = info.header_offset
    header = bytes(file.bytes[start : start + 30])
    begin = start + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if header[:4] != b"PK\3\4" or needed > info.file_size or begin + needed > len(file.bytes):
        raise Unfit(f"its record {one.storage.key[:80]!r} doesn't hold {one.storage.count} values")
    values = file.tensor(one.storage.dtype, (one.storage.count,), begin)
    return values.as_strided(one.shape, one.strides, one.offset)
