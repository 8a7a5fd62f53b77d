"""An ONNX file's model with references in place of its large weights, which ONNX Runtime then reads from where they lie.

ONNX Runtime copies the weights inside a file twice before it lays them out anew; those that a tensor refers to (`external_data`,
https://github.com/onnx/onnx/blob/main/docs/ExternalData.md), it maps, lays out, and lets go. A reference may be to the file itself.
"""

import mmap
from pathlib import Path

import numpy as np

from vitreous.engines.protobuf import encode_bytes, encode_number, read_bytes, read_encoded, read_fields, read_text

LARGE = 1 << 16
"""Bytes of the weights from which on they are referred to."""
LAID_OUT = {"MatMul", "Gemm", "MatMulInteger", "DequantizeLinear"}
"""Operators whose weights are laid out anew: what others use would stay mapped, and end the process if the file were cut short."""
FOLDER = "session.model_external_initializers_file_folder_path"
"""ONNX Runtime's setting for the folder of what a model in memory refers to."""


def refer_to_weights(path: Path) -> bytes | None:
    """Return a model that refers to the large weights in its own file; None if there are none.

    Raises:
        ValueError, IndexError, OSError: it can't be read, or is no ONNX.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    place = (path.name.encode(), locate(data))
    parts = [
        encode_bytes(7, _refer_in_graph(read_bytes(value), place)) if number == 7 else bytes(encoded)
        for number, value, encoded in read_encoded(data)
    ]
    return b"".join(parts) if sum(map(len, parts)) < len(data) else None


def locate(data: memoryview) -> int:
    """Return the address of some bytes."""
    return np.frombuffer(data, np.uint8).ctypes.data


def _refer_in_graph(graph: memoryview, place: tuple[bytes, int]) -> bytes:
    laid_out, others = set[str](), set[str]()
    for number, value in read_fields(graph):
        if number == 1:
            node = list(read_fields(read_bytes(value)))
            kind = "".join(read_text(one) for inner, one in node if inner == 4)
            inputs = {read_text(one) for inner, one in node if inner == 1}
            (laid_out if kind in LAID_OUT else others).update(inputs)
    parts = []
    for number, value, encoded in read_encoded(graph):
        tensor = list(read_encoded(read_bytes(value))) if number == 5 else []
        names = [read_text(one) for inner, one, _ in tensor if inner == 8]
        known = bool(names) and names[0] in laid_out - others
        parts.append(encode_bytes(5, _refer(tensor, place)) if known else bytes(encoded))
    return b"".join(parts)


def _refer(tensor: list[tuple[int, int | memoryview, memoryview]], place: tuple[bytes, int]) -> bytes:
    """Return a tensor that refers to its values in the file, if there are many."""
    name, first = place
    parts = []
    for number, value, encoded in tensor:
        if number != 9 or len(read_bytes(value)) < LARGE:
            parts.append(bytes(encoded))
            continue
        values = read_bytes(value)
        facts = {b"location": name, b"offset": b"%d" % (locate(values) - first), b"length": b"%d" % len(values)}
        parts += [encode_bytes(13, encode_bytes(1, key) + encode_bytes(2, said)) for key, said in facts.items()]
        parts.append(encode_number(14, 1))  # data_location: EXTERNAL
    return b"".join(parts)
