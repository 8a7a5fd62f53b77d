"""An ONNX file's model with references in place of its large weights, which ONNX Runtime then reads from where they are.

ONNX Runtime copies the weights inside a file twice before it lays them out for its products. Weights that a tensor refers to
(`external_data`, https://github.com/onnx/onnx/blob/main/docs/ExternalData.md) are mapped, laid out, and unmapped. A reference may be
to the file itself.
"""

import mmap
from collections import defaultdict
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitreous.engines.protobuf import encode_bytes, encode_number, read_bytes, read_encoded, read_fields, read_text

LARGE = 1 << 16
"""Bytes of the weights from which on they are referred to."""
FLOAT, UINT8, INT8 = 1, 2, 3
"""Types of values (TensorProto.DataType)."""
LAID_OUT = {("MatMul", 1): (FLOAT,), ("Gemm", 1): (FLOAT,), ("MatMulInteger", 1): (UINT8, INT8)}
"""Operators and which of their inputs they lay out for the product, of which types. All others would stay mapped, and end the process if
the file were cut short."""
BEFORE = "DequantizeLinear"
"""The operator that int8 weights pass on their way to a product, by which they are laid out as they are."""
FOLDER = "session.model_external_initializers_file_folder_path"
"""ONNX Runtime's setting for the folder of the files that a model in memory refers to."""

Uses = dict[str, list[tuple[str, int]]]
"""By a value's name: the operators that read it, and as which of their inputs."""


def refer_to_weights(path: Path) -> bytes | None:
    """Return a model that refers to the large weights in its own file; None if there are none, or the model is not a plain graph.

    Raises:
        ValueError, IndexError, OSError: the file can't be read, or is not ONNX.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    graphs = [read_bytes(value) for number, value in read_fields(data) if number in (7, 25)]
    weights = (
        _find_weights(graphs[0]) if len(graphs) == 1 else {}
    )  # several graphs are merged; functions have users of their own
    if not weights:
        return None
    place = (path.name.encode(), locate(data))
    parts = [
        encode_bytes(7, _refer_in_graph(read_bytes(value), weights, place)) if number == 7 else bytes(encoded)
        for number, value, encoded in read_encoded(data)
    ]
    return b"".join(parts)


def locate(data: memoryview) -> int:
    """Return the address of some bytes."""
    return np.frombuffer(data, np.uint8).ctypes.data


def _find_weights(graph: memoryview) -> dict[int, memoryview]:
    """Return the values of each tensor that may refer to them, by the tensor's address."""
    found: dict[str, tuple[memoryview, int, memoryview]] = {}
    others = set[str]()  # names of inputs, which may replace a tensor, and those of several tensors
    for number, value in read_fields(graph):
        if number == 5:
            name, kind, values = _read_tensor(read_bytes(value))
            if name in found:
                others.add(name)
            if len(values) >= LARGE:
                found[name] = (read_bytes(value), kind, values)
        elif number == 11:
            others |= {read_text(one) for inner, one in read_fields(read_bytes(value)) if inner == 1}
    uses, outputs = _find_uses(graph, set(found))
    for output, names in outputs.items():  # of operators that only pass weights on
        for name in names:
            uses[name] += [(f"{BEFORE} {kind}", which) for kind, which in uses.get(output, [(BEFORE, 0)])]
    return {
        locate(tensor): values
        for name, (tensor, kind, values) in found.items()
        if name not in others and uses[name] and all(kind in _find_types(use) for use in uses[name])
    }


def _find_types(use: tuple[str, int]) -> tuple[int, ...]:
    """Return the types of weights that a use lays out."""
    before, _, kind = use[0].rpartition(" ")
    types = LAID_OUT.get((kind, use[1]), ())
    return (UINT8, INT8) if before and types == (FLOAT,) else () if before else types


def _find_uses(graph: memoryview, names: set[str]) -> tuple[Uses, dict[str, list[str]]]:
    """Return who reads these names and what is dequantised from them, and by the latter's names the former.

    A graph within a node, which may read any of them, counts as a use, as an output of the graph does.
    """
    uses: Uses = defaultdict(list)
    outputs: dict[str, list[str]] = {}
    for number, value in read_fields(graph):
        if number == 12:
            for name in (read_text(one) for inner, one in read_fields(read_bytes(value)) if inner == 1):
                uses[name].append(("output", 0))
        elif number == 1:
            node = _read_node(read_bytes(value), names | outputs.keys())
            for name in names if node.holds_graph else ():
                uses[name].append(("graph", 0))
            for name, which in node.read:
                if (node.kind, which) == (BEFORE, 0) and name in names and node.output:
                    outputs.setdefault(node.output, []).append(name)
                else:
                    uses[name].append((node.kind, which))
    return uses, outputs


class _Node(NamedTuple):
    """A node of a graph."""

    kind: str
    """Its operator, after its domain if it has one."""
    read: list[tuple[str, int]]
    """Names that are of interest, and as which of its inputs it reads them."""
    output: str
    """Its first output."""
    holds_graph: bool


def _read_node(node: memoryview, names: Set[str]) -> _Node:
    kind, domain, outputs, holds_graph = "", "", [], False
    for number, value in read_fields(node):
        if number == 2 and not outputs:
            outputs.append(read_text(value))
        elif number == 4:
            kind = read_text(value)
        elif number == 7:
            domain = read_text(value)
        elif number == 5:
            holds_graph = holds_graph or any(part in (6, 11) for part, _ in read_fields(read_bytes(value)))
    inputs = enumerate(value for number, value in read_fields(node) if number == 1)
    read = [(name, which) for which, value in inputs if (name := read_text(value)) in names]
    return _Node(f"{domain}.{kind}" if domain else kind, read, outputs[0] if outputs else "", holds_graph)


def _read_tensor(tensor: memoryview) -> tuple[str, int, memoryview]:
    """Return a tensor's name, type and values; no values unless they lie in it as bytes once, as two rows and columns say."""
    name, kind, values, dims, plain = "", 0, memoryview(b""), [], True
    for number, value in read_fields(tensor):
        if number == 1 and isinstance(value, int) and len(dims) < 3:
            dims.append(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = read_text(value)
        elif number == 9 and not values:
            values = read_bytes(value)
        else:
            plain = False  # among others packed dims, a second field of values, and references
    width = {FLOAT: 4, UINT8: 1, INT8: 1}.get(kind, 0)
    fits = plain and len(dims) == 2 and len(values) == dims[0] * dims[1] * width
    return name, kind, values if fits else memoryview(b"")


def _refer_in_graph(graph: memoryview, weights: dict[int, memoryview], place: tuple[bytes, int]) -> bytes:
    parts = []
    for number, value, encoded in read_encoded(graph):
        tensor = read_bytes(value) if number == 5 else memoryview(b"")
        values = weights.get(locate(tensor)) if tensor else None
        parts.append(bytes(encoded) if values is None else encode_bytes(5, _refer(tensor, values, place)))
    return b"".join(parts)


def _refer(tensor: memoryview, values: memoryview, place: tuple[bytes, int]) -> bytes:
    """Return a tensor that refers to its values in the file."""
    name, first = place
    parts = [bytes(encoded) for number, _, encoded in read_encoded(tensor) if number != 9]
    facts = {b"location": name, b"offset": b"%d" % (locate(values) - first), b"length": b"%d" % len(values)}
    parts += [encode_bytes(13, encode_bytes(1, key) + encode_bytes(2, said)) for key, said in facts.items()]
    return b"".join([*parts, encode_number(14, 1)])  # data_location: EXTERNAL
