"""The exported folder: a model in another runtime's format with everything needed to use it. Imports no torch.

config.json holds the format's version, the files with their sizes and hashes, the graph's inputs and outputs,
preprocessing, limits of decoding, class names, temperature, the model's origin, and the largest difference between the
runtime's outputs and torch's.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, NoReturn

from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import Resizer
from vitreous.settings import from_dict, to_dict
from vitreous.storage.atomic import find_settled
from vitreous.storage.hashing import CHEAP_BYTES, check_stored, file_hash, translate_read_errors
from vitreous.storage.limits import read_json
from vitreous.storage.presence import is_file
from vitreous.weights.exported import KEY

EXPORT_FORMAT = 1
"""Version of the folder's layout that is written and read."""
CONFIG = "config.json"
Target = Literal["onnx", "openvino", "torch", "aotinductor"]
TARGETS = ("onnx", "openvino", "torch", "aotinductor")
OUTPUTS = ("logits", "probabilities", "features")


@dataclass(frozen=True)
class StoredFile:
    """One file of the export, in its folder."""

    file: str
    sha256: str
    bytes: int

    @classmethod
    def find(cls, folder: Path, name: str) -> "StoredFile":
        """Return the current size and hash of a file in a folder; raises CheckpointError if it can't be read."""
        return cls(name, file_hash(folder / name), (folder / name).stat().st_size)


@dataclass(frozen=True)
class GraphConfig:
    """The inputs and outputs of the exported graph."""

    inputs: Literal["pixels", "normalised"] = "normalised"
    """pixels: (batch, row, col, channel), 0 to 255, uint8 or, if channels are kept as they are, float32. normalised:
    (batch, channel, row, col) in float32, (pixels / 255 - mean) / std."""
    outputs: tuple[str, ...] = ("logits",)
    """The graph's outputs in order, out of logits, probabilities (calibrated) and features."""
    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images."""
    dynamic_image: bool = False
    """Whether the graph accepts images of other sizes too."""
    opset: int | None = None
    """The version of ONNX's operator set."""
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    """Precision of the weights; if not fp32, of the weights of products and, except for OpenVINO's fp16, of the values
    that they multiply."""
    merge: int = 0
    """Pairs of patches that each block merges."""


