"""Write a model for another runtime, and run it there immediately."""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vitreous.deploy.graph import Graph, GraphOptions, check_exportable, plan_graph
from vitreous.deploy.proof import Proof, gather_pixels, prove
from vitreous.deploy.targets import WRITERS, check_installed, trace
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import CONFIG, EXPORT_FORMAT, TARGETS, ExportedFolder, StoredFile, Target
from vitreous.engines.program_engine import note_own
from vitreous.engines.selection import READERS, choose_engine
from vitreous.engines.torch_engine import TorchEngine
from vitreous.errors import ConfigError, UnknownName
from vitreous.images.inputs import Image
from vitreous.model.count import count_flops, count_parameters
from vitreous.model.kinds import get_kind
from vitreous.settings import to_dict, to_json
from vitreous.storage.atomic import atomic_folder, check_new_folder, write_atomically
from vitreous.storage.presence import is_utf8
from vitreous.storage.versions import read_versions
from vitreous.weights.compatibility import describe
from vitreous.weights.exported import KEY
from vitreous.weights.model_folder import ModelFolder


def export_model(
    folder: ModelFolder,
    path: Path,
    target: Target,
    options: GraphOptions,
    images: Sequence[Image] | None = None,
    source: str = "",
) -> tuple[ExportedFolder, Proof]:
    """Write a model to a new folder for another runtime, open it there, and run both on real images.

    Args:
        folder: the model.
        path: the folder to write, new or empty.
        target: onnx, openvino, torch or aotinductor.
        options: the graph's inputs and outputs.
        images: images to run both on; None: crops of two photographs.
        source: where the model was loaded from.

    Raises:
        ConfigError: a missing package, or a model that the target can't express.
        CheckpointError: a folder that is not empty, or outputs that differ by more than is allowed; nothing is written then.
    """
    check_target(path, target, options.precision)
    config = plan_graph(folder, options, target)
    pixels, which = gather_pixels(folder, images)
    graph = Graph(folder, config, target)
    program = trace(graph)
    facts = describe_export(folder, source)
    with atomic_folder(path) as partial:
        names = WRITERS[target](program, graph, partial, {**facts, "graph": to_dict(config)})
        files = tuple(StoredFile.find(partial, name) for name in names)
        written = ExportedFolder(
            partial, target, files, config, folder.preprocess, folder.decode, folder.classes, facts["origin"],
            folder.multilabel, folder.temperature, facts["shape"],
        )  # fmt: skip
        if READERS[target] == ("torch",):
            note_own(written)
        engine = choose_engine(written, READERS[target][0], "cpu")
        assert isinstance(engine, ExportedEngine)
        proof = prove(
            TorchEngine(folder, "cpu", packed=False), engine, pixels, which, f"{engine.name} {version(engine.name)}"
        )
        document = {
            KEY: EXPORT_FORMAT, "target": target, "files": [to_dict(one) for one in files], "graph": to_dict(config),
            **facts, "proof": proof.to_dict(),
        }  # fmt: skip
        write_atomically(partial / CONFIG, to_json(document))
    return replace(written, path=path, proof=proof.to_dict()), proof


def check_target(path: Path, target: Target, precision: str) -> None:
    """Check everything that can be checked without the model.

    Raises:
        UnknownName: no such target. ConfigError: a precision that the target lacks, a missing package, or a path that its
            runtime can't open. CheckpointError: a folder that is not empty.
    """
    if target not in TARGETS:
        raise UnknownName("target of export", target, TARGETS)
    check_exportable(target, precision)
    check_new_folder(path)
    check_text(path, target)
    check_installed(target)


def check_text(path: Path, target: str) -> None:
    """Raise ConfigError for a path that the target's runtime can't open because it isn't UTF-8."""
    if target != "openvino" and not is_utf8(path):
        name = "ONNX Runtime" if target == "onnx" else "torch"
        raise ConfigError(f"{name} only opens files whose path is UTF-8, but {path} isn't; choose another folder")


def describe_export(folder: ModelFolder, source: str) -> dict[str, Any]:
    """Return the description of a model for config.json and for the exported file itself."""
    config = folder.model.config
    shape = {
        "kind": get_kind(config),
        "description": describe(config),
        "parameters": count_parameters(config),
        "flops": count_flops(config, folder.merge),
    }
    calibrated = {} if math.isclose(folder.temperature, 1) else {"temperature": folder.temperature}
    return {
        "classes": list(folder.classes),
        "multilabel": folder.multilabel,
        **calibrated,
        "preprocess": to_dict(folder.preprocess),
        "decode": to_dict(folder.decode),
        "shape": shape,
        "origin": {**folder.origin, **({"exported_from": source} if source else {})},
        "versions": read_versions(),
    }
