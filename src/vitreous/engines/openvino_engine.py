"""OpenVINO: exported IR or ONNX on a CPU."""

import functools
import math
import threading
from functools import partial
from typing import Any

import numpy as np

from vitreous.engines.base import check_precision, list_precisions
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.onnx_file import MOST_VALUES
from vitreous.errors import CheckpointError, ConfigError
from vitreous.runtime.precision import WORTH, compare_speeds
from vitreous.runtime.signal_stack import keep_signal_stack
from vitreous.runtime.threads import count_threads

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
UNPINNED = {"ENABLE_CPU_PINNING": False}
"""Turns off pinning: a pinned thread waits for its core while other work uses it, for some 15 times as long as it
computes (docs/speed.md)."""
ROWS, SIDE = 197, 768
"""Size of the product by which the speed of bfloat16 is measured."""


class OpenVinoEngine(ExportedEngine):
    """An exported model in OpenVINO's CPU plugin.

    A single image is computed by all threads (latency hint); in a batch each thread computes separate images
    (throughput hint, compiled for the first batch).

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
        if folder.graph.precision == "int8":
            self.precision = "int8"
        elif precision == "auto":
            self.precision = "bf16" if "BF16" in native and measure_bf16(self.threads) > WORTH else "fp32"
        else:
            self.precision = precision
        if folder.target == "onnx":
            self.check_onnx()
        self.core.set_property({"ENABLE_MMAP": False})  # a mapped file that is truncated kills the process
        try:
            self.graph = self.core.read_model(folder.file)
            self._check_sizes()
            self.one = self._compile("LATENCY")
        except RuntimeError as error:
            raise CheckpointError(f"OpenVINO can't open {folder.file}: {' '.join(str(error).split())[:300]}") from error
        shapes = {one.get_any_name(): one.get_partial_shape()[-1] for one in self.graph.outputs}
        self.check_outputs({name: last.get_length() if last.is_static else None for name, last in shapes.items()})
        self.many: Any = None
        self._lock = threading.Lock()
        """Held during a pass: the requests hold one batch's inputs and outputs."""

    def _check_sizes(self) -> None:
        """Raise CheckpointError, before anything is computed, for a graph with tensors larger than any model needs."""
        for operator in self.graph.get_ops():
            for output in operator.outputs():
                sides = [side.get_length() for side in output.get_partial_shape() if side.is_static]
                if output.get_partial_shape().rank.is_static and math.prod(sides) > MOST_VALUES:
                    raise CheckpointError(
                        f"{self.folder.file} needs a tensor of {math.prod(sides):,} values, more than the limit of {MOST_VALUES:,}; it can't be used"
                    )

    def _compile(self, hint: str) -> Any:
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            **UNPINNED,
        }
        return self.core.compile_model(self.graph, "CPU", settings)

    @keep_signal_stack()
    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        with self._lock:
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


@functools.cache
def measure_bf16(threads: int) -> float:
    """Return how many times as fast as in float32 OpenVINO multiplies matrices in bfloat16, in some 0.3 s."""
    import openvino
    from openvino import opset13

    inputs, values = opset13.parameter([ROWS, SIDE], np.float32), np.ones((ROWS, SIDE), np.float32)
    weight = opset13.constant(np.ones((SIDE, SIDE), np.float32))
    graph, core = openvino.Model([opset13.matmul(inputs, weight, False, False)], [inputs]), openvino.Core()
    fp32, bf16 = (
        core.compile_model(
            graph, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, **UNPINNED}
        )
        for hint in ("f32", "bf16")
    )
    return compare_speeds(partial(fp32, values), partial(bf16, values))
