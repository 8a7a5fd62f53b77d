"""Read features written by `feature_file.py`, a piece of the vectors at a time, with every claim of the file checked.

An npz's vectors are mapped; a parquet file's are read group by group. Nothing in a file is executed.
"""

import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import CheckpointError, DataError
from vitreous.evaluation.probes.feature_file import ROWS, check_target
from vitreous.shapes import Float, Float32
from vitreous.storage.limits import check_claims, check_count, check_file
from vitreous.storage.presence import explain_absence, path_exists
from vitreous.weights.npz import BROKEN, read_header

NEEDED = ("model", "layer", "precision")
FACTS = (*NEEDED, "model_hash", "load_options", "roots")
SMALL, LARGE = 1e-30, 1e30
"""Squared lengths between which float32 keeps its digits."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Header of a zip's member: its mark, and the lengths of its name and of the extra field."""


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """One vector for each of many images, and their description."""

    names: Sequence[str]
    chunks: Callable[[], Iterator[Float32[np.ndarray, "chunk features"]]]
    """Yields the vectors in the order of the names, from the start on each call."""
    facts: Mapping[str, str]
    """model, layer, precision; also model_hash, except in files of earlier versions."""
    labels: Sequence[str] | None = None
    """Each image's class; None if there are none."""
    splits: Sequence[str] | None = None
    """The split that each image belongs to; None if there is only one."""
    load_options: Mapping[str, Any] = field(default_factory=dict)
    """The options with which the model's weights were loaded, as for `vitreous.load`."""
    roots: Mapping[str, Any] = field(default_factory=dict)
    """The folder that the names of each split's images are relative to, if it isn't the working directory."""

    def vector(self, index: int) -> Float32[np.ndarray, " features"]:
        """Return one image's vector."""
        first = 0
        for chunk in self.chunks():
            if index < first + len(chunk):
                return np.array(chunk[index - first])
            first += len(chunk)
        raise IndexError(index)

    def place(self, index: int) -> Path:
        """Return where an image's file was when the vectors were computed."""
        return Path(self.roots.get(self.splits[index] if self.splits else "", ""), self.names[index])


def cosines(found: StoredFeatures, vector: Float[np.ndarray, " features"]) -> Float32[np.ndarray, " image"]:
    """Return the cosine of each image's vector and another, -1 to 1; 0 for a vector of length 0.

    Raises:
        DataError: vectors of another length, or that are not finite.
    """
    wide = vector.astype(np.float64)
    query = (wide / (np.linalg.norm(wide) or 1)).astype(np.float32)
    result, done = np.empty(len(found.names), np.float32), 0
    for chunk in found.chunks():
        if chunk.shape[1] != len(query):
            raise DataError(
                f"the vectors have length {chunk.shape[1]:,}, but the model's have {len(query):,}; "
                "embed the images again with this model and layer"
            )
        result[done : done + len(chunk)] = _chunk_cosines(chunk, query, found.names[done])
        done += len(chunk)
    return result


def _chunk_cosines(chunk: np.ndarray, query: np.ndarray, first: str) -> Float[np.ndarray, " chunk"]:
    """Multiply in float32, or in float64 where lengths exceed its range."""
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", chunk, chunk)
        if not (len(squares) and squares.min() > SMALL and squares.max() < LARGE):
            chunk = chunk.astype(np.float64)
            squares = np.einsum("ij,ij->i", chunk, chunk)
    if not np.isfinite(squares).all():
        raise DataError(f"vectors from {first} on are not finite; write them again with vitreous embed")
    return chunk @ query.astype(chunk.dtype) / np.sqrt(np.where(squares > 0, squares, 1))


