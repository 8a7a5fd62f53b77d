"""A torch.export program just after it was written here, to be held against the model.

Nothing else opens such files: torch reads parts of them as pickles and expressions, which can run code.
"""

import numpy as np
import torch

from vitreous.engines.exported import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder


class ProgramEngine(ExportedEngine):
    """A program of torch.export, by torch itself, on the CPU."""

    name, precision, device = "torch", "fp32", "cpu"

    def __init__(self, folder: ExportedFolder) -> None:
        super().__init__(folder)
        self.threads = torch.get_num_threads()
        self.program = torch.export.load(folder.file).module()

    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        with torch.inference_mode():
            return [output.numpy() for output in self.program(torch.from_numpy(inputs))]
