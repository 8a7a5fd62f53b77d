"""The race on a GPU, in bfloat16: vitreous and timm, eager and compiled, training's MFU included; vitreous in int8 too, if torchao is installed; some ten minutes.

    python benchmarks/gpu.py [--parts inference training] [--rounds 20] [--json out.json] [--dry]

timm's compiled model has CUDA graphs too (mode="reduce-overhead") in inference; of both peers the better one counts.

Needs the repository and its dependencies alone: images are noise, weights random. MFU is the model's products a second (a training
step counts as three forward passes; of the whole model, of whose last block inference may leave most out) by those of the fastest
product of 8192 x 8192 matrices, measured in the same run. `--dry` goes the same way on a CPU with tiny models: it shows that the script runs, and no figure of it says anything.
"""

import argparse
import gc
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from limits import measure_int8, measure_products
from speed import Cell, folder_of, forward, interleaved, own_step, timm_step
from tables import show
from timm_peer import timm_model

from vitreous.engines.packed_model import list_layers
from vitreous.engines.torch_engine import TorchEngine
from vitreous.model.names import build_vit_config
from vitreous.runtime.packages import is_installed

INFERENCE = (("Ti/16", 256), ("B/16", 1), ("B/16", 256), ("L/16", 128), ("H/14", 64))
TRAINING = (("S/16", 512), ("B/16", 256), ("L/16", 128), ("H/14", 64))
BASELINE = "timm bf16"


def list_cells(shapes: tuple[tuple[str, int], ...], dry: bool) -> list[Cell]:
    """Return the cells; dry: of images of two patches a side, and two of them at a time."""
    if dry:
        shapes = (("Ti/16", 2),)
    return [
        Cell(f"{name} batch {batch}", build_vit_config(name, image=(32, 32) if dry else (224, 224)), batch)
        for name, batch in shapes
    ]


def race_inference(cell: Cell, device: torch.device) -> tuple[dict[str, Callable[[], Any]], list[TorchEngine]]:
    """Return a pass of each contender by its name, and our engines; images and logits stay on the device."""
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image, device=device, dtype=torch.bfloat16)
    pixels = torch.randint(256, images.shape, dtype=torch.uint8, device=device)
    model = timm_model(cell.model).eval().to(device, torch.bfloat16)
    runs = {BASELINE: forward(model, images), "timm bf16, compiled": forward(torch.compile(model), images)}
    graphs = {} if device.type == "cpu" else {"mode": "reduce-overhead"}
    runs["timm bf16, compiled, graphs"] = forward(torch.compile(model, **graphs), images)
    folder, engines = folder_of(cell.model), list[TorchEngine]()
    compiled = {"compile": device.type == "cuda"}
    ours = {"bf16": ("bf16", {}), "bf16, compiled": ("bf16", compiled)}
    if is_installed("torchao"):  # it finds the ranges of inputs itself
        folder.ranges.update(dict.fromkeys(list_layers(folder.model), (-8.0, 8.0)))
        ours["int8, compiled"] = ("int8", compiled)
    for name, (precision, how) in ours.items():
        engine = TorchEngine(folder, str(device), precision, **how)
        runs[f"vitreous {name}"] = partial(engine.compute, "forward", pixels)
        engines.append(engine)
    return runs, engines


def race_training(cell: Cell, device: torch.device) -> tuple[dict[str, Callable[[], Any]], list[TorchEngine]]:
    """Return a step of each contender by its name, and no engines."""
    runs = {
        BASELINE: timm_step(cell, "bf16", device),
        "timm bf16, compiled": timm_step(cell, "bf16", device, compiled=True),
        "vitreous bf16": own_step(cell, "bf16", device),
        "vitreous bf16, compiled": own_step(cell, "bf16", device, compiled=True),
    }
    return runs, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("inference", "training"), default=("inference", "training"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dry", action="store_true", help="tiny models on a CPU, to see that the script runs")
    given = parser.parse_args()
    if not (given.dry or torch.cuda.is_available()):
        parser.error("torch finds no GPU; --dry runs tiny models on the CPU")
    device = torch.device("cpu" if given.dry else "cuda")
    wait = (lambda: None) if given.dry else torch.cuda.synchronize
    machine = "a dry run on a CPU" if given.dry else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {machine}", flush=True)
    side = 256 if given.dry else 8192
    limits = {"bf16": measure_products(torch.bfloat16, side, device), "int8": measure_int8(side, device)}
    found = []
    for part, race, shapes in (("inference", race_inference, INFERENCE), ("training", race_training, TRAINING)):
        for cell in list_cells(shapes, given.dry) if part in given.parts else ():
            runs, engines = race(cell, device)
            found.append(show(part, cell, interleaved(runs, given.rounds, wait), limits, BASELINE))
            for engine in engines:
                print(f"vitreous computed as follows: {'; '.join(engine.notes)}", flush=True)
            del runs, engines
            torch.compiler.reset()
            gc.collect()  # of models that hold each other
            if not given.dry:
                torch.cuda.empty_cache()
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "cells": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
