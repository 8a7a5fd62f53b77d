"""Interpret pickles as descriptions: a machine that knows their instructions, but imports nothing and calls nothing.

Classes and functions are just names. The only calls with an effect are those that describe a tensor, or make a dict or
list; every other object becomes an `Inert` one, which records its class, its arguments and its attributes, so that
settings, paths and numbers that training scripts save with their weights do no harm. A file that would call anything in
Python's standard library but what makes data, or what is known to run or load code elsewhere, when other programs open it
is refused. What functions of other packages would do there, nobody can say from their names.
"""

import io
import pickletools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

MOST_STEPS = 2_000_000
"""Most instructions that are executed; the training checkpoint of a large model has a few hundred thousand."""
MOST_SIDES = 16
"""Most axes of a tensor."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
TENSORS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
TYPED, TYPE = "torch._utils _rebuild_tensor_v3", "torch._tensor _rebuild_from_type_v2"
FIRST = (
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch._utils _rebuild_device_tensor_from_cpu_tensor",
    *(f"torch.jit._pickle {kind}" for kind in ("build_intlist", "build_tensorlist", "build_doublelist")),
    *(f"torch.jit._pickle {kind}" for kind in ("build_boollist", "restore_type_tag")),
)
"""Functions that return the first of their arguments."""
DICTS = (
    "collections OrderedDict",
    "collections defaultdict",
    "collections Counter",
    "builtins dict",
    "__builtin__ dict",
)
DATA = {"set", "frozenset", "dict", "list", "tuple", "int", "float", "complex", "str", "bytes", "bytearray", "bool"}
DATA |= {"object", "type", "slice", "range", "getattr", "unicode", "long", "Ellipsis", "NotImplemented"}
"""Python's built-in names for making data; getattr is how enumerations are made."""
GENERATORS = "numpy.random._pickle __"
"""What makes NumPy's generators of random numbers again."""
BUILTINS = ("builtins ", "__builtin__ ")
HARMFUL = {
    *(
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "pty",
        "runpy",
        "importlib",
        "ctypes",
        "socket",
        "shutil",
        "webbrowser",
    ),
    *("system", "popen", "eval", "exec", "execfile", "compile", "__import__", "__globals__", "__builtins__"),
    *("asyncio", "signal", "code", "codeop", "pdb", "bdb", "pip", "ensurepip", "urllib", "requests", "multiprocessing"),
    *("pickle", "_pickle", "_load_from_bytes", "commands", "popen2"),
    *("joblib", "dill", "cloudpickle", "yaml", "jsonpickle", "cpp_extension", "codecache", "runstring"),
    *("load_state_dict_from_url", "download_url_to_file"),
}
"""Words in the name of a class or function that no file of weights needs."""
LOADERS = {f"torch{module} load" for module in ("", ".serialization", ".hub", ".jit", ".package")}
LOADERS |= {"numpy load", "torch.jit.unsupported_tensor_ops execWrapper"}
MAKERS = {
    "_codecs": "encode",
    "argparse": "Namespace",
    "array": "_array_reconstructor array",
    "collections": "ChainMap Counter OrderedDict UserDict UserList defaultdict deque",
    "copy_reg": "_reconstructor",
    "copyreg": "__newobj__ __newobj_ex__ _reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Context Decimal",
    "fractions": "Fraction",
    "functools": "partial",
    "ipaddress": "IPv4Address IPv6Address",
    "itertools": "chain count cycle repeat",
    "logging": "getLogger",
    "operator": "attrgetter getitem itemgetter methodcaller or_",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "platform": "uname_result",
    "random": "Random",
    "re": "_compile",
    "time": "struct_time",
    "types": "GenericAlias MappingProxyType SimpleNamespace",
    "uuid": "UUID",
    "zoneinfo": "ZoneInfo",
}
"""What is called in the standard library to make data, by module; partial and others call nothing by themselves."""


class Storage(NamedTuple):
    """The bytes of a tensor: their type, the name of their record, the number of elements, and their device."""

    dtype: torch.dtype
    key: str
    count: int
    device: str = "cpu"


class Described(NamedTuple):
    """A tensor as a pickle describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Return the size of the tensor in bytes when written out."""
        size = self.storage.dtype.itemsize
        for side in self.shape:
            size *= side
        return size


class Name(str):
    """The name of a class or function: nothing is imported."""


@dataclass(eq=False)
class Inert:
    """An object of a class that wasn't imported: the arguments for making it."""

    kind: str
    arguments: Any = ()
    state: Any = None