def read_features(path: Path) -> StoredFeatures:
    """Open a file that `write_features` wrote.

    Raises:
        ConfigError: another extension, or pyarrow is not installed. DataError: it is missing, or not a file of
            features.
    """
    check_target(path)
    if not path_exists(path):
        raise DataError(explain_absence(path))
    with _translate_errors(path):
        check_file(path)
        found = {".parquet": _read_parquet, ".npz": _read_npz}[path.suffix.lower()](path)
        lacking = [name for name in NEEDED if name not in found.facts]
        if lacking:
            raise ValueError(f"it doesn't say its {', '.join(lacking)}")
        if not len(found.names):
            raise ValueError("it holds no images")
        options, roots = (_read_object(found.facts.get(name, "{}")) for name in ("load_options", "roots"))
        if not all(isinstance(one, str) for one in roots.values()):
            raise ValueError("its roots are not folders")
        return replace(found, load_options=options, roots=roots)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of readers on a damaged file into a DataError of one line."""
    try:
        yield
    except (
        OSError,
        KeyError,
        OverflowError,
        RecursionError,
        CheckpointError,
        struct.error,
        *BROKEN,
    ) as error:
        said = " ".join((str(error) or type(error).__name__).split()).removeprefix(f"{path} ").removeprefix(f"{path}: ")
        said = "".join(one if one.isprintable() else "?" for one in said[:200])
        raise DataError(f"{path} is not a file of vectors as vitreous embed writes it: {said}") from error


def _read_object(text: str) -> dict[str, Any]:
    """Read a JSON object, with its lists as tuples; raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("its description of the model is not a JSON object")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _read_npz(path: Path) -> StoredFeatures:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
        check_count(str(path), len(members))

        def read(name: str, axes: int = 1, text: bool = True) -> np.ndarray:
            return _read_member(path, archive, members[name], axes, text)

        names = read("name").tolist()
        facts = {name: str(read(name, 0)) for name in FACTS if name in members}
        labels = splits = None
        if "label" in members:
            classes = read("classes").tolist()
            labels = [classes[index] for index in _check_labels(read("label", text=False), len(classes)).tolist()]
        if "part" in members:
            splits = read("part").tolist()
    vectors = _map_member(path, members["vector"], size)
    counts = {len(one) for one in (names, vectors, labels, splits) if one is not None}
    if len(counts) > 1:
        raise ValueError(f"its columns have different lengths: {', '.join(map(str, sorted(counts)))}")

    def chunks() -> Iterator[np.ndarray]:
        return (vectors[first : first + ROWS] for first in range(0, len(vectors), ROWS))

    return StoredFeatures(names, chunks, facts, labels, splits)


def _check_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels that are class numbers; raises ValueError for others."""
    if labels.dtype.kind not in "iu" or (len(labels) and not (labels.min() >= 0 and labels.max() < classes)):
        raise ValueError("it has labels that are not among its classes")
    return labels


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, axes: int, text: bool) -> np.ndarray:
    """Read a small array; raises ValueError, CheckpointError."""
    name = ascii(member.filename)[1:-1][:80]
    check_claims(f"{path}: {name}", member.file_size, path.stat().st_size)
    with archive.open(member) as file:
        shape, _, dtype = read_header(file, f"{path}: {name}", member.file_size, text)
        if len(shape) != axes:
            raise ValueError(f"{name} has {len(shape)} axes, but must have {axes}")
        data = file.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape)


def _map_member(path: Path, member: zipfile.ZipInfo, size: int) -> Float32[np.ndarray, "image features"]:
    """Map an array stored uncompressed in a zip, as NumPy stores it; raises ValueError, CheckpointError."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its vectors are compressed; write them with numpy.savez")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        mark, names, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start = member.header_offset + LOCAL_HEADER.size + names + extra
        file.seek(start)
        held = min(member.file_size, size - start)
        shape, fortran, dtype = read_header(file, f"{path}: vector", held)
        offset = file.tell()
    needed = math.prod(shape) * dtype.itemsize
    if (
        mark != b"PK\x03\x04"
        or len(shape) != 2
        or fortran
        or dtype != np.float32
        or not needed
        or offset + needed > size
    ):
        raise ValueError("its vectors are not whole rows of float32")
    return np.memmap(path, dtype, "r", offset, shape)


def _read_parquet(path: Path) -> StoredFeatures:
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    texts = [name for name in ("name", "label", "part") if name in schema.names]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        width = _width(schema)
        check_claims(str(path), file.metadata.num_rows * width * 4, path.stat().st_size)
        facts = {
            key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key.decode() in FACTS
        }
        names, labels, splits = (_texts(file, one) for one in ("name", "label", "part"))
    if names is None:
        raise KeyError("name")

    def chunks() -> Iterator[np.ndarray]:
        with _translate_errors(path), pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(ROWS, columns=["vector"]):
                vectors = batch.column(0)
                if vectors.null_count or vectors.flatten().null_count:
                    raise ValueError("it has rows without vectors")
                yield vectors.flatten().to_numpy().reshape(-1, width)

    return StoredFeatures(names, chunks, facts, labels, splits)


def _width(schema: Any) -> int:
    """Return the length of a vector; raises ValueError unless the column holds vectors of one length in float32."""
    import pyarrow as pa

    kind = schema.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32() or kind.list_size < 1:
        raise ValueError(f"its column vector is of type {kind}, but must be fixed-size lists of float32")
    return kind.list_size


def _texts(file: Any, name: str) -> list[str] | None:
    """Read a column of text, each word once; None if there is no such column."""
    import pyarrow as pa

    if name not in file.schema_arrow.names:
        return None
    found: list[str] = []
    for batch in file.iter_batches(ROWS, columns=[name]):
        column = batch.column(0)
        if not isinstance(column, pa.DictionaryArray):
            raise ValueError(f"its column {name} is of type {column.type}, but must be text")
        if column.null_count:
            raise ValueError(f"its column {name} lacks some values")
        words = column.dictionary.to_pylist()
        found += [words[index] for index in column.indices.to_pylist()]
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"its column {name} is not text")
    return found
