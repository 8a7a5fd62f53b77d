"""ONNX Runtime: exported ONNX on a CPU."""

import functools
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engines.base import check_precision, list_precisions
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.onnx_weights import FOLDER, refer_to_weights
from vitreous.errors import CheckpointError
from vitreous.runtime.memory import read_memory
from vitreous.runtime.threads import count_threads
from vitreous.storage.presence import is_utf8

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ["CPUExecutionProvider"]
MOST_SHARE = 0.75
"""Share of the machine's memory that all sessions have at most."""


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
        self.precision = folder.graph.precision
        self.threads = count_threads()
        self.check_onnx()
        self.session = open_session(folder.file, self.threads)
        self.input = self.session.get_inputs()[0].name
        shapes = {one.name: one.shape for one in self.session.get_outputs()}
        self.check_outputs({name: shape[-1] if isinstance(shape[-1], int) else None for name, shape in shapes.items()})

    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        return self.session.run(list(self.folder.graph.outputs), {self.input: inputs})


@functools.cache
def bound_memory() -> bool:
    """Let all sessions of this process share memory of at most so much that a graph can't fill the machine; return whether it is so.

    Sizes that a graph computes by itself are not seen before it runs (`onnx_file`).
    """
    from onnxruntime import OrtAllocatorType, OrtArenaCfg, OrtMemoryInfo, OrtMemType, create_and_register_allocator

    most = OrtArenaCfg({"max_mem": int(MOST_SHARE * read_memory())})
    with suppress(RuntimeError):  # another part of the program has set its own
        create_and_register_allocator(
            OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT), most
        )
        return True
    return False


def open_session(path: Path, threads: int) -> "onnxruntime.InferenceSession":
    """Open an ONNX file that `check_onnx` has passed; raises CheckpointError if ONNX Runtime can't."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    if bound_memory():
        options.add_session_config_entry("session.use_env_allocators", "1")
    with suppress(Exception):  # a file that it can't open either way is opened again below, for the reason
        if referring := refer_to_weights(path):
            options.add_session_config_entry(FOLDER, str(path.parent.absolute()))
            return onnxruntime.InferenceSession(referring, options, providers=PROVIDERS)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    except Exception as error:  # ONNX Runtime's own exceptions have no base of their own
        raise CheckpointError(f"ONNX Runtime can't open {path}: {' '.join(str(error).split())[:300]}") from error
