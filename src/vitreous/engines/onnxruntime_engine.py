"""ONNX Runtime: exported ONNX on a CPU."""

import numpy as np

from vitreous.engines.base import check_precision, list_precisions
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import CheckpointError
from vitreous.runtime.threads import count_threads
from vitreous.storage.presence import is_utf8


class OnnxRuntimeEngine(ExportedEngine):
    """An ONNX file in ONNX Runtime's CPU provider, in float32.

    Raises:
        ConfigError: another device or precision. CheckpointError: a file that ONNX Runtime can't read.
    """

    name = "onnxruntime"
    precision = "fp32"
    device = "cpu"

    def __init__(self, folder: ExportedFolder, device: str = "auto", precision: str = "fp32") -> None:
        super().__init__(folder)
        self.check_device(device)
        check_precision(self.name, precision, list_precisions(self.name, folder.graph.precision))
        if not is_utf8(folder.file):
            raise CheckpointError(
                f"ONNX Runtime opens files only where the path is UTF-8, and {folder.file} isn't; rename it"
            )
        import onnxruntime

        self.precision = folder.graph.precision
        self.threads = count_threads()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 4
        self.check_onnx()
        try:
            self.session = onnxruntime.InferenceSession(str(folder.file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions have no base of their own
            raise CheckpointError(
                f"ONNX Runtime can't open {folder.file}: {' '.join(str(error).split())[:300]}"
            ) from error
        self.input = self.session.get_inputs()[0].name
        shapes = {one.name: one.shape for one in self.session.get_outputs()}
        self.check_outputs({name: shape[-1] if isinstance(shape[-1], int) else None for name, shape in shapes.items()})

    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        return self.session.run(list(self.folder.graph.outputs), {self.input: inputs})
