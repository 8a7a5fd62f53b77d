"""Check the claims of an ONNX file before any runtime opens it: tensors that lie elsewhere, or that would fill the
memory.

ONNX is protobuf (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); only the fields named here are read, and no tensor's bytes.
"""

import math
import mmap
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vitreous.engines.protobuf import read_bytes, read_fields, read_numbers, read_text
from vitreous.errors import CheckpointError
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.limits import check_claims

WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
"""Bytes of a value by TensorProto.DataType; one for all other types, including those of fewer than 8 bits."""
NUMBERS = {1: "f", 6: "i", 7: "q", 11: "d"}
"""Types of constants that may be a shape, even after a cast."""
GROWING = {"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot", "EyeLike"}
"""Operators whose outputs may be far larger than their inputs; the sizes that their constants request are limited."""
DATA_FIRST = {"Expand", "Tile", "Pad", "Resize"}
"""Those whose first input is the one that grows."""
BOUNDED = {"Shape", "Size", "NonZero", "ArgMax", "ArgMin", "TopK"}
"""Operators whose outputs are bounded by the size of their inputs, whatever the values are."""
MOST_VALUES = 2**31
MOST_DEPTH = 8
"""Deepest nesting of graphs within graphs; exports of this package have none."""
MOST_DIMS = 64
"""Most dimensions of a tensor, as many as NumPy's have."""
MOST_STEPS = 5_000_000
"""Most values that are traced in all to find what shapes are computed from: some seconds."""
ENDLESS = {"Loop", "Scan"}
"""Operators that a graph may never leave; exports of this package have none."""
SHORT = 16
"""Number of values of a constant that may be a shape, at most."""


class Refused(ValueError):
    """A file that is whole, but can't be used; the message says what it has."""


@dataclass
class Contents:
    """The claims found in a file."""

    bytes: int = 0
    """Bytes of all tensors in full."""
    locations: set[str] = field(default_factory=set)
    """Files that tensors refer to."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Short constants, by name, as whole numbers."""
    grown_by: list[str] = field(default_factory=list)
    """Names of the inputs of operators whose outputs may grow."""
    sources: dict[str, list[str]] = field(default_factory=dict)
    """The inputs that a value is computed from, by name; inputs of which only the shape is used are left out."""

    steps: int = 0
    """Values that were traced."""

    def trace(self, name: str) -> set[str]:
        """Return the names of all that a value is computed from, itself included; raises ValueError if that takes too long."""
        known, waiting = set[str](), [name]
        while waiting:
            one = waiting.pop()
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Refused("shapes that are computed in too many steps")
            if one and one not in known:
                known.add(one)
                waiting += self.sources.get(one, ())
        return known

    def count_asked(self, name: str) -> int:
        """Return how many values the constants request that a shape is computed from."""
        return math.prod(max(1, abs(value)) for one in self.trace(name) for value in self.shapes.get(one, ()))


