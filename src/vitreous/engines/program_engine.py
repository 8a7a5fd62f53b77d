"""torch's own exports: programs of torch.export, and AOTInductor's compiled packages.

Opening either can run its author's code: torch reads parts of the former as pickles and expressions, and the latter is
a library of machine code. Only files that this account has exported on this machine are opened; they are recognised by
their hash.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.engines.base import check_precision
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import CheckpointError, ConfigError, StorageError, UserError
from vitreous.runtime.device import tune_cpu
from vitreous.runtime.processor import read_cpu_features, read_cpu_model
from vitreous.settings import to_json
from vitreous.storage.atomic import write_atomically
from vitreous.storage.cache import find_cache
from vitreous.storage.hashing import file_hash
from vitreous.storage.limits import read_json

COMPILED = "aotinductor"
"""The target whose files are machine code for the processor on which they were compiled."""


class ProgramEngine(ExportedEngine):
    """A program that torch runs on the CPU.

    Raises:
        ConfigError: another device or precision, a file that wasn't exported here, or one that was exported with another
            version of torch or on another processor. CheckpointError: a file that torch can't read.
    """

    name, device = "torch", "cpu"

    def __init__(self, folder: ExportedFolder, device: str = "auto", precision: str = "fp32") -> None:
        super().__init__(folder)
        self.check_device(device)
        self.precision = folder.graph.precision
        check_precision(self.name, precision, tuple(dict.fromkeys(("fp32", self.precision))))
        check_own(folder)
        tune_cpu()
        self.threads = torch.get_num_threads()
        try:
            self.program: Callable[[Tensor], Sequence[Tensor]] = (
                torch._inductor.aoti_load_package(str(folder.file))
                if folder.target == COMPILED
                else torch.export.load(folder.file).module()
            )
        except Exception as error:  # torch's readers raise almost anything
            said = " ".join(str(error).split())[:300]
            raise CheckpointError(f"torch can't open {folder.file}: {said or type(error).__name__}") from error

    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs."""
        with torch.inference_mode():
            return [output.numpy() for output in self.program(torch.from_numpy(inputs))]


def note_own(folder: ExportedFolder) -> None:
    """Record that a program was exported here by this account, with these versions; without a record it won't be
    opened."""
    with suppress(StorageError, OSError):
        path = _find_note(folder.files[0].sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(_describe_here()))


def check_own(folder: ExportedFolder) -> None:
    """Raise ConfigError for a program that another account exported, or that was exported for another torch or
    processor."""
    again = f"export again, from {folder.source}"
    try:
        noted = read_json(_find_note(file_hash(folder.file)))
    except (OSError, UserError):
        raise ConfigError(
            f"{folder.file} can run code when it is opened, and it wasn't exported by this account on this machine; {again} or, if you "
            "trust it, open it in your own program"
        ) from None
    here = _describe_here()
    for name in ("torch", "processor", "features") if folder.target == COMPILED else ("torch",):
        if noted.get(name) != here[name]:
            what = f"torch {noted.get(name)}" if name == "torch" else f"another processor ({noted.get('processor')})"
            raise ConfigError(
                f"{folder.file} was exported for {what}, but this is {here['torch' if name == 'torch' else 'processor']}; {again}"
            )


def _describe_here() -> dict[str, str]:
    return {"torch": torch.__version__, "processor": read_cpu_model(), "features": read_cpu_features()}


def _find_note(sha256: str) -> Path:
    return find_cache() / "programs" / f"{sha256}.json"
