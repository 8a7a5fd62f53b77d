"""Writers of the formats: they write a graph to files in a folder."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vitreous.deploy.graph import OPSET, Graph
from vitreous.engines.exported_folder import Target
from vitreous.errors import ConfigError
from vitreous.runtime.packages import require_packages
from vitreous.runtime.silence import silence

NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
    "aotinductor": (),
}
"""Packages that writing and running a target needs."""
LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
"""Loggers for exporters' internals."""
LARGEST_FILE = 1_900_000_000
"""Bytes of weights in the ONNX file itself, at most: protobuf is limited to 2 GiB."""


def check_installed(target: Target) -> None:
    """Raise ConfigError if a package or a compiler that a target needs isn't installed."""
    require_packages(NEEDED[target], f"exporting to {target}", "export")
    compiler = os.environ.get("CXX", "g++")
    if target == "aotinductor" and not which(compiler):
        raise ConfigError(
            f"exporting to aotinductor needs a C++ compiler, but there is no {compiler}: install g++, or set CXX to another one"
        )


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Trace a graph for any batch size and, if configured, for images of any size.

    Raises:
        ConfigError: a part of the model can't be traced like this; the message names it.
    """
    example = graph.example()
    open_axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if graph.config.dynamic_image:
        first = 1 if graph.config.inputs == "pixels" else 2
        open_axes |= {first: torch.export.Dim.AUTO, first + 1: torch.export.Dim.AUTO}
    try:
        with torch.no_grad(), silence(LOGGERS):
            return torch.export.export(graph, (example,), dynamic_shapes=(open_axes,))
    except Exception as error:
        raise ConfigError(f"this model can't be traced: {_shorten(error)}") from error


def write_onnx(
    program: torch.export.ExportedProgram, graph: Graph, folder: Path, facts: Mapping[str, Any]
) -> list[str]:
    """Write model.onnx with its metadata, and its weights in a separate file if they are too large for one."""
    import onnx
    import onnxscript

    facts = {**facts, "versions": {**facts["versions"], "onnx": onnx.__version__, "onnxscript": onnxscript.__version__}}
    with silence(LOGGERS):
        try:
            written = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["pixels"],
                output_names=list(graph.config.outputs),
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:
            raise ConfigError(f"ONNX can't express this model: {_shorten(error)}") from error
        assert written is not None
        written.model.producer_name, written.model.producer_version = "vitreous", str(facts["versions"]["vitreous"])
        for name, value in facts.items():
            written.model.metadata_props[f"vitreous.{name}"] = value if isinstance(value, str) else json.dumps(value)
        size = sum(one.numel() * one.element_size() for one in graph.state_dict().values())
        written.save(folder / "model.onnx", external_data=size > LARGEST_FILE)
    return sorted((path.name for path in folder.iterdir()), key=len)


def write_openvino(
    program: torch.export.ExportedProgram, graph: Graph, folder: Path, facts: Mapping[str, Any]
) -> list[str]:
    """Write OpenVINO's IR, model.xml and model.bin, with weights in float32 or float16 and with its metadata, by way of ONNX.

    OpenVINO's own converter of torch programs reports each conversion to its developers unless the user has opted out.
    """
    import openvino

    with TemporaryDirectory() as between:
        write_onnx(program, graph, Path(between), facts)
        model = openvino.Core().read_model(Path(between) / "model.onnx")
        for name, value in facts.items():
            model.set_rt_info(value if isinstance(value, str) else json.dumps(value), ["vitreous", name])
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=graph.config.precision == "fp16")
    return ["model.xml", "model.bin"]


def write_program(
    program: torch.export.ExportedProgram, graph: Graph, folder: Path, facts: Mapping[str, Any]
) -> list[str]:
    """Write model.pt2, torch.export's own format, with vitreous.json inside."""
    with silence(LOGGERS):
        torch.export.save(program, folder / "model.pt2", extra_files={"vitreous.json": json.dumps(facts)})
    return ["model.pt2"]


def write_package(
    program: torch.export.ExportedProgram, graph: Graph, folder: Path, facts: Mapping[str, Any]
) -> list[str]:
    """Write model.pt2, compiled by AOTInductor for this processor, with its metadata; raises ConfigError if that
    fails."""
    options = {"aot_inductor.metadata": {"vitreous": json.dumps(facts)}}
    path = folder / "model.pt2"
    try:
        with silence(LOGGERS):
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:
        raise ConfigError(f"AOTInductor can't compile this model: {_shorten(error)}") from error
    return [path.name]


WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Graph, Path, Mapping[str, Any]], list[str]]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torch": write_program,
    "aotinductor": write_package,
}
"""The writer for each target; it returns the names of its files, first the one to open."""


def _shorten(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
