"""Packed images for tests: shards, parquet files, IDX and CIFAR files."""

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tests.support.pictures import encoded, picture


def shard(path: Path, labels: Sequence[int | str], seed: int = 0, **more: bytes) -> Path:
    """Write a shard with an image for each label; `more`: further members, "__" for the dot."""
    files = {f"s{place}.cls": str(label).encode() for place, label in enumerate(labels)}
    files |= {f"s{place}.png": encoded(picture(seed + place)) for place in range(len(labels))}
    return tar(path, files | {name.replace("__", "."): value for name, value in more.items()})


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a tar of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def table(path: Path, labels: list, seed: int = 0, rows: int = 3, names: list[str] | None = None, **columns) -> Path:
    """Write a parquet file with an image for each label, or with these columns; `names`: of the classes, as on the Hub."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(picture(seed + place)), "path": f"{place}.png"} for place in range(len(labels))]
    found = pyarrow.table(columns or {"image": images, "label": labels})
    if names is not None:
        label = {"_type": "ClassLabel", "names": names}
        features = {name: {"_type": "Image"} if name in ("image", "img") else label for name in found.column_names}
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(found, path, row_group_size=rows)
    return path


def idx(folder: Path, prefix: str, pixels: np.ndarray, labels: np.ndarray, ending: str = "") -> None:
    """Write a pair of IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, magic, values in (("images-idx3", 0x803, pixels), ("labels-idx1", 0x801, labels)):
        data = struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.astype(np.uint8).tobytes()
        path = folder / f"{prefix}-{kind}-ubyte{ending}"
        path.write_bytes(gzip.compress(data) if ending == ".gz" else data)


def cifar(path: Path, pixels: np.ndarray, *labels: np.ndarray) -> None:
    """Write a file of CIFAR's: pixels (image, row, col, channel), behind one label or two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    heads = np.stack(labels, 1).astype(np.uint8)
    path.write_bytes(np.concatenate([heads, pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)], 1).tobytes())


def overwrite(path: Path, place: int, data: bytes) -> None:
    """Replace bytes within a file."""
    content = path.read_bytes()
    path.write_bytes(content[:place] + data + content[place + len(data) :])
