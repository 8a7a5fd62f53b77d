"""OpenVINO: exported IR or ONNX on a CPU."""

from typing import Any

import numpy as np

from vitreous.engines.base import check_precision, list_precisions
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import CheckpointError, ConfigError
from vitreous.runtime.signal_stack import keep_signal_stack
from vitreous.runtime.threads import count_threads

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


class OpenVinoEngine(ExportedEngine):
    """An exported model in OpenVINO's CPU plugin.

    A single image is computed by all threads (latency hint); in a batch each thread takes images of its own (throughput
    hint, compiled for the first batch).

    Raises:
        ConfigError: another device, or a precision that the processor doesn't have. CheckpointError: a file that OpenVINO can't
            read.
    """

    name = "openvino"
    device = "cpu"

    @keep_signal_stack()
    def __init__(self, folder: ExportedFolder, device: str = "auto", precision: str = "fp32") -> None:
        super().__init__(folder)
        self.check_device(device)
        check_precision(self.name, precision, list_precisions(self.name, folder.graph.precision))
        import openvino

        self.core, self.threads = openvino.Core(), count_threads()
        native = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision in ("bf16", "fp16") and precision.upper() not in native:
            raise ConfigError(
                f"this processor doesn't multiply {precision}, and openvino doesn't emulate it; choose --precision fp32"
            )
        wide = "bf16" if precision == "auto" and "BF16" in native else precision
        wide = "fp32" if wide == "auto" else wide
        self.precision = "int8" if folder.graph.precision == "int8" else wide
        if folder.target == "onnx":
            self.check_onnx()
        try:
            self.graph = self.core.read_model(folder.file)
            self.one = self._compile("LATENCY")
        except RuntimeError as error:
            raise CheckpointError(f"OpenVINO can't open {folder.file}: {' '.join(str(error).split())[:300]}") from error
        shapes = {one.get_any_name(): one.get_partial_shape()[-1] for one in self.graph.outputs}
        self.check_outputs({name: last.get_length() if last.is_static else None for name, last in shapes.items()})
        self.many: Any = None

    def _compile(self, hint: str) -> Any:
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
        }
        return self.core.compile_model(self.graph, "CPU", settings)

    @keep_signal_stack()
    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        if len(inputs) == 1 or self.threads == 1:
            found = self.one(inputs)
            return [np.array(found[place]) for place in range(len(found))]
        return self._run_side_by_side(inputs)

    def _run_side_by_side(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Give each stream a share of the images; results come back in order."""
        import openvino

        if self.many is None:
            self.many = openvino.AsyncInferQueue(self._compile("THROUGHPUT"))
            self.many.set_callback(
                lambda request, kept: kept.extend(np.array(one.data) for one in request.output_tensors)
            )
        shares = [share for share in np.array_split(inputs, len(self.many)) if len(share)]
        results: list[list[np.ndarray]] = [[] for _ in shares]
        for share, kept in zip(shares, results, strict=True):
            self.many.start_async({0: np.ascontiguousarray(share)}, kept)
        self.many.wait_all()
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]
