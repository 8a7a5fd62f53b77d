"""Features as a file for other programs: parquet (a row for each image) or npz (one array for each column)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import ConfigError
from vitreous.evaluation.probes.features import Features
from vitreous.metrics.classification import find_indices
from vitreous.storage.atomic import atomic_file
from vitreous.storage.parquet import check_parquet, replace_bytes
from vitreous.storage.presence import follow_links, is_folder

FORMATS = (".parquet", ".npz")
ROWS = 4096
"""Images in each group of a parquet file."""


def check_target(path: Path) -> None:
    """Raise ConfigError unless the name's extension is a format that can be written here."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'}; name a file that ends in {' or '.join(FORMATS)}")
    if is_folder(path):
        raise ConfigError(f"{path} is a folder; name a file")
    if path.suffix.lower() == ".parquet":
        check_parquet("name a file that ends in .npz")


def write_features(path: Path, parts: Mapping[str, Features], facts: Mapping[str, str]) -> None:
    """Write the features of all parts of a data set, replacing the file where links lead as a whole.

    Columns: name (text), vector (float32); label (text) if there are classes, part (text) if there are parts. In an npz
    the labels are numbers, and `classes` names them. Parquet stores the facts as metadata of its schema, npz as arrays
    of one text each.

    Args:
        path: ends in .parquet or .npz.
        parts: the name of each part ("" for a single one), and its features, all of the same layer.
        facts: their description: model, layer, ...

    Raises:
        ConfigError: another extension, or pyarrow is not installed. StorageError: the file can't be written.
    """
    check_target(path)
    write = {".parquet": _write_parquet, ".npz": _write_npz}[path.suffix.lower()]
    with atomic_file(follow_links(path)) as file:
        write(file, parts, facts)


def _encode_labels(parts: Mapping[str, Features]) -> bool:
    return any(found.classes != ("",) for found in parts.values())


def _write_parquet(file: Any, parts: Mapping[str, Features], facts: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = next(iter(parts.values())).vectors.shape[1]
    fields = [
        ("name", pa.string()),
        ("label", pa.string()),
        ("part", pa.string()),
        ("vector", pa.list_(pa.float32(), width)),
    ]
    kept = [one for one in fields if one[0] in _columns(parts)]
    schema = pa.schema(kept, metadata={key: replace_bytes(value) for key, value in facts.items()})
    with pq.ParquetWriter(file, schema) as writer:
        for part, found, rows in _groups(parts):
            columns = {
                "name": [replace_bytes(name) for name in found.names[rows]],
                "label": [replace_bytes(found.classes[label]) for label in found.labels[rows]],
                "part": [part] * len(found.labels[rows]),
                "vector": pa.FixedSizeListArray.from_arrays(np.ravel(found.vectors[rows]), width),
            }
            writer.write_table(pa.table({name: columns[name] for name, _ in kept}, schema=schema))


def _columns(parts: Mapping[str, Features]) -> list[str]:
    """Return the names of the columns that are present."""
    return ["name", *["label"] * _encode_labels(parts), *["part"] * (set(parts) != {""}), "vector"]


def _groups(parts: Mapping[str, Features]) -> Iterator[tuple[str, Features, slice]]:
    """Yield each part in pieces of ROWS images."""
    for part, found in parts.items():
        yield from ((part, found, slice(first, first + ROWS)) for first in range(0, len(found), ROWS))


def _write_npz(file: Any, parts: Mapping[str, Features], facts: Mapping[str, str]) -> None:
    classes = sorted({name for found in parts.values() for name in found.classes})
    arrays = {key: np.array(replace_bytes(value)) for key, value in facts.items()}
    arrays["name"] = np.array([replace_bytes(name) for found in parts.values() for name in found.names])
    if _encode_labels(parts):
        own = [find_indices(found.classes, classes)[found.labels] for found in parts.values()]
        arrays |= {
            "label": np.concatenate(own).astype(np.int64),
            "classes": np.array([replace_bytes(one) for one in classes]),
        }
    if set(parts) != {""}:
        arrays["part"] = np.repeat(list(parts), [len(found) for found in parts.values()])
    vectors = [found.vectors for found in parts.values()]
    np.savez(file, **arrays, vector=vectors[0] if len(vectors) == 1 else np.concatenate(vectors))