def check_onnx(path: Path, beside: set[str], held: int) -> None:
    """Refuse a file that reads other files than those next to it, or whose tensors are larger than the files allow.

    Args:
        path: the file.
        beside: names of the files in its folder that may hold its tensors.
        held: bytes of all of them.

    Raises:
        CheckpointError: a claim is refused, or the file is damaged.
    """
    with translate_read_errors(path), path.open("rb") as file:
        if not path.stat().st_size:
            raise CheckpointError(f"{path} is damaged: it is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = Contents()
    try:
        _read_model(memoryview(data), found)
        asked = max((found.count_asked(name) for name in found.grown_by), default=0)
    except Refused as error:
        raise CheckpointError(f"{path} has {error}; it can't be used") from None
    except (IndexError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged: it is not ONNX ({str(error)[:100]})") from None
    outside = sorted(found.locations - beside)
    if outside:
        raise CheckpointError(
            f"{path} refers to tensors in {outside[0][:80]!r}, a file that its export didn't write; it can't be used"
        )
    check_claims(str(path), found.bytes, held)
    if asked > MOST_VALUES:
        said = f"{asked:,}" if asked < 10**18 else "more than 10^18"
        raise CheckpointError(
            f"{path} needs a tensor of {said} values, more than the limit of {MOST_VALUES:,}; it can't be used"
        )


def _read_model(data: memoryview, found: Contents) -> None:
    for number, value in read_fields(data):
        if number == 7:
            _read_graph(read_bytes(value), found, 0)
        elif number == 25:  # functions: their nodes are field 7
            for inner, node in read_fields(read_bytes(value)):
                if inner == 7:
                    _read_node(read_bytes(node), found, 1)
                elif inner == 11:  # the default of an attribute
                    _read_attribute(read_bytes(node), found, 1, [])


def _read_graph(data: memoryview, found: Contents, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise ValueError(f"graphs are nested more than {MOST_DEPTH} deep")
    for number, value in read_fields(data):
        if number == 1:
            _read_node(read_bytes(value), found, depth)
        elif number == 5:
            _read_tensor(read_bytes(value), found)
        elif number == 15:  # sparse: values and indices are tensors
            _read_sparse(read_bytes(value), found)


def _read_sparse(data: memoryview, found: Contents) -> None:
    for number, value in read_fields(data):
        if number in (1, 2):
            _read_tensor(read_bytes(value), found)


def _read_node(data: memoryview, found: Contents, depth: int) -> None:
    parts: dict[int, list[Any]] = {1: [], 2: [], 4: [], 5: []}
    for number, value in read_fields(data):
        if number in parts:
            parts[number].append(value)
    inputs, outputs = ([read_text(value) for value in parts[number]] for number in (1, 2))
    kind = read_text(parts[4][-1]) if parts[4] else ""
    if kind in ENDLESS:
        raise Refused(f"a {kind}, which may never end")
    for value in parts[5]:
        numbers = _read_attribute(read_bytes(value), found, depth, outputs)
        if kind == "Constant" and outputs and numbers:
            found.shapes[outputs[0]] = numbers
    if kind in GROWING:
        found.grown_by += inputs[kind in DATA_FIRST :]
    if kind not in BOUNDED:
        for name in outputs:
            found.sources[name] = inputs


def _read_attribute(data: memoryview, found: Contents, depth: int, outputs: list[str]) -> tuple[int, ...]:
    """Record the tensors and graphs of an attribute; return its own whole numbers."""
    numbers: tuple[int, ...] = ()
    for number, value in read_fields(data):
        if number in (5, 10):
            _read_tensor(read_bytes(value), found, outputs[0] if outputs else "")
        elif number in (3, 8):
            numbers = numbers[:SHORT] + (
                (value,) if isinstance(value, int) else tuple(read_numbers(value[: 10 * SHORT]))
            )
        elif number in (6, 11):
            _read_graph(read_bytes(value), found, depth + 1)
        elif number in (22, 23):
            _read_sparse(read_bytes(value), found)
    return numbers


def _read_tensor(data: memoryview, found: Contents, name: str = "") -> None:
    """Record a tensor's size, its place, and its values if it may be a shape."""
    dims: list[int] = []
    kind, values, raw = 0, [], memoryview(b"")
    for number, value in read_fields(data):
        if number == 1:
            _add_dims(dims, value)
        elif number == 2:
            kind = value if isinstance(value, int) else 0
        elif number in (4, 5, 7, 10):
            values += _read_values(number, value)
        elif number == 8:
            name = name or read_text(value)  # an attribute's tensor counts under the name of the operator's output
        elif number == 9:
            raw = read_bytes(value)
        elif number == 13:
            entry = {inner: read_text(text) for inner, text in read_fields(read_bytes(value))}
            if entry.get(1) == "location":
                found.locations.add(entry.get(2, ""))
    count = math.prod(dims)
    found.bytes += count * WIDTHS.get(kind, 1)
    if kind in NUMBERS and count <= SHORT:
        size, code = WIDTHS[kind], NUMBERS[kind]
        found.shapes[name] = tuple(
            int(value)
            for value in (raw[: size * SHORT].cast(code) if len(raw) % size == 0 and len(raw) else values[:SHORT])
            if math.isfinite(value)
        )


def _add_dims(dims: list[int], value: int | memoryview) -> None:
    dims += [value] if isinstance(value, int) else islice(read_numbers(value), MOST_DIMS + 1)
    if len(dims) > MOST_DIMS:
        raise Refused(f"a tensor of more than {MOST_DIMS} dimensions")


def _read_values(number: int, value: int | memoryview) -> list[float]:
    """Return the first values of a tensor's field of numbers: field 4 holds floats, 10 doubles, others whole
    numbers."""
    if isinstance(value, int):
        return [value]
    if number in (4, 10):
        return list(value[: len(value) // 8 * 8].cast("f" if number == 4 else "d")[:SHORT])
    return list(read_numbers(value[: 10 * SHORT]))
