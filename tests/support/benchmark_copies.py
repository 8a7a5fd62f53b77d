"""Small copies of the benchmarks, as users have them, and a model for them."""

import json
from pathlib import Path

import numpy as np
import torch
from tests.support.pictures import encoded, write

from vitreous.evaluation.benchmarks.imagenet_classes import wnids
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights.model_folder import ModelFolder


def imagenet_model(classes: tuple[str, ...] | None = None) -> ModelFolder:
    """A model whose predictions differ from image to image."""
    names = classes or tuple(f"class {number}" for number in range(1000))
    model = create(build_vit_config("mu/4", image=(8, 8), classes=len(names)))
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    return ModelFolder(model.eval(), PreprocessConfig(size=(8, 8)), DecodeConfig(), names)


def class_tree(root: Path, classes: list[int], each: int = 2, name=lambda index: wnids()[index]) -> Path:
    for index in classes:
        for number in range(each):
            write(root / name(index) / f"{number}.png", seed=1000 * index + number)
    return root


def real_copy(root: Path, labels: dict[int, list[int]]) -> Path:
    """ImageNet's validation images of these numbers, some in class folders, with real.json above."""
    for number in labels:
        folder = root / "val" / ("" if number % 2 else "n01440764")
        write(folder / f"ILSVRC2012_val_{number + 1:08}.JPEG", encoded_jpeg(number))
    every = [labels.get(number, []) for number in range(50_000)]
    (root / "real.json").write_text(json.dumps(every))
    return root / "val"


def encoded_jpeg(seed: int) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8), "JPEG", quality=95)


def corrupted_copy(root: Path, folders: list[str], severities=(1, 2, 3, 4, 5)) -> Path:
    for place, folder in enumerate(folders):
        for level in severities:
            class_tree(root / folder / str(level), [place, place + 7], 1)
    return root


def listed(root: Path, task: str, train: int, test: int, classes: int, **names: str) -> Path:
    """A task of VTAB-1k with lists; images' colours tell the classes apart."""
    folder = root / task
    lines = []
    for number in range(train + test):
        label = number % classes
        pixels = np.full((8, 8, 3), 20 * label, np.uint8) + np.random.default_rng(number).integers(0, 9, (8, 8, 3))
        name = f"images/{'train' if number < train else 'test'} {number:04}.png"
        write(folder / name, encoded(pixels.astype(np.uint8)))
        lines.append(f"{name} {label}")
    few = train * 4 // 5
    parts = {
        "train800": lines[:few],
        "val200": lines[few:train],
        "train800val200": lines[:train],
        "test": lines[train:],
    }
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n")
    return folder
