"""How fast a model trains, predicts and starts, beside timm doing the same.

    python benchmarks/speed.py [--quick] [--parts inference training startup]

inference  pixels in, logits out: timm's model, eager, with the products that vitreous has torch take in this process (oneDNN's on
           AMD); vitreous' torch engine on its fast path; and the same model exported to ONNX,
           in ONNX Runtime and in OpenVINO (of a batch each thread takes images of its own). bfloat16 where the hardware
           multiplies it. Baseline: timm, eager, float32.
training   forward, backward and optimizer step on one batch in memory: `train_step` as runs use it (its gradient check,
           schedule and bookkeeping included), and a plain loop around timm with AdamW: in float32 with MKL's products
           (the baseline) and with oneDNN's, under autocast in bfloat16, and that compiled where there is a compiler. All
           with the allocator's settings that vitreous makes.
startup    fresh processes, files in the page cache: `import vitreous`, each command's --help, and from the start to
           the first class of ViT-B/16, from a model folder and from an export, beside scripts that print the same: timm and
           Pillow, torch that reads the weights and no more, ONNX Runtime and Pillow.

Interleaved; each ratio is the median over the rounds of peer time / own time, so above 1 vitreous is faster. A GPU is
used where there is one.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from limits import measure_products
from photographs import COMPILED
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm_peer import timm_model
from torch import Tensor, nn

from vitreous.cli.main import COMMANDS
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.data.stream.loader import Batch
from vitreous.deploy.export import export_model
from vitreous.deploy.graph import GraphOptions
from vitreous.engines import joined_blocks
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.selection import choose_engine
from vitreous.engines.torch_engine import TorchEngine
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.count import count_flops
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.runtime.device import choose_device, has_fast_bf16, tune_cpu
from vitreous.runtime.processor import read_cpu_model
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from vitreous.training.loop import train_step
from vitreous.training.reporter import Silent
from vitreous.weights.model_folder import ModelFolder, save_model

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BRIEF = 0.1
"""Seconds of a turn in which short passes are repeated."""


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    name: str
    model: ViTConfig
    batch: int


INFERENCE = (
    Cell("B/16 batch 1", build_vit_config("B/16"), 1),
    Cell("B/16 batch 16", build_vit_config("B/16"), 16),
    Cell("Ti/16 batch 1", build_vit_config("Ti/16"), 1),
    Cell("Ti/16 batch 32", build_vit_config("Ti/16"), 32),
)
TRAINING = (
    Cell("S/16 batch 32", build_vit_config("S/16"), 32),
    Cell("width 192, depth 12, patch 4 at 32 px, batch 128", build_vit_config("Ti/4", image=(32, 32), classes=10), 128),
)


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    wait: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return each run's times, one of each in turn, after one round to warm up; a run may say its own time.

    In place of a short pass, whose beginning other contenders' threads still disturb, the median of those in the next `BRIEF` seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}

    def measure(run: Callable[[], Any]) -> float:
        started = clock()
        took = run()
        wait()
        return clock() - started if not isinstance(took, float) else took

    for turn in range(rounds + 1):
        for name, run in runs.items():
            ends = time.perf_counter() + BRIEF
            took, passes = measure(run), []
            while time.perf_counter() < ends:
                passes.append(measure(run))
            if turn:
                times[name].append(statistics.median(passes or [took]))
    return times


def show(
    title: str, times: dict[str, list[float]], batch: int, baseline: str, limits: Mapping[str, float] | None = None
) -> None:
    """Print ratios and images a second, and shares of the limits, which are images a second by precision."""
    print(title)
    base = times[baseline]
    for name, own in times.items():
        ratio = statistics.median(other / mine for other, mine in zip(base, own, strict=True))
        rate = batch / statistics.median(own)
        share = f"  {rate / limits[name.split()[1]]:4.0%} of the limit" if limits else ""
        print(f"  {ratio:6.2f}  {name:22} {rate:8.1f} img/s{share}", flush=True)


def inference(device: torch.device, rounds: int, wait: Callable[[], None], clock: Callable[[], float]) -> None:
    for cell in INFERENCE:
        folder = folder_of(cell.model)
        with tempfile.TemporaryDirectory() as name:
            cpu = device.type == "cpu"
            exported = export_model(folder, Path(name) / "onnx", "onnx", GraphOptions())[0] if cpu else None
            runs = inference_runs(cell, folder, exported, device)
            limits = measure_limits(cell.model, device)
            times = interleaved(runs, rounds, wait, clock)
            limits = {name: max(limits[name], again) for name, again in measure_limits(cell.model, device).items()}
            show(f"inference, {cell.name}", times, cell.batch, "timm fp32", limits)


def measure_limits(model: ViTConfig, device: torch.device) -> dict[str, float]:
    """Return the images a second of a model's operations at the speed of the fastest product, by precision; of a CPU alone."""
    if device.type != "cpu":
        return {}
    flops = count_flops(model)
    return {name: measure_products(dtype) / flops for name, dtype in PRECISIONS.items()}


