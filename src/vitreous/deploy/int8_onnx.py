"""int8 for ONNX Runtime: weights and inputs of dense layers and convolutions; everything else stays in float.

Weights are signed, with one scale per output channel, in 7 bits: processors without VNNI overflow with 8. Inputs are unsigned,
with one scale per tensor; their range comes from calibration images or (`dynamic`) from each batch. Outputs stay in float32, and so do residual
sums, norms, softmax and the products of attention.
"""

import ast
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.engines.exported_folder import CONFIG, ExportedFolder, StoredFile
from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import normalize_array
from vitreous.settings import to_dict, to_json
from vitreous.storage.atomic import write_atomically
from vitreous.storage.limits import read_json

DENSE = ("MatMul", "Gemm")
QUANTISED = (*DENSE, "Conv")
"""Operators of ONNX whose weights and inputs become int8. ONNX Runtime's convolution with ranges from each batch is
slower than float32, so convolutions become int8 only with calibration."""
BATCH = 16
"""Calibration images in one pass."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which the exporter records the torch modules of a node."""
HEAD = "head"


class OnnxInt8:
    """An exported model in int8, some of whose layers can be restored to float32.

    Args:
        folder: the export to ONNX, in float32, of normalised images.
        pixels: calibration images as the model sees them.
        work: a folder for temporary files.
        dynamic: take ranges from each batch.

    Raises:
        ConfigError: dynamic ranges for a model whose only dense layer is its head.
    """

    engine = "onnxruntime"

    def __init__(self, folder: ExportedFolder, pixels: np.ndarray, work: Path, *, dynamic: bool = False) -> None:
        import onnx

        self.folder, self.pixels, self.dynamic = folder, pixels, dynamic
        self.written = folder
        self.original = onnx.load(folder.file)
        self.layers = name_layers(self.original, DENSE if dynamic else QUANTISED)
        """Torch's name of each layer that is quantised, by the name of its node."""
        if dynamic and not set(self.layers.values()) - {HEAD}:
            raise ConfigError(
                "dynamic ranges are for dense layers, but this model's only one is its head; leave out --dynamic"
            )
        self.work = work / "int8.onnx"
        self._quantise(())
        self.whole = onnx.load(self.work)

    def _quantise(self, kept: Sequence[str]) -> None:
        nodes = [name for name in self.layers if name not in kept]
        if self.dynamic:
            quantise_dynamic(self.folder.file, nodes, self.work)
        else:
            quantise_calibrated(self.folder, self.pixels, nodes, self.work)

    def restore(self, kept: Sequence[str]) -> Any:
        """Return the model with these layers, named by their nodes, restored to float32."""
        import onnx

        if self.dynamic:  # operators have other names: only the weights are rounded again
            self._quantise(kept)
            return onnx.load(self.work)
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
                weight.name = f"{name}.float32"  # the original name may be in use by its int8 weight
                held.add(name)
            del node.input[:]
            node.input.extend(f"{name}.float32" if name in weights else name for name in inputs)
        drop_unused(model)
        return model

    def rank_layers(self) -> list[str]:
        """Return the nodes of layers, the most harmful first: those that bring the outputs closest to the model's when
        they are in float32."""
        inputs = normalize_array(self.pixels[: 4 * BATCH], self.folder.preprocess)
        wanted = run(self.original, inputs)
        return rank_by_distance(self.layers, wanted, lambda name: run(self.restore([name]), inputs))

    def write(self, path: Path, kept: Sequence[str]) -> ExportedFolder:
        """Write an export with these layers in float32 into an existing folder."""
        import onnx

        model = self.restore(kept) if kept else self.whole
        graph = replace(self.folder.graph, precision="int8")
        onnx.helper.set_model_props(model, read_facts(model) | {"vitreous.graph": json.dumps(to_dict(graph))})
        onnx.save(model, path / "model.onnx")
        self.written = replace(self.folder, path=path, files=(StoredFile.find(path, "model.onnx"),), graph=graph)
        return self.written

    def finish(self, path: Path, found: dict[str, Any]) -> None:
        """Write the folder's config.json, including the measurements."""
        write_config(self.written, self.folder.path, path, found)


def write_config(written: ExportedFolder, source: Path, path: Path, found: dict[str, Any]) -> None:
    """Write config.json into a folder: the float32 export's, with what differs and the measurements."""
    document = read_json(source / CONFIG)
    document |= {"target": written.target, "files": [to_dict(one) for one in written.files]}
    document |= {"graph": to_dict(written.graph), "quantised": found}
    write_atomically(path / CONFIG, to_json(document))


def read_facts(model: Any) -> dict[str, str]:
    """Return the model's description in the file itself."""
    return {one.key: one.value for one in model.metadata_props}


def name_layers(model: Any, kinds: Sequence[str] = QUANTISED) -> dict[str, str]:
    """Return torch's names of the layers with constant weights, by their nodes' names."""
    constants = {one.name for one in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in kinds and node.input[1] in constants:
            scopes = {one.key: one.value for one in node.metadata_props}.get(SCOPES, "[]")
            names = [name for name in ast.literal_eval(scopes) if "." in name]
            found[node.name] = names[-1].removeprefix("model.").removeprefix("model.") if names else node.name
    return found


def iterate_batches(pixels: np.ndarray, preprocess: PreprocessConfig) -> Iterator[np.ndarray]:
    """Yield calibration images a batch at a time, normalised."""
    for at in range(0, len(pixels), BATCH):
        yield normalize_array(pixels[at : at + BATCH], preprocess)


def rank_by_distance(layers: Iterable[str], wanted: np.ndarray, run_without: Callable[[str], np.ndarray]) -> list[str]:
    """Return the layers, the most harmful first: the one without whose rounding the outputs come closest to the wanted
    ones."""
    away = {name: float(np.square(run_without(name) - wanted).mean()) for name in layers}
    return sorted(away, key=lambda name: away[name])


def quantise_calibrated(folder: ExportedFolder, pixels: np.ndarray, nodes: list[str], path: Path) -> None:
    """Write the model with these nodes in int8; the ranges of their inputs come from the images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = (
                {"pixels": batch} for batch in iterate_batches(pixels, folder.preprocess)
            )

        def get_next(self) -> Any:
            return next(self.batches, None)

    with silence_logging():  # it recommends a preparation that the exporter has already done
        quantize_static(
            str(folder.file), str(path), Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True, reduce_range=True, op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=nodes,
            extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": list(QUANTISED)},
        )  # fmt: skip


def quantise_dynamic(file: Path, nodes: list[str], path: Path) -> None:
    """Write the model with these nodes in int8; the ranges of their inputs are found batch by batch as it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = [*nodes, *(f"{name}_MatMul" for name in nodes)]  # the name of a Gemm once it is two operators
    with silence_logging():
        quantize_dynamic(
            str(file), str(path), op_types_to_quantize=list(DENSE), per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, nodes_to_quantize=nodes, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


@contextmanager
def silence_logging() -> Iterator[None]:
    """Silence what ONNX Runtime's tools log through Python."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def drop_unused(model: Any) -> None:
    """Leave out nodes and constants that are no longer used."""
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
