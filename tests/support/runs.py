"""Run folders to report on, made by hand in a moment."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.run_folder import Run
from vitreous.settings import to_dict
from vitreous.weights.model_folder import ModelFolder, save_model

MODEL = ViTConfig(image=(8, 8), patch=(2, 2), channels=3, width=16, depth=2, heads=2, mlp_width=16, classes=0)
PREPROCESS = PreprocessConfig(size=(8, 8), crop=1.0)
HOSTILE = ('<script>alert("a")</script>', "b'&\"<img src=x>", "c\u202ed")
STEPS = 8


def write_images(root: Path, classes=HOSTILE, each=5, side=10) -> Path:
    """Write a tree of class folders with random pictures; names are as hostile as a file system lets them be."""
    rng = np.random.default_rng(0)
    for name in classes:
        folder = root / name.replace("/", "\u2044")
        folder.mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index} <b onclick='x()'>&.png")
    return root


def write_run(
    path: Path, data: str = "digits", model: ViTConfig = MODEL, exported: bool = True, finished: bool = True, **augment
) -> Path:
    """Write a run folder with records and, if asked for, an untrained model."""
    source = DataConfig(data, holdout=0.4)
    dataset = open_dataset(source)
    names = dataset.facts.classes
    model = replace(model, classes=len(names))
    settings = {
        "recipe": "small",
        "data": to_dict(source),
        "decode": to_dict(DecodeConfig()),
        "preprocess": to_dict(PREPROCESS),
        "augment": to_dict(AugmentConfig(crop="eval", flip=False, **augment)),
        "model": asdict(model),
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "batch": 4,
        "seed": 0,
        "device": "cpu",
        "workers": 0,
        "export": "best",
    }
    facts = {"classes": list(names), "train": len(dataset.train), "validation": len(dataset.validation)}
    facts["fingerprint"] = f"{dataset.train.fingerprint}:{dataset.validation.fingerprint}"
    document = {
        "config": settings,
        "data": facts,
        "steps": STEPS,
        "parameters": 12345,
        "environment": {"device": "cpu"},
    }
    with Run.create(path, document) as run:
        for step in range(1, STEPS + 1 if finished else STEPS // 2):
            run.log({
                "kind": "train", "step": step, "epoch": step / 4, "samples": 4 * step, "loss": 2 / step,
                "accuracy": 0.1 * step, "lr": 1e-3, "images_per_second": 100.0, "seconds": 0.1 * step,
            })  # fmt: skip
            if step % 4 == 0:
                run.log({
                    "kind": "evaluation", "step": step, "epoch": step / 4, "loss": 1.0, "top1": 0.5, "top5": 0.9,
                    "ece": 0.1, "seconds": 0.1, "best": True,
                })  # fmt: skip
        if exported:
            made = create(model)
            torch.nn.init.normal_(made.head.weight, std=2.0, generator=torch.Generator().manual_seed(1))
            save_model(run.model_path, ModelFolder(made, PREPROCESS, DecodeConfig(), names, {"step": STEPS}))
    return path
