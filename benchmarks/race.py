"""The whole race: vitreous beside every peer that computes the same models, in interleaved rounds.

    python benchmarks/race.py [--parts inference training] [--rounds 9] [--environments FOLDER] [--json out.json]

inference  speed.py's cells and contenders, and besides: transformers, OpenVINO asked for latency and for throughput (where several
           images are in flight, also at batch 1: no latency), in float32 and bfloat16 each, and zentorch, AMD's backend of
           torch.compile, in a process and a virtual environment of its own, which this script makes below --environments
           (without that it is left out, and said so).
training   speed.py's cells and contenders.

Ratios are medians over the rounds of the time of timm's eager float32 / own time: above 1 is faster. The share of the limit is
the model's products a second by those of the machine's fastest product of large matrices at that precision, of the same run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import openvino
import torch
from photographs import measure_products
from speed import INFERENCE, PRECISIONS, TRAINING, Cell, folder_of, forward, inference_runs, interleaved, training_runs
from timm_peer import let_torchvision_load

import vitreous
from vitreous.deploy.export import export_model
from vitreous.deploy.graph import GraphOptions
from vitreous.model.count import count_flops
from vitreous.runtime.device import has_native_bf16
from vitreous.runtime.processor import read_cpu_model
from vitreous.runtime.signal_stack import keep_signal_stack
from vitreous.weights.model_folder import ModelFolder, save_model

CPU = torch.device("cpu")
BASELINE = "timm fp32"
FLIGHT = 8
"""Images in flight when a single one is computed for throughput."""
ZENTORCH = ("torch==2.13.0", "zentorch==2.13.0.2", "timm==1.0.31", "numpy")
WORKER = """
import sys, time, torch, zentorch
from timm.models.vision_transformer import VisionTransformer
width, depth, heads, patch, side, classes, batch = map(int, sys.argv[1:8])
model = VisionTransformer(side, patch, 3, classes, embed_dim=width, depth=depth, num_heads=heads).eval()
model = torch.compile(model, backend="zentorch")
images = torch.randn(batch, 3, side, side)
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[8] == "bf16"):
    model(images)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        model(images)
        print(time.perf_counter() - started, flush=True)
"""


def run_openvino(file: Path, inputs: Any, hint: str, precision: str) -> Callable[[], float | None]:
    """Return a pass through OpenVINO itself; for throughput it says its own time, that of the images in flight divided by
    the passes that they make."""
    with keep_signal_stack():
        compiled = openvino.Core().compile_model(
            file,
            "CPU",
            {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)},
        )
        if hint == "LATENCY":
            return lambda: compiled(inputs) and None
        queue = openvino.AsyncInferQueue(compiled)
    images = [inputs[index : index + 1] for index in range(len(inputs))] * (FLIGHT if len(inputs) == 1 else 1)

    def run() -> float:
        started = time.perf_counter()
        for image in images:
            queue.start_async(image)
        queue.wait_all()
        return (time.perf_counter() - started) * len(inputs) / len(images)

    return run


def run_transformers(folder: ModelFolder, images: torch.Tensor, where: Path) -> Callable[[], None]:
    """Return a pass through transformers' model of the same weights."""
    save_model(where / "vitreous", folder)
    vitreous.convert(where / "vitreous", where / "huggingface", to="huggingface")
    let_torchvision_load()
    from transformers import AutoModelForImageClassification

    return forward(AutoModelForImageClassification.from_pretrained(where / "huggingface").eval(), images)


@contextmanager
def open_zentorch(python: Path, cell: Cell, precision: str) -> Iterator[Callable[[], float]]:
    """Yield a pass through zentorch in a process of its own, which says its time."""
    shape = cell.model
    sizes = (shape.width, shape.depth, shape.heads, shape.patch[0], shape.image[0], shape.classes, cell.batch)
    command = [str(python), "-c", WORKER, *map(str, sizes), precision]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != "ready":
            pass
        assert line, f"zentorch ended: {command[0]} -c ... {sizes}"

        def run() -> float:
            process.stdin.write("\n")
            return float(process.stdout.readline())

        yield run
        process.stdin.close()


def make_zentorch(environments: Path) -> Path:
    """Return the interpreter of zentorch's virtual environment, which is made where there is none."""
    python = environments / "zentorch" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environments / "zentorch")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *ZENTORCH], check=True)
    return python


def race_inference(cell: Cell, rounds: int, zentorch: Path | None) -> dict[str, list[float]]:
    """Return each contender's seconds a batch."""
    folder = folder_of(cell.model)
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image)
    precisions = ["fp32", *["bf16"] * has_native_bf16(CPU)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        where = Path(name)
        exported, _ = export_model(folder, where / "onnx", "onnx", GraphOptions())
        runs = inference_runs(cell, folder, exported, CPU)
        runs["transformers fp32"] = run_transformers(folder, images, where)
        for precision in precisions:
            for hint in ("LATENCY", "THROUGHPUT"):
                said = f"openvino {precision}, {hint.lower()}"
                runs[said] = run_openvino(exported.file, images.numpy(), hint, precision)
            if zentorch is not None:
                runs[f"zentorch {precision}"] = stack.enter_context(open_zentorch(zentorch, cell, precision))
        return interleaved(runs, rounds, lambda: None)


def show(
    title: str, cell: Cell, times: Mapping[str, list[float]], limits: Mapping[str, float], baseline: str = BASELINE
) -> dict[str, Any]:
    """Print one cell's table; return its figures. A training step counts as three forward passes.

    Args:
        limits: operations a second of the fastest product, by precision.
    """
    passes = 3 if title == "training" else 1
    work = passes * cell.batch * count_flops(cell.model)
    print(
        f"\n{title}, {cell.name}; limits: {', '.join(f'{key} {value / 1e9:.0f} GFLOP/s' for key, value in limits.items())}"
    )
    print(f"\n| contender | times {baseline} | images/s | of the limit |\n|---|---|---|---|")
    found = {}
    for name, own in times.items():
        ratio = statistics.median(base / mine for base, mine in zip(times[baseline], own, strict=True))
        seconds = statistics.median(own)
        share = work / seconds / limits["bf16" if "bf16" in name else "fp32"]
        print(f"| {name} | {ratio:.2f} | {cell.batch / seconds:.1f} | {share:.0%} |", flush=True)
        found[name] = {"ratio": ratio, "images_per_second": cell.batch / seconds, "of_limit": share, "seconds": own}
    return {"part": title, "cell": cell.name, "model": asdict(cell.model), "limits": limits, "contenders": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("inference", "training"), default=["inference", "training"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--environments", type=Path, help="where zentorch's virtual environment is, or is made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    machine = f"{read_cpu_model()}, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, openvino {openvino.__version__.split('-')[0]}, {machine}", flush=True)
    zentorch = make_zentorch(given.environments) if given.environments else None
    if zentorch is None:
        print("zentorch is left out: --environments says where its virtual environment goes")
    races = {
        "inference": (INFERENCE, partial(race_inference, rounds=given.rounds, zentorch=zentorch)),
        "training": (TRAINING, lambda cell: interleaved(training_runs(cell, CPU), given.rounds, lambda: None)),
    }
    found = []
    for part in given.parts:
        cells, race = races[part]
        for cell in cells:
            times = race(cell)
            limits = {name: measure_products(dtype) for name, dtype in PRECISIONS.items()}
            found.append(show(part, cell, times, limits))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "cells": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