def inference_runs(
    cell: Cell, folder: ModelFolder, exported: ExportedFolder | None, device: torch.device
) -> dict[str, Callable[[], Any]]:
    """Return a pass of each contender by its name; the export's runtimes where there is one."""
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image, device=device)
    pixels = torch.randint(256, (cell.batch, *cell.model.image, cell.model.channels), dtype=torch.uint8).numpy()
    runs: dict[str, Callable[[], Any]] = {}
    for precision, dtype in PRECISIONS.items():
        if precision == "fp32" or has_fast_bf16(device):
            runs[f"timm {precision}"] = forward(timm_model(cell.model).eval().to(device, dtype), images.to(dtype))
            runs[f"vitreous {precision}"] = partial(open_engine(folder, device, precision).logits, pixels)
    for name in () if exported is None else ("onnxruntime", "openvino"):
        runs[f"{name} fp32"] = partial(choose_engine(exported, name).logits, pixels)
    if exported is not None and has_fast_bf16(device):
        runs["openvino bf16"] = partial(choose_engine(exported, "openvino", precision="bf16").logits, pixels)
    return runs


def open_engine(folder: ModelFolder, device: torch.device, precision: str) -> TorchEngine:
    """Return a model's engine as it is after many images, sealed, since the peers' compiled models can't be changed either."""
    joined_blocks.WORTH = 0
    engine = TorchEngine(folder, str(device), precision)
    engine.waiting = engine.waiting and 0
    engine.seal()
    return engine


def folder_of(config: ViTConfig) -> ModelFolder:
    """Return a model of random weights whose logits aren't all zero, with names for its classes."""
    model = create(config)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    classes = tuple(f"class {number}" for number in range(config.classes))
    return ModelFolder(model, PreprocessConfig(config.image), DecodeConfig(), classes, {})


def forward(model: nn.Module, images: Tensor) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        model(images)

    return run


def training(device: torch.device, rounds: int, wait: Callable[[], None], clock: Callable[[], float]) -> None:
    for cell in TRAINING:
        show(
            f"training step, {cell.name}",
            interleaved(training_runs(cell, device), rounds, wait, clock),
            cell.batch,
            "timm fp32",
        )


