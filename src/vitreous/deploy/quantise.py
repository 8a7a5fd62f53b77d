"""int8 for exported ONNX: weights and inputs of dense layers and convolutions, calibrated on images; all else stays in float.

Weights are signed, one scale an output channel, in 7 bits: processors without VNNI overflow with 8. Inputs are unsigned, one scale a
tensor. Outputs stay in float32, and so do residual sums, norms and softmax.
"""

import ast
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.engines.exported_folder import CONFIG, ExportedFolder, StoredFile
from vitreous.errors import ConfigError
from vitreous.images.preprocess import normalize_array
from vitreous.settings import to_dict, to_json
from vitreous.storage.atomic import write_atomically
from vitreous.storage.hashing import file_hash
from vitreous.storage.limits import read_json

QUANTISED = ("MatMul", "Gemm", "Conv")
"""Operators of ONNX whose weights and inputs become int8."""
BATCH = 16
"""Calibration images in one pass."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the exporter notes the torch modules that a node comes from."""


def check_quantisable() -> None:
    """Raise ConfigError where a package that quantising takes isn't installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    if missing:
        raise ConfigError(f"quantising needs {', '.join(missing)}: pip install 'vitreous[export]'")


class Quantised:
    """An exported model in int8, some of whose layers can be put back to float32.

    Args:
        folder: the export, in float32, of normalised images.
        pixels: calibration images as the model sees them.
    """

    def __init__(self, folder: ExportedFolder, pixels: np.ndarray, work: Path) -> None:
        import onnx

        self.folder, self.pixels = folder, pixels
        self.original = onnx.load(folder.file)
        self.layers = name_layers(self.original)
        """Torch's name of each layer that is quantised, by the name of its node."""
        quantise_file(folder, pixels, list(self.layers), work / "int8.onnx")
        self.whole = onnx.load(work / "int8.onnx")

    def with_float(self, kept: Sequence[str]) -> Any:
        """Return the model with these layers, named by their nodes, in float32 as they were."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.whole)
        before = {node.name: node for node in self.original.graph.node}
        weights = {one.name: one for one in self.original.graph.initializer}
        held: set[str] = set()
        for node in model.graph.node:
            if node.name not in kept:
                continue
            inputs = list(before[node.name].input)
            for name in set(inputs) & set(weights) - held:
                weight = model.graph.initializer.add()
                weight.CopyFrom(weights[name])
                weight.name = f"{name}.float32"  # the other name may be that of its int8 again
                held.add(name)
            del node.input[:]
            node.input.extend(f"{name}.float32" if name in weights else name for name in inputs)
        drop_unused(model)
        return model

    def rank_layers(self) -> list[str]:
        """Return the nodes whose layers hurt, the worst first: those that in float32 bring the outputs closest to the model's."""
        inputs = normalize_array(self.pixels[: 4 * BATCH], self.folder.preprocess)
        wanted = run(self.original, inputs)
        away = {name: float(np.square(run(self.with_float([name]), inputs) - wanted).mean()) for name in self.layers}
        return sorted(away, key=lambda name: away[name])

    def write(self, path: Path, kept: Sequence[str]) -> ExportedFolder:
        """Write an exported folder; the folder must be there, and empty."""
        import onnx

        model = self.with_float(kept)
        onnx.save(model, path / "model.onnx")
        file = StoredFile("model.onnx", file_hash(path / "model.onnx"), (path / "model.onnx").stat().st_size)
        graph = replace(self.folder.graph, precision="int8")
        return replace(self.folder, path=path, files=(file,), graph=graph)


def finish(written: ExportedFolder, source: Path, found: dict[str, Any]) -> None:
    """Write config.json: that of the export in float32, with what differs, and what was found."""
    document = read_json(source / CONFIG)
    document |= {"files": [to_dict(one) for one in written.files], "graph": to_dict(written.graph), "quantised": found}
    write_atomically(written.path / CONFIG, to_json(document))


def name_layers(model: Any) -> dict[str, str]:
    """Return torch's names of the layers with constant weights, by their nodes' names."""
    constants = {one.name for one in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in QUANTISED and node.input[1] in constants:
            scopes = {one.key: one.value for one in node.metadata_props}.get(SCOPES, "[]")
            names = [name for name in ast.literal_eval(scopes) if "." in name]
            found[node.name] = names[-1].removeprefix("model.").removeprefix("model.") if names else node.name
    return found


def quantise_file(folder: ExportedFolder, pixels: np.ndarray, nodes: list[str], path: Path) -> None:
    """Write the model with these nodes in int8; the ranges of their inputs are those of the images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = (
                {"pixels": normalize_array(pixels[at : at + BATCH], folder.preprocess)}
                for at in range(0, len(pixels), BATCH)
            )

        def get_next(self) -> Any:
            return next(self.batches, None)

    logging.disable(logging.WARNING)  # it asks for a preparation that the exporter has made
    try:
        quantize_static(
            str(folder.file), str(path), Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True, reduce_range=True, op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=nodes,
            extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": list(QUANTISED)},
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)


def drop_unused(model: Any) -> None:
    """Leave out nodes and constants that nothing reads any more."""
    graph, results = model.graph, {one.name for one in model.graph.output}
    while True:
        read = results.union(*(node.input for node in graph.node))
        idle = [node for node in graph.node if not read.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for one in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(one)


def run(model: Any, inputs: np.ndarray) -> np.ndarray:
    """Return the first output of a model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": inputs})[0]
