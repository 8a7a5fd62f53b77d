"""The choice of a model's engine. Imports torch only if torch computes."""

from typing import TYPE_CHECKING

import numpy as np

from vitreous.engines.base import ENGINES, CountingEngine, Engine, list_precisions
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.measured_engine import MeasuredEngine
from vitreous.errors import ConfigError, UnknownName
from vitreous.runtime.packages import is_installed
from vitreous.shapes import Pixels

if TYPE_CHECKING:
    from vitreous.weights.model_folder import ModelFolder

SETTLED = 16
"""Number of images after which engines no longer change how they compute, except those that count batches."""
READERS = {
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "aotinductor": ("torch",),
}
"""Engines that run exports to each target; auto begins with the first."""


def choose_engine(
    folder: "ModelFolder | ExportedFolder",
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    *,
    compile: bool = False,
) -> Engine:
    """Return a model's engine; auto: torch for a model folder; for an export the fastest of the installed engines that
    read it, once there is enough work to measure them.

    Raises:
        UnknownName: no such engine. ConfigError: it isn't installed, doesn't run this model, or lacks the device or
        precision.
        CheckpointError: the engine can't, or must not, open the file.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if not isinstance(folder, ExportedFolder):
        if engine not in ("auto", "torch"):
            to = "openvino" if engine == "openvino" else "onnx"
            raise ConfigError(
                f"{engine} runs exported models; write one: vitreous export MODEL --to {to} --out FOLDER, then give FOLDER"
            )
        from vitreous.engines.torch_engine import TorchEngine

        return TorchEngine(folder, device, precision, compile=compile)
    if compile:
        raise ConfigError(f"{folder.path} is an exported model, whose graph is fixed; leave out compile")
    names = _choose_readers(folder, engine, precision)
    if len(names) > 1:
        return MeasuredEngine(folder, names, precision, lambda name: _build(folder, name, device, precision))
    return _build(folder, names[0], device, precision)


def _choose_readers(folder: ExportedFolder, engine: str, precision: str) -> tuple[str, ...]:
    """Return the engines that may compute an export; the first is the one to begin with."""
    readers = READERS[folder.target]
    if engine not in ("auto", *readers):
        raise ConfigError(
            f"{folder.path} is an export to {folder.target}, which {engine} doesn't run; choose --engine {' or '.join(readers)}"
        )
    named = readers if engine == "auto" else (engine,)
    installed = [name for name in named if is_installed(name)]
    if not installed:
        raise ConfigError(f"{folder.path} needs {named[0]}, which is not installed: pip install 'vitreous[export]'")
    able = [name for name in installed if precision in ("auto", *list_precisions(name, folder.graph.precision))]
    return tuple(able or installed[:1])  # its own error says what is missing


def _build(folder: ExportedFolder, engine: str, device: str, precision: str) -> Engine:
    if engine == "onnxruntime":
        from vitreous.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, device, precision)
    if engine == "torch":
        from vitreous.engines.program_engine import ProgramEngine

        return ProgramEngine(folder, device, precision)
    from vitreous.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(folder, device, precision)


def settle(engine: Engine, pixels: Pixels[np.ndarray, "batch row col channel"], batches: int) -> None:
    """Warm up an engine that adapts as it runs, so that it behaves as if it had already processed this many batches."""
    passes = min(batches, -(-SETTLED // len(pixels)))
    for _ in range(passes):
        engine.probabilities(pixels)
    if isinstance(engine, CountingEngine):
        engine.count(pixels, batches - passes)