class Unfit(Exception):
    """The file requires something that no file of weights needs."""


class Harmful(Unfit):
    """A call that could do harm when something else opens the file."""


@dataclass
class Machine:
    """Executes the instructions of a description."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    """Storages that were referred to, by their keys."""

    def run(self, source: bytes | io.BytesIO) -> Any:
        """Return what a description builds; raises Unfit, or any error of Python's, if it makes no sense."""
        for step, (opcode, argument, _) in enumerate(pickletools.genops(source)):
            if opcode.name == "STOP":
                return self.stack.pop()
            if step > MOST_STEPS:
                raise Unfit(f"its description has more than {MOST_STEPS:,} instructions")
            self.step(opcode.name, argument)
        raise Unfit("it has no end")

    def step(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name == "GLOBAL":
            self.stack.append(Name(argument))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ACTIONS:
            ACTIONS[name](self)
        elif name not in ("PROTO", "FRAME"):
            raise Unfit(f"its description has the instruction {name}")

    def pop_marked(self) -> list[Any]:
        """Pop everything pushed onto the stack since the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_values(self, count: int) -> list[Any]:
        """Pop some values off the stack."""
        if len(self.stack) < count:
            raise IndexError("nothing is left on the stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def record_call(self) -> None:
        """Describe a tensor, make a dict, or record a call; call nothing."""
        function, arguments = self.pop_values(2)
        self.stack.append(emulate_call(function, arguments))

    def record_object(self, keywords: bool = False) -> None:
        """Record an object of some class."""
        kind, *arguments = self.pop_values(3 if keywords else 2)
        if not isinstance(kind, Name) or is_harmful(kind):
            raise Harmful(f"it makes a {str(kind)[:80]!r}")
        self.stack.append({} if kind in DICTS else Inert(kind, arguments[0]))

    def fill(self) -> None:
        """Give an object its attributes; those of a dict are left out."""
        made, attributes = self.pop_values(2)
        if isinstance(made, Inert):
            made.state = attributes
        elif not isinstance(made, (dict, list, Described)):
            raise TypeError("attributes for something that has none")
        self.stack.append(made)

    def interpret_reference(self) -> None:
        """Interpret a reference to a record."""
        reference = self.stack.pop()
        if reference[0] == "module":  # a class with its source, in older files
            self.stack.append(reference[1])
            return
        word, kind, key, device, count, *rest = reference
        if re.search(r" Q\w*Int\w*Storage$", str(kind)):
            raise Unfit("it holds quantised tensors; save the float model")
        known = isinstance(kind, Name) and re.fullmatch(r"torch(\.\w+)? (\w+)", kind)
        if (
            word != "storage"
            or not known
            or known[2] not in STORAGES
            or not isinstance(key, str)
            or type(count) is not int
        ):
            raise Unfit(f"it refers to {str(kind)[:80]!r}")
        if rest and rest != [None]:
            raise Unfit("it refers to a part of a storage, as torch wrote before 0.4")
        storage = Storage(STORAGES[known[2]], key, count, str(device))
        self.storages[key] = storage
        self.stack.append(storage)

    def put_items(self, items: list[Any]) -> None:
        """Put pairs into a dict, or into any other object made to hold them."""
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(dict(zip(items[::2], items[1::2], strict=True)))

    def append_all(self, items: list[Any]) -> None:
        """Put values into a list, or into any other object made to hold them."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def join_name(self) -> None:
        """Combine the name of a class or function from its two words."""
        module, name = self.pop_values(2)
        self.stack.append(Name(f"{module} {name}"))


def emulate_call(function: Any, arguments: Any) -> Any:
    """Return the result of a call that makes tensors, dicts or lists; for any other, an inert object."""
    if not isinstance(function, Name) or is_harmful(function) or not makes_data(function):
        raise Harmful(f"it calls {(function.kind if isinstance(function, Inert) else str(function))[:80]!r}")
    if function in TENSORS:
        return check_description(*arguments[:4])
    if function == TYPED:
        storage, offset, shape, strides = arguments[:4]
        return check_description(retype_storage(storage, arguments[6]), offset, shape, strides)
    if function == TYPE:
        return emulate_call(arguments[0], arguments[2])
    if function in FIRST:
        return arguments[0]
    if function in DICTS:
        return dict(arguments[0]) if arguments and isinstance(arguments[0], dict) else {}
    if function in ("torch Size", "builtins set", "__builtin__ set", "builtins frozenset"):
        return list(arguments[0]) if arguments else []
    return Inert(function, arguments)


def is_harmful(name: str) -> bool:
    """Return whether a class or function is one that no file of weights needs."""
    if name.startswith(BUILTINS):
        return name.split(" ", 1)[1] not in DATA
    if name.startswith(GENERATORS):
        return False
    return name in LOADERS or not HARMFUL.isdisjoint(re.split(r"[ .]", name))


def makes_data(name: str) -> bool:
    """Return whether a function outside of the built-in ones is one that makes data, as far as it is the standard library's."""
    module, _, called = name.partition(" ")
    standard = module.partition(".")[0] in (sys.stdlib_module_names | {"copy_reg"}) and module != "builtins"
    return not standard or called in MAKERS.get(module, "").split()


def retype_storage(storage: Any, kind: Any) -> Storage:
    """Return a storage of bytes as one of another type; raises Unfit."""
    dtype = getattr(torch, str(kind).removeprefix("torch "), None)
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise Unfit(f"it describes a tensor of the type {str(kind)[:80]!r}")
    return storage._replace(dtype=dtype, count=storage.count * storage.dtype.itemsize // dtype.itemsize)


def check_description(storage: Any, offset: Any, shape: Any, strides: Any) -> Described:
    """Check a tensor's description against itself; raises Unfit."""
    if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > MOST_SIDES:
        raise Unfit("it describes a tensor without storage")
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and 0 <= number < 2**62 for number in (*numbers, storage.count)):
        raise Unfit(f"it describes a tensor of the impossible shape {tuple(shape)!r:.80}")
    last = offset
    if 0 not in shape:
        last += sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if last >= storage.count:
            raise Unfit(f"a tensor of shape {tuple(shape)!r:.80} lies outside its {storage.count} values")
    return Described(storage, offset, tuple(shape), tuple(strides))


VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Instructions whose argument is the value."""
CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
}
ACTIONS: dict[str, Any] = {
    "POP": lambda machine: machine.pop_values(1),
    "POP_MARK": Machine.pop_marked,
    "DUP": lambda machine: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.pop_marked())),
    "TUPLE1": lambda machine: machine.stack.append(tuple(machine.pop_values(1))),
    "TUPLE2": lambda machine: machine.stack.append(tuple(machine.pop_values(2))),
    "TUPLE3": lambda machine: machine.stack.append(tuple(machine.pop_values(3))),
    "LIST": lambda machine: machine.stack.append(machine.pop_marked()),
    "FROZENSET": lambda machine: machine.stack.append(machine.pop_marked()),
    "DICT": lambda machine: (items := machine.pop_marked(), machine.stack.append({}), machine.put_items(items)),
    "APPEND": lambda machine: machine.append_all(machine.pop_values(1)),
    "APPENDS": lambda machine: machine.append_all(machine.pop_marked()),
    "ADDITEMS": lambda machine: machine.append_all(machine.pop_marked()),
    "SETITEM": lambda machine: machine.put_items(machine.pop_values(2)),
    "SETITEMS": lambda machine: machine.put_items(machine.pop_marked()),
    "MEMOIZE": lambda machine: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    "STACK_GLOBAL": Machine.join_name,
    "REDUCE": Machine.record_call,
    "NEWOBJ": Machine.record_object,
    "NEWOBJ_EX": lambda machine: machine.record_object(keywords=True),
    "BUILD": Machine.fill,
    "BINPERSID": Machine.interpret_reference,
}


def list_attributes(node: Any) -> dict[Any, Any] | None:
    """Return the children of a node: the items of a dict, an inert object's attributes; None if it has none."""
    inside = node.state if isinstance(node, Inert) else node
    return inside if isinstance(inside, dict) else None


def iterate_tensors(tree: Any, most: int = 100_000, deepest: int = 64) -> Iterator[tuple[str, Described]]:
    """Yield the tensors of a tree of objects, by their path of attributes; raises Unfit if it is too large."""
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    seen = 0
    while waiting:
        path, node, depth = waiting.pop()
        seen += 1
        if seen > most or depth > deepest:
            raise Unfit("its modules are nested without end")
        if isinstance(node, Described):
            yield path, node
        elif (below := list_attributes(node)) is not None:
            inside = [(f"{path}.{key}" if path else str(key), value, depth + 1) for key, value in below.items()]
            waiting += reversed(inside)
