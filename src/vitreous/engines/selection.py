"""Which engine computes a model. Imports torch only where torch computes."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from vitreous.engines.base import ENGINES, Engine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from vitreous.weights.model_folder import ModelFolder

READERS = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",)}
"""Engines that run what was exported to a target, the first the one that auto prefers."""


def choose_engine(
    folder: "ModelFolder | ExportedFolder", engine: str = "auto", device: str = "auto", precision: str = "fp32"
) -> Engine:
    """Return a model's engine; auto: torch for a model folder, for an export the first that is installed and reads it.

    Raises:
        UnknownName: no such engine. ConfigError: it isn't installed, doesn't run this model, or lacks the device or precision.
        CheckpointError: a file that the engine can't or must not open.
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

        return TorchEngine(folder, device, precision)
    return _build(folder, _choose_reader(folder, engine), device, precision)


def _choose_reader(folder: ExportedFolder, engine: str) -> str:
    if folder.target == "torch":
        raise ConfigError(
            f"{folder.path} is a torch.export program, a kind of file that can run code when it is opened, so vitreous opens none; "
            f"use {folder.source}, and in programs of your own torch.export.load"
        )
    readers = READERS[folder.target]
    if engine not in ("auto", *readers):
        raise ConfigError(
            f"{folder.path} is an export to {folder.target}, which {engine} doesn't run; choose --engine {' or '.join(readers)}"
        )
    if engine == "auto":
        engine = next((name for name in readers if find_spec(name)), readers[0])
    if not find_spec(engine):
        raise ConfigError(f"{folder.path} needs {engine}, which is not installed: pip install 'vitreous[export]'")
    return engine


def _build(folder: ExportedFolder, engine: str, device: str, precision: str) -> Engine:
    if engine == "onnxruntime":
        from vitreous.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, device, precision)
    from vitreous.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(folder, device, precision)
