"""int8 for OpenVINO, by NNCF: weights and inputs of dense layers and convolutions; everything else stays in float.

Weights take 7 of their 8 bits, as for ONNX Runtime: with 8, OpenVINO's sums overflow silently on processors without VNNI (docs/notebook.md).
Ranges come from calibration images, and biases are corrected for the shift that rounding causes. NNCF's SmoothQuant,
which moves scales from a layer's inputs to its weights, is off: with it 4% of the classes of a ViT trained on CIFAR-10
changed, without it 0.7%.
"""

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.deploy.int8_onnx import BATCH, iterate_batches, name_layers, rank_by_distance, read_facts, write_config
from vitreous.engines.exported_folder import ExportedFolder, StoredFile
from vitreous.images.preprocess import normalize_array
from vitreous.runtime.signal_stack import keep_signal_stack
from vitreous.settings import to_dict

PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")
LAYOUT = ("Pad", "Reshape", "Transpose", "Gather", "Slice", "StridedSlice", "Squeeze", "Unsqueeze")
"""Operators that don't change values: NNCF may round before them."""
FLOAT = ("Add", "Subtract", "Multiply", "Divide", "MVN", "GroupNormalization", "Softmax", "AvgPool", "ReduceMean")
"""Operators of OpenVINO whose inputs NNCF would round too: residual sums, norms, softmax, pooling."""


class OpenVinoInt8:
    """An exported model in int8, some of whose layers can be restored to float32.

    Args:
        folder: the export to ONNX, in float32, of normalised images.
        pixels: calibration images as the model sees them.
    """

    engine = "openvino"

    def __init__(self, folder: ExportedFolder, pixels: np.ndarray) -> None:
        import onnx
        import openvino

        self.folder, self.pixels, self.written = folder, pixels, folder
        model = onnx.load(folder.file)
        self.facts, named = read_facts(model), name_layers(model)
        self.core = openvino.Core()
        with keep_signal_stack():
            self.original = self.core.read_model(folder.file)
        products = [op.get_friendly_name() for op in self.original.get_ops() if op.get_type_name() in PRODUCTS]
        self.layers = {name: named[shorten(name)] for name in products if shorten(name) in named}
        """Torch's name of each layer that is quantised, by the name of its operator."""
        self.rest = [name for name in products if name not in self.layers]
        """Products of attention, which have no weights."""
        self.whole = self._quantise(())

    def _quantise(self, kept: Sequence[str]) -> Any:
        with import_nncf() as nncf, keep_signal_stack():
            batches = list(iterate_batches(self.pixels, self.folder.preprocess))
            unsmoothed = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
            advanced = nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=unsmoothed, overflow_fix=nncf.OverflowFix.ENABLE
            )
            return nncf.quantize(
                self.original,
                nncf.Dataset(batches),
                subset_size=len(batches),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                advanced_parameters=advanced,
                ignored_scope=nncf.IgnoredScope(names=[*self.rest, *kept], types=list(FLOAT), validate=False),
            )

    def rank_layers(self) -> list[str]:
        """Return the operators of layers, the most harmful first: those that bring the outputs closest to the model's
        when their inputs aren't rounded."""
        inputs = normalize_array(self.pixels[: 4 * BATCH], self.folder.preprocess)
        wanted = self._run(self.original, inputs)
        return rank_by_distance(self.layers, wanted, lambda name: self._run(unround_inputs(self.whole, name), inputs))

    @keep_signal_stack()
    def _run(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        compiled = self.core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.array(compiled(inputs)[0])

    def write(self, path: Path, kept: Sequence[str]) -> ExportedFolder:
        """Write an export with these layers in float32 into an existing folder."""
        import openvino

        model = self._quantise(kept) if kept else self.whole
        graph = replace(self.folder.graph, precision="int8", opset=None)
        for name, value in (self.facts | {"vitreous.graph": json.dumps(to_dict(graph))}).items():
            model.set_rt_info(value, name.split(".", 1))
        names = ("model.xml", "model.bin")
        for name in names:
            (path / name).unlink(missing_ok=True)  # an engine may have mapped the previous file
        openvino.save_model(model, path / "model.xml", compress_to_fp16=False)
        files = tuple(StoredFile.find(path, name) for name in names)
        self.written = replace(self.folder, path=path, target="openvino", files=files, graph=graph)
        return self.written

    def finish(self, path: Path, found: dict[str, Any]) -> None:
        """Write the folder's config.json, including the measurements."""
        write_config(self.written, self.folder.path, path, found)


def shorten(name: str) -> str:
    """Return the ONNX node's name with which an operator's name begins: a Gemm's product is NAME/WithoutBiases."""
    return name.split("/", 1)[0]


def unround_inputs(model: Any, name: str) -> Any:
    """Return a quantised model in which one operator takes its inputs unrounded."""
    changed = model.clone()
    (operator,) = (op for op in changed.get_ops() if op.get_friendly_name() == name)
    port = operator.input(0)
    while port.get_source_output().get_node().get_type_name() in LAYOUT:
        port = port.get_source_output().get_node().input(0)
    rounded = port.get_source_output().get_node()
    if rounded.get_type_name() == "FakeQuantize":
        port.replace_source_output(rounded.input_value(0))
    return changed


@contextmanager
def import_nncf() -> Iterator[Any]:
    """Import NNCF within the block, without its output, and without the module that reports each use to its
    developers."""
    name, silent = "openvino_telemetry", logging.getLogger("nncf")
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and NNCF continues without it
    try:
        import nncf
        from nncf.telemetry import decorator
    finally:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
    reporter, level = decorator.telemetry, silent.level
    decorator.telemetry = _Silent()  # if the caller has imported NNCF before
    silent.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield nncf
    finally:
        decorator.telemetry = reporter
        silent.setLevel(level)


class _Silent:
    """Stands in for the class by which NNCF reports its use."""

    def start_session(self, *_: Any, **__: Any) -> None:
        """Report nothing."""

    send_event = end_session = start_session
