"""The whole race: vitreous beside every peer that computes the same models, in interleaved rounds.

    python benchmarks/race.py [--parts inference int8 training] [--cells B/16 ...] [--rounds 9] [--environments FOLDER]
                              [--models FOLDER] [--cpu-time] [--json out.json]

inference  speed.py's cells and contenders, and besides: transformers, OpenVINO asked for latency and for throughput (where several
           images are in flight, also at batch 1: no latency), in float32 and bfloat16 each, and zentorch, AMD's backend of
           torch.compile, in a process and a virtual environment of its own, which this script makes below --environments
           (without that it is left out, and said so).
int8       the same cells: vitreous, OpenVINO (by NNCF; what isn't int8 in float32 and in bfloat16, for latency and for throughput) and ONNX
           Runtime (calibrated, and with ranges of each batch's own), all calibrated on the same few images of noise, which decide
           nothing about speed.
training   speed.py's cells and contenders.

Ratios are medians over the rounds of the time of timm's eager float32 / own time: above 1 is faster. The share of the limit is
the model's products a second by those of the machine's fastest product of large matrices at that precision, of the same run.
--models keeps the exported and the quantised models, which take longer to write than to run, and takes those that it finds there; with
--rounds 0 they are only written, before a quiet phase.
--cpu-time, with OMP_NUM_THREADS=1, is for busy machines: all compute on one thread, and CPU time is measured. What threads gain or
lose together is not seen then.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import openvino
import torch
from limits import CPU, Clock, measure_int8, measure_products
from speed import (
    INFERENCE,
    PRECISIONS,
    TRAINING,
    Cell,
    folder_of,
    forward,
    inference_runs,
    interleaved,
    open_engine,
    training_runs,
)
from tables import BASELINE, show
from timm_peer import let_torchvision_load, timm_model

import vitreous
from vitreous.deploy.export import export_model
from vitreous.deploy.graph import GraphOptions
from vitreous.deploy.int8_onnx import OnnxInt8
from vitreous.deploy.int8_openvino import OpenVinoInt8
from vitreous.deploy.int8_torch import TorchInt8
from vitreous.engines.exported_folder import ExportedFolder, load_export
from vitreous.engines.selection import choose_engine
from vitreous.runtime.device import has_fast_bf16
from vitreous.runtime.processor import read_cpu_model
from vitreous.runtime.signal_stack import keep_signal_stack
from vitreous.weights.model_folder import ModelFolder, load_model, save_model

CALIBRATION = 16
"""Images that int8 is calibrated on."""
FLIGHT = 8
"""Images in flight when a single one is computed for throughput."""
ZENTORCH = ("torch==2.13.0", "zentorch==2.13.0.2", "timm==1.0.31", "numpy")
WORKER = """
import sys, time, torch, zentorch
sys.path.insert(0, sys.argv[9])
from timm_peer import let_torchvision_load
let_torchvision_load()
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
        print("seconds", time.perf_counter() - started, flush=True)
"""


def run_openvino(file: Path, inputs: Any, hint: str, precision: str, clock: Clock) -> Callable[[], float | None]:
    """Return a pass through OpenVINO itself; for throughput it says its own time, that of the images in flight divided by
    the passes that they make."""
    with keep_signal_stack():
        compiled = openvino.Core().compile_model(
            file,
            "CPU",
            {
                "PERFORMANCE_HINT": hint,
                "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision),
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        if hint == "LATENCY":
            return lambda: compiled(inputs) and None
        queue = openvino.AsyncInferQueue(compiled)
    images = [inputs[index : index + 1] for index in range(len(inputs))] * (FLIGHT if len(inputs) == 1 else 1)

    def run() -> float:
        started = clock()
        for image in images:
            queue.start_async(image)
        queue.wait_all()
        return (clock() - started) * len(inputs) / len(images)

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
    command = [str(python), "-c", WORKER, *map(str, sizes), precision, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        read = process.stdout.readline

        def wait_for(word: str) -> str:
            while (line := read()) and not line.startswith(word):  # zentorch writes messages of its own
                pass
            assert line, f"zentorch ended: {command[0]} -c ... {sizes}"
            return line[len(word) :]

        def run() -> float:
            process.stdin.write("\n")
            return float(wait_for("seconds"))

        wait_for("ready")

        yield run
        process.stdin.close()


def make_zentorch(environments: Path) -> Path:
    """Return the interpreter of zentorch's virtual environment, which is made where there is none."""
    python = environments / "zentorch" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environments / "zentorch")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *ZENTORCH], check=True)
    return python


@contextmanager
def open_models(models: Path | None, cell: Cell) -> Iterator[Path]:
    """Yield the folder of a cell's written models: a temporary one, or one that stays and is taken again."""
    if models is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    else:
        where = models / cell.name.split()[0].replace("/", "")
        where.mkdir(parents=True, exist_ok=True)
        yield where


def take_export(folder: ModelFolder, where: Path) -> ExportedFolder:
    """Return the model's export to ONNX, written unless it is there."""
    if not (where / "onnx").exists():
        export_model(folder, where / "onnx", "onnx", GraphOptions())
    return load_export(where / "onnx")