def training_runs(cell: Cell, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Return a step of each contender by its name. The allocator's settings are the process's: all have vitreous' own."""
    if device.type == "cpu":
        tune_cpu()
    own = torch.get_float32_matmul_precision()
    runs = {"timm fp32": with_products("highest", timm_step(cell, "fp32", device))}
    if device.type == "cpu":
        runs["timm fp32, oneDNN"] = with_products("medium", timm_step(cell, "fp32", device))
    runs["vitreous fp32"] = with_products(own, own_step(cell, "fp32", device))
    if has_fast_bf16(device):
        runs["timm bf16"] = with_products("highest", timm_step(cell, "bf16", device))
        if shutil.which("g++"):
            runs["timm bf16, compiled"] = with_products("highest", timm_step(cell, "bf16", device, compiled=True))
        runs["vitreous bf16"] = with_products(own, own_step(cell, "bf16", device))
    return runs


def with_products(precision: str, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return the run with torch's precision of float32 products set before it: on a CPU, "highest" is MKL, "medium" oneDNN."""

    def set_and_run() -> Any:
        torch.set_float32_matmul_precision(precision)
        return run()

    return set_and_run


def timm_step(cell: Cell, precision: str, device: torch.device, *, compiled: bool = False) -> Callable[[], None]:
    model = timm_model(cell.model).to(device)
    model = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    images = torch.randn(cell.batch, cell.model.channels, *cell.model.image, device=device)
    labels = torch.randint(cell.model.classes, (cell.batch,), device=device)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def own_step(cell: Cell, precision: str, device: torch.device, *, compiled: bool = False) -> Callable[[], None]:
    config = RunConfig(
        model=cell.model,
        preprocess=PreprocessConfig(size=cell.model.image),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05, decoupled=False, clip=0.0),
        schedule=ScheduleConfig(kind="constant", warmup="0st"),
        precision="bf16" if precision == "bf16" else "fp32",
        device="cuda" if device.type == "cuda" else "cpu",
        duration="1000000st",
        compile=compiled,
    )
    job = build_job(config, open_digits(DataConfig()), Silent())  # the data is not looked at
    labels = torch.randint(cell.model.classes, (cell.batch,))
    pixels = torch.randint(256, (cell.batch, cell.model.channels, *cell.model.image), dtype=torch.uint8)
    values = (pixels, labels, labels, torch.ones(cell.batch), torch.arange(cell.batch))
    batch = Batch(*(value.pin_memory() if device.type == "cuda" else value for value in values))  # as the loader's

    def run() -> None:
        train_step(job, batch)
        job.progress.step += 1

    return run


TIMM_SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from timm_peer import timm_model
from vitreous.model.names import build_vit_config
from PIL import Image
from safetensors.torch import load_file
model = timm_model(build_vit_config("B/16")).eval()
import timm.data
model.load_state_dict(load_file(sys.argv[2]))
transform = timm.data.create_transform(224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_pct=0.875)
with torch.inference_mode():
    print(int(model(transform(Image.open(sys.argv[3]).convert("RGB"))[None]).argmax()))
"""

ONNX_SCRIPT = """
import sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
image = Image.open(sys.argv[2]).convert("RGB").resize((224, 224))
pixels = (numpy.asarray(image, numpy.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
print(session.run(None, {session.get_inputs()[0].name: pixels})[0].argmax())
"""


def startup(rounds: int) -> None:
    """Measure fresh processes."""
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), folder_of(build_vit_config("B/16"))
        save_model(folder / "model", model)
        export_model(model, folder / "onnx", "onnx", GraphOptions())
        save_file(timm_model(build_vit_config("B/16")).state_dict(), folder / "timm.safetensors")
        Image.fromarray(load_sample_images().images[0]).save(folder / "photo.jpg", quality=90)
        (folder / "peer.py").write_text(TIMM_SCRIPT)
        (folder / "onnx.py").write_text(ONNX_SCRIPT)
        read = "import sys, torch; from safetensors.torch import load_file; print(len(load_file(sys.argv[1])))"
        bare = [sys.executable, str(folder / "onnx.py"), str(folder / "onnx" / "model.onnx")]
        own, photo = [str(Path(sys.executable).with_name("vitreous"))], str(folder / "photo.jpg")
        peer = [sys.executable, str(folder / "peer.py"), str(Path(__file__).parent), str(folder / "timm.safetensors")]
        commands = {
            "python alone": [sys.executable, "-c", "pass"],
            "import torch": [sys.executable, "-c", "import torch"],
            "import vitreous": [sys.executable, "-c", "import vitreous"],
            **{f"vitreous {command} --help": [*own, command, "--help"] for command in COMMANDS},
            "first class of B/16": [*own, "predict", str(folder / "model"), photo],
            "torch reads its weights": [sys.executable, "-c", read, str(folder / "model" / "model.safetensors")],
            "first class of B/16, timm": [*peer, photo],
            "first class of B/16, exported": [*own, "predict", str(folder / "onnx"), photo],
            "first class of B/16, ONNX Runtime": [*bare, photo],
        }
        runs = {title: lambda command=command: first_line(command) for title, command in commands.items()}
        print("startup, seconds to the first line printed, or to the end (median)")
        for title, times in interleaved(runs, rounds, lambda: None).items():
            print(f"  {statistics.median(times):6.2f}  {title}", flush=True)


def first_line(command: list[str]) -> float:
    """Return the seconds until a process prints its first line, or ends without one."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=COMPILED) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - started
        process.stdout.read()
    assert process.returncode == 0, command
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["inference", "training", "startup"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--cpu-time", action="store_true", help="all but startup by CPU time, with OMP_NUM_THREADS=1: for busy machines"
    )
    options = parser.parse_args()
    device = choose_device()
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {read_cpu_model()}, {machine}; ratios to timm in float32", flush=True)
    if "startup" in options.parts:
        startup(1 if options.quick else 5)
    clock = time.process_time if options.cpu_time else time.perf_counter
    if "inference" in options.parts:
        inference(device, 2 if options.quick else 9, wait, clock)
    if "training" in options.parts:
        training(device, 1 if options.quick else 7, wait, clock)


if __name__ == "__main__":
    main()
