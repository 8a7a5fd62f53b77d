"""Writer for torch.distributed.checkpoint, which decides which process writes which part of the tensors that several
processes hold.

torch's own files hold a pickle, which runs code when it is opened; these files (`shards.py` lists them) don't.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from vitreous.storage.safetensors_file import CODES, save_tensors
from vitreous.storage.shards import SHARDS


@dataclass(frozen=True)
class Written:
    """A piece of a tensor in a file."""

    file: str
    name: str
    sizes: tuple[int, ...]
    sha256: str
    """Hash of the file."""


class ShardWriter(StorageWriter):
    """Writes a snapshot's tensors into an existing folder, each process into its own file.

    Args:
        folder: visible to all processes.
        complete: called in the first process once all have written, with the hashes of all files by name.
    """

    def __init__(self, folder: Path, complete: Callable[[dict[str, str]], None]) -> None:
        self.folder, self.complete = folder, complete

    def reset(self, checkpoint_id: Any = None) -> None:
        """Begin; a writer is used for one snapshot."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Number the processes, for their files' names."""
        return [replace(plan, storage_data=number) for number, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this process's pieces, durably; raises StorageError."""
        file = f"shard-{plan.storage_data:05}.safetensors"
        names = [f"{item.index.fqn}@{','.join(map(str, item.index.offset or ()))}" for item in plan.items]
        tensors = {name: planner.resolve_data(item) for name, item in zip(names, plan.items, strict=True)}
        digest = save_tensors(self.folder / file, tensors) if tensors else ""
        done: Future[list[WriteResult]] = Future()
        done.set_result(
            [
                WriteResult(item.index, tensors[name].nbytes, Written(file, name, tuple(tensors[name].shape), digest))
                for name, item in zip(names, plan.items, strict=True)
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Record where every piece is, in the first process, and complete the snapshot."""
        pieces: dict[str, list[dict[str, Any]]] = {}
        sums: dict[str, str] = {}
        for result in (one for part in results for one in part):
            written: Written = result.storage_data
            sums[written.file] = written.sha256
            offsets = list(result.index.offset or [0] * len(written.sizes))
            piece = {"file": written.file, "name": written.name, "offsets": offsets, "sizes": list(written.sizes)}
            pieces.setdefault(result.index.fqn, []).append(piece)
        document = {}
        for name, held in pieces.items():
            kind = metadata.state_dict_metadata[name]
            assert isinstance(kind, TensorStorageMetadata)
            document[name] = {"dtype": CODES[kind.properties.dtype], "shape": list(kind.size), "pieces": held}
        text = json.dumps(document, separators=(",", ":")).encode()
        (self.folder / SHARDS).write_bytes(text)
        self.complete({**sums, SHARDS: hashlib.sha256(text).hexdigest()})

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Return False: folders are given to the constructor."""
        return False

    def storage_meta(self) -> None:
        """Do nothing."""