def take_int8(folder: ModelFolder, where: Path) -> tuple[ModelFolder, dict[str, ExportedFolder]]:
    """Return the model in int8 for torch, and for others by their names, written unless they are there."""
    sample = torch.randint(256, (CALIBRATION, *folder.model.image, 3), dtype=torch.uint8).numpy()
    exported = take_export(folder, where)
    made = {
        "torch": lambda path: TorchInt8(folder, sample),
        "openvino": lambda path: OpenVinoInt8(exported, sample),
        "onnxruntime int8": lambda path: OnnxInt8(exported, sample, path),
        "onnxruntime int8, dynamic": lambda path: OnnxInt8(exported, sample, path, dynamic=True),
    }
    for said, make in made.items():
        path = where / said
        if not (path / "config.json").exists():
            path.mkdir(exist_ok=True)
            small = make(path)
            small.write(path, ())
            small.finish(path, {})
    return load_model(where / "torch"), {said: load_export(where / said) for said in list(made)[1:]}


def race_inference(
    cell: Cell, rounds: int, clock: Clock, models: Path | None, zentorch: Path | None
) -> dict[str, list[float]]:
    """Return each contender's seconds a batch."""
    folder = folder_of(cell.model)
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image)
    precisions = ["fp32", *["bf16"] * has_fast_bf16(CPU)]
    with open_models(models, cell) as where, ExitStack() as stack:
        exported = take_export(folder, where)
        if not rounds:
            return {}
        runs = inference_runs(cell, folder, exported, CPU)
        runs["transformers fp32"] = run_transformers(
            folder, images, Path(stack.enter_context(tempfile.TemporaryDirectory()))
        )
        for precision in precisions:
            for hint in ("LATENCY", "THROUGHPUT"):
                said = f"openvino {precision}, {hint.lower()}"
                runs[said] = run_openvino(exported.file, images.numpy(), hint, precision, clock)
            if zentorch is not None:
                runs[f"zentorch {precision}"] = stack.enter_context(open_zentorch(zentorch, cell, precision))
        return interleaved(runs, rounds, lambda: None, clock)


def race_int8(cell: Cell, rounds: int, clock: Clock, models: Path | None) -> dict[str, list[float]]:
    """Return each contender's seconds a batch in int8, and timm's in float32."""
    pixels = torch.randint(256, (cell.batch, *cell.model.image, cell.model.channels), dtype=torch.uint8).numpy()
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image)
    with open_models(models, cell) as where:
        small, written = take_int8(folder_of(cell.model), where)
        if not rounds:
            return {}
        runs: dict[str, Callable[[], Any]] = {BASELINE: forward(timm_model(cell.model).eval(), images)}
        runs["vitreous int8"] = partial(open_engine(small, CPU, "int8").logits, pixels)
        for hint in ("LATENCY", "THROUGHPUT"):
            for rest in ("fp32", *["bf16"] * has_fast_bf16(CPU)):
                runs[f"openvino int8 and {rest}, {hint.lower()}"] = run_openvino(
                    written["openvino"].file, images.numpy(), hint, rest, clock
                )
        for said in ("onnxruntime int8", "onnxruntime int8, dynamic"):
            runs[said] = partial(choose_engine(written[said], "onnxruntime").logits, pixels)
        return interleaved(runs, rounds, lambda: None, clock)


def measure_limits(clock: Clock) -> dict[str, float]:
    """Return the operations a second of the fastest product by precision."""
    dtypes = {name: dtype for name, dtype in PRECISIONS.items() if name == "fp32" or has_fast_bf16(CPU)}
    found = {name: measure_products(dtype, clock=clock) for name, dtype in dtypes.items()}
    return found | {"int8": measure_int8(clock=clock)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("inference", "int8", "training")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--cells", nargs="+", default=[""], help="names of cells, or how some begin: all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="CPU time of one thread (OMP_NUM_THREADS=1)")
    parser.add_argument("--models", type=Path, help="where exported and quantised models are kept")
    parser.add_argument("--environments", type=Path, help="where zentorch's virtual environment is, or is made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not given.rounds and (given.models is None or "training" in given.parts):
        parser.error("--rounds 0 writes models: give --models, and --parts inference int8")
    clock = time.process_time if given.cpu_time else time.perf_counter
    if given.cpu_time and (given.environments or torch.get_num_threads() > 1):
        parser.error("--cpu-time takes OMP_NUM_THREADS=1, and no --environments: zentorch has a process of its own")
    machine = f"{read_cpu_model()}, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, openvino {openvino.__version__.split('-')[0]}, {machine}", flush=True)
    zentorch = make_zentorch(given.environments) if given.environments else None
    if zentorch is None:
        print("zentorch is left out: --environments says where its virtual environment goes")
    shared = {"rounds": given.rounds, "clock": clock, "models": given.models}
    races = {
        "inference": (INFERENCE, partial(race_inference, **shared, zentorch=zentorch)),
        "int8": (INFERENCE, partial(race_int8, **shared)),
        "training": (TRAINING, lambda cell: interleaved(training_runs(cell, CPU), given.rounds, lambda: None, clock)),
    }
    found = []
    for part in given.parts:
        cells, race = races[part]
        begins = tuple(set(given.cells) - {one.name for one in cells})
        for cell in (one for one in cells if one.name in given.cells or one.name.startswith(begins)):
            limits = measure_limits(clock) if given.rounds else {}
            times = race(cell)
            if not times:
                continue
            limits = {name: max(limits[name], again) for name, again in measure_limits(clock).items()}
            found.append(show(part, cell, times, limits))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "cells": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