@dataclass(frozen=True)
class ExportedFolder:
    """An exported model with everything needed to use it."""

    resizer: ClassVar[Resizer] = "pillow"
    """The library that resizes images for the model."""
    path: Path
    target: Target
    files: tuple[StoredFile, ...]
    """The first is the one to open."""
    graph: GraphConfig
    preprocess: PreprocessConfig
    decode: DecodeConfig
    classes: tuple[str, ...]
    """Names of the outputs, in order; empty for an export with only features."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the weights come from, as JSON values."""
    multilabel: bool = False
    """Whether the model is multilabel: an image may have several of the classes, or none."""
    temperature: float = 1.0
    """Divisor of the logits before they become probabilities."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Facts about the model: kind, description, parameters, flops."""
    proof: dict[str, Any] = field(default_factory=dict)
    """The differences between the runtime's outputs and torch's when it was written."""

    @property
    def file(self) -> Path:
        """The file to open."""
        return self.path / self.files[0].file

    @property
    def sha256(self) -> str:
        """Hash everything that maps pixels to its outputs."""
        facts = {"files": [one.sha256 for one in self.files], "preprocess": to_dict(self.preprocess)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def description(self) -> str:
        """A description of the kind of model."""
        return f"{self.shape.get('description', 'a model')}, exported to {self.target}"

    @property
    def merge(self) -> int:
        """Pairs of patches that each block merges."""
        return self.graph.merge

    @property
    def source(self) -> str:
        """A description of the model that it was exported from."""
        came = self.origin.get("exported_from")
        return f"the model it was exported from ({came})" if came else "the model it was exported from"

    @property
    def model(self) -> NoReturn:
        """Raise ConfigError, since an export has no torch module."""
        raise ConfigError(
            f"{self.path} is an export to {self.target}, whose layers can't be inspected or trained; give {self.source} instead"
        )

    def refuse(self, purpose: str) -> NoReturn:
        """Raise ConfigError, since the purpose needs another graph."""
        raise ConfigError(f"{self.path} is an exported model, whose graph is fixed; give {self.source} {purpose}")


@dataclass(frozen=True)
class _Stored:
    """The contents of config.json except the settings of images and the origin."""

    target: Target
    files: tuple[StoredFile, ...]
    graph: GraphConfig
    classes: tuple[str, ...]
    multilabel: bool = False
    temperature: float = 1.0


def load_export(path: Path) -> ExportedFolder:
    """Open an exported model; its files are checked against their sizes and, up to `CHEAP_BYTES`, against their hashes.

    Raises:
        CheckpointError: the export is from another version, damaged, or names files elsewhere.
    """
    path = find_settled(path)
    with translate_read_errors(path / CONFIG):
        document = read_json(path / CONFIG)
    if document.get(KEY) != EXPORT_FORMAT:
        raise CheckpointError(
            f"{path} is an export of format {document.get(KEY)!r}; this vitreous reads format {EXPORT_FORMAT}. "
            "Use the vitreous that wrote it (its config.json names the version), or export the model again"
        )
    found = _read(path, document)
    for stored in found.files:
        _check_file(path, stored)
    return found


def _read(path: Path, document: dict[str, Any]) -> ExportedFolder:
    names = ["target", "files", "graph", "classes", *(key for key in ("multilabel", "temperature") if key in document)]
    try:
        stored = from_dict(_Stored, {name: document[name] for name in names})
        preprocess = from_dict(PreprocessConfig, document["preprocess"], "preprocess")
        decode = from_dict(DecodeConfig, document["decode"], "decode")
        free = [document.get(name) or {} for name in ("origin", "shape", "proof")]
    except KeyError as error:
        raise CheckpointError(f"{path / CONFIG} is damaged: it has no {error}") from error
    except ConfigError as error:
        raise CheckpointError(f"{path / CONFIG} can't be used: {error}") from error
    if not stored.files or not all(isinstance(one, dict) for one in free):
        raise CheckpointError(
            f"{path / CONFIG} is damaged: files, origin, shape or proof differs from what an export writes"
        )
    unknown = set(stored.graph.outputs).difference(OUTPUTS)
    if unknown or not stored.graph.outputs:
        raise CheckpointError(f"{path / CONFIG} can't be used: unknown outputs {sorted(unknown)}")
    if tuple(preprocess.size) != stored.graph.image or min(stored.graph.image) < 1:
        given = "{}x{}".format(*preprocess.size)
        raise CheckpointError(
            f"{path / CONFIG} can't be used: its images are {given}, but its graph takes {stored.graph.image[0]}x{stored.graph.image[1]}"
        )
    if not 0 < stored.temperature < math.inf:
        raise CheckpointError(f"{path / CONFIG}: the temperature is {stored.temperature}; it must be a number above 0")
    origin, shape, proof = free
    return ExportedFolder(
        path, stored.target, stored.files, stored.graph, preprocess, decode, stored.classes, origin,
        stored.multilabel, stored.temperature, shape, proof,
    )  # fmt: skip


def _check_file(folder: Path, stored: StoredFile) -> None:
    """Raise CheckpointError for a file that is elsewhere, doesn't exist, or isn't the one that was written."""
    path = folder / stored.file
    if PurePath(stored.file).name != stored.file or stored.file in ("", ".", "..") or path.is_symlink():
        raise CheckpointError(
            f"{folder / CONFIG} names a file outside its folder ({stored.file[:80]!r}); it can't be used"
        )
    if not is_file(path):
        raise CheckpointError(f"{folder} is damaged: it has no file {stored.file}")
    check_stored(path, stored.bytes, stored.sha256 if stored.bytes <= CHEAP_BYTES else None, CONFIG)
