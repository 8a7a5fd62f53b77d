"""Manifests, and the JSON of run folders and model folders: described as `inspect` does, which opens and checks all they name."""

import io
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.api.inspection import inspect
from vitreous.data.listing.manifest import MANIFESTS
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.settings import from_dict, to_dict
from vitreous.training.config import RunConfig
from vitreous.weights.model_folder import ModelFolder, save_model

COUNT = 2_000
ROWS = [
    (f"{label}{number}.png", label, "val" if number == 2 else "train")
    for label in ("cat", "dog")
    for number in range(3)
]
TABLES = {
    "plain.csv": ("path,label", "{0},{1}", "utf-8"),
    "split.csv": ('"File Name"; Class;split;note', '"{0}"; "{1}";{2};"a; ""b"""', "utf-8-sig"),
    "wide.tsv": ("image\ttarget\tsubset", "{0}\t{1}\t{2}", "utf-16"),
    "windows.csv": ("sep=;\r\npath;label", ".\\{0};{1}\r", "utf-8"),
    "sets.csv": ("path,labels,split", "{0},{1};small,{2}", "utf-8"),
}


def seeds(folder: Path) -> list[Path]:
    """Write manifests of every form, a run folder and a model folder."""
    found = []
    for name, (header, row, encoding) in TABLES.items():
        text = "\n".join([header, *(row.format(*fields) for fields in ROWS)])
        found.append(written(folder / name, text.encode(encoding)))
    for name, key in (("plain.jsonl", "label"), ("sets.ndjson", "labels")):
        lines = [
            json.dumps({"path": path, key: [label] if key == "labels" else label, "split": split, "size": {"rows": 8}})
            for path, label, split in ROWS
        ]
        found.append(written(folder / name, "\n".join(lines).encode()))
    return [*found, run_folder(folder / "run"), model_folder(folder / "model")]


def attempt(path: Path) -> None:
    """Describe a manifest with its images beside it, or a folder, whose settings are read too."""
    os.environ["XDG_CACHE_HOME"] = str(path.parent / "cache")
    if path.suffix in MANIFESTS:
        for name, _, _ in ROWS:
            written(path.parent / name, picture(name))
    elif (path / "metrics.jsonl").exists():
        from vitreous.run_folder import read_run

        from_dict(RunConfig, read_run(path).config.get("config"), "config")
    inspect(str(path))


def written(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


@cache
def picture(name: str) -> bytes:
    """Return the PNG of a few random pixels, others for each name."""
    file = io.BytesIO()
    noise = np.random.default_rng(list(name.encode())).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def run_folder(folder: Path) -> Path:
    """Write what a run leaves after its first evaluation, without a checkpoint."""
    from vitreous.run_folder import Run

    config = {"config": to_dict(RunConfig(recipe="small")), "steps": 20, "parameters": 1000}
    entries = (
        {"kind": "train", "step": 5, "loss": 2.0, "seconds": 1.5},
        {"kind": "evaluation", "step": 5, "loss": 1.0, "top1": 0.5},
    )
    with Run.create(folder, config) as run:
        for entry in entries:
            run.log(entry)
    return folder


def model_folder(folder: Path) -> Path:
    """Write a small model."""
    config = build_vit_config("mu/4", image=(8, 8), classes=2)
    images = PreprocessConfig(size=(8, 8))
    save_model(folder, ModelFolder(create(config), images, DecodeConfig(), ("cat", "dog"), {"recipe": "small"}))
    return folder
