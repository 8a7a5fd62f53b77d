"""The model folder: a model with everything needed to use it, portable. config.json + model.safetensors.

config.json holds the format's version, the kind of model (vit or resnet; absent in older folders: vit) and its architecture,
preprocessing, limits of decoding, class names, whether an image may have several (absent: one), the temperature that calibrates its probabilities (absent: 1), the ranges of layers' inputs with which the torch engine computes in int8 (absent: it can't), the grid of a ViT's positions with the rule that
resizes it, where the weights come from, and the hash of model.safetensors.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vitreous.errors import CheckpointError, ConfigError, suggest
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import Resizer
from vitreous.model.config import TRAINING_SETTINGS, ViTConfig
from vitreous.model.factory import Model, create_empty
from vitreous.model.kinds import CONFIGS, Config, get_kind
from vitreous.model.positions.resize import ALL_RULES, DEFAULT_RULE
from vitreous.model.token_merging import Merging, check_merging
from vitreous.model.vit import ViT
from vitreous.settings import from_dict, to_dict, to_json
from vitreous.shapes import Size
from vitreous.storage.atomic import atomic_folder, clear_partials, find_settled, write_atomically
from vitreous.storage.hashing import CHEAP_BYTES, check_stored, translate_read_errors
from vitreous.storage.limits import read_json
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import suggest_run
from vitreous.storage.safetensors_file import map_tensors, save_tensors
from vitreous.storage.versions import read_versions
from vitreous.weights.compatibility import check_depth, check_finite, check_fit, check_grid, describe
from vitreous.weights.exported import KEY
from vitreous.weights.limits import check_model

Computing = Model | Merging
"""A module that maps images to logits: a model, or a wrapper that merges its patches."""
MODEL_FORMAT = 2
"""Version of the model folder's layout that is written: 2 since settings have their current names
(`ViTConfig.RENAMED`)."""
READABLE = (1, 2)
"""Versions that can be read."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FOLDS, ROUNDS = "folds.json", "self-training.json"
"""Make a folder a cross-validation or a self-training, whose model folder is inside it, as a run's is."""


@dataclass(frozen=True)
class ModelFolder:
    """A model and everything needed to use it."""

    resizer: ClassVar[Resizer] = "torch"
    """The library that resizes images for the model."""
    model: Model
    preprocess: PreprocessConfig
    decode: DecodeConfig
    classes: tuple[str, ...]
    """Names of the model's outputs, in order; empty for a model without a head."""
    origin: dict[str, Any] = field(default_factory=dict)
    """The history of the weights: recipe, data, initial weights, metrics reached, versions. JSON values."""
    resize: str = DEFAULT_RULE
    """The rule that resizes the position grid, by its name in model/positions/resize.py."""
    multilabel: bool = False
    """Whether an image may have several of the classes, or none."""
    temperature: float = 1.0
    """Divisor of the logits before they become probabilities, above 0: it changes no prediction, only the
    confidence."""
    merge: int = 0
    """Pairs of patches that each block merges when the model computes (model/token_merging.py). Not part of what is saved."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest input of each layer that multiplies int8 when the torch engine computes in int8, by the layer's name, from
    calibration images; empty: it can't."""

    @property
    def description(self) -> str:
        """A description of the kind of model."""
        return describe(self.model.config)

    @property
    def computing(self) -> Computing:
        """The module that maps images to logits: the model, or a wrapper that merges its patches; raises ConfigError if
        it can't."""
        if not self.merge:
            return self.model
        check_merging(self.model, self.merge)
        assert isinstance(self.model, ViT)
        return Merging(self.model, self.merge)


def save_model(path: str | Path, folder: ModelFolder) -> None:
    """Write a model folder, atomically, replacing an existing one.

    Raises:
        ConfigError: the class names don't match the model's outputs, the temperature is not above 0, or patches are merged.
        CheckpointError: a weight is NaN or infinite, or the folder exists and holds something else.
        StorageError: the disk is full or read-only; the previous contents are untouched.
    """
    path = Path(path).resolve()
    model = folder.model
    if folder.merge:
        raise ConfigError("a model folder holds the model without merging; load it without merge to save it")
    if len(folder.classes) != model.config.classes:
        raise ConfigError(
            f"the model has {model.config.classes} outputs, but {len(folder.classes)} class names were given"
        )
    if not 0 < folder.temperature < math.inf:
        raise ConfigError(f"the temperature is {folder.temperature}; it must be a number above 0")
    if path_exists(path) and not (path.is_dir() and (is_model(path) or not any(path.iterdir()))):
        raise CheckpointError(f"{path} exists and is not a model folder; choose another name for the model")
    tensors = model.state_dict()
    check_finite(tensors, "the model")
    architecture = model.config
    clear_partials(path.parent, path.name)
    placed = {}
    if isinstance(architecture, ViTConfig):
        placed = {"positions": {"grid": list(architecture.grid), "resize": folder.resize}}
    with atomic_folder(path) as partial:
        digest = save_tensors(partial / WEIGHTS, tensors)
        document = {
            "vitreous_model": MODEL_FORMAT,
            "kind": get_kind(architecture),
            "architecture": to_dict(architecture),
            "preprocess": to_dict(folder.preprocess),
            "decode": to_dict(folder.decode),
            **placed,
            "weights": {"file": WEIGHTS, "sha256": digest, "bytes": (partial / WEIGHTS).stat().st_size},
            "origin": {"versions": read_versions(), **folder.origin},
            "classes": list(folder.classes),
            **({"multilabel": True} if folder.multilabel else {}),
            **({"temperature": folder.temperature} if folder.temperature != 1 else {}),
            **({"ranges": {name: list(ends) for name, ends in folder.ranges.items()}} if folder.ranges else {}),
        }
        write_atomically(partial / CONFIG, to_json(document))


def load_model(path: str | Path, *, verify: bool | None = None) -> ModelFolder:
    """Load a model folder, or the exported model of a run folder; the model is in eval mode, on the CPU, in float32.

    The weights are mapped from the file, not copied, and always checked against the architecture, name by name and
    shape by shape, and for NaN.

    Args:
        path: a model folder or a run folder.
        verify: check the weights against their hash. None: if that is cheap, up to `CHEAP_BYTES`.

    Raises:
        CheckpointError: no such folder, of another format, damaged, hostile, or of another architecture.
    """
    path = Path(path)
    while True:
        with _watch(path) as unchanged:
            try:
                folder = _load(_locate(path), verify)
            except CheckpointError:
                if unchanged():
                    raise
            else:
                if unchanged():
                    return folder


def _load(path: Path, verify: bool | None) -> ModelFolder:
    source = str(path)
    config, preprocess, decode, stored = _settings(path / CONFIG, _document(path))
    weights = path / WEIGHTS
    _verify(weights, stored.weights, verify)
    tensors, _, file = map_tensors(weights)
    check_depth(tensors, config, source)
    check_model(config, sum(tensor.numel() for tensor in tensors.values()), source)
    if isinstance(config, ViTConfig):
        check_grid(config, source, Size(*stored.positions.grid), stored.positions.resize)
    model = create_empty(config)
    check_fit(tensors, model.state_dict(), config, source)
    check_finite(tensors, source, [file])
    _fill(model, tensors)
    _check_ranges(stored.ranges, model, path / CONFIG)
    return ModelFolder(
        model, preprocess, decode, stored.classes, stored.origin, stored.positions.resize, stored.multilabel, stored.temperature,
        ranges=stored.ranges,
    )  # fmt: skip


def _check_ranges(ranges: Mapping[str, tuple[float, float]], model: Model, file: Path) -> None:
    """Raise CheckpointError for ranges of layers that the model lacks, or that aren't ranges."""
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name, (low, high) in ranges.items():
        if name not in layers:
            raise CheckpointError(
                f"{file}: ranges names the layer {name[:80]!r}, which this model doesn't have; {suggest(name, layers)}"
            )
        if not low <= 0 <= high or low == high:
            raise CheckpointError(f"{file}: the range of {name} is {low} to {high}; it must reach over 0")


def read_origin(path: str | Path) -> dict[str, Any]:
    """Return what a model folder, or a run's, says about the origin of its weights, without opening them; raises
    CheckpointError."""
    return dict(_document(_locate(Path(path))).get("origin") or {})


@dataclass(frozen=True)
class _Weights:
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class _Positions:
    grid: tuple[int, int]
    resize: str


@dataclass(frozen=True)
class _Stored:
    """The contents of config.json besides settings."""

    weights: _Weights
    classes: tuple[str, ...]
    origin: dict[str, Any]
    positions: _Positions = _Positions((0, 0), DEFAULT_RULE)
    """Only for a ViT."""
    multilabel: bool = False
    temperature: float = 1.0
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    RENAMED: ClassVar[dict[str, str]] = {"several": "multilabel"}


def _settings(file: Path, document: dict[str, Any]) -> tuple[Config, PreprocessConfig, DecodeConfig, _Stored]:
    """Read config.json's settings; raises CheckpointError."""
    kind = document.get("kind", "vit")
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise CheckpointError(f"{file}: unknown kind of model {kind!r}; {suggest(str(kind), CONFIGS)}")
    keys = ["weights", "classes", "origin", *(["positions"] if kind == "vit" else [])]
    keys += [key for key in ("multilabel", "temperature", "ranges", *_Stored.RENAMED) if key in document]
    try:
        config = from_dict(CONFIGS[kind], _architecture(document), "architecture")
        preprocess = from_dict(PreprocessConfig, document["preprocess"], "preprocess")
        decode = from_dict(DecodeConfig, document["decode"], "decode")
        stored = from_dict(_Stored, {key: document[key] for key in keys})
    except KeyError as error:
        raise CheckpointError(f"{file} is damaged: it has no {error}") from error
    except ConfigError as error:
        raise CheckpointError(f"{file} can't be used: {error}") from error
    if len(stored.classes) != config.classes:
        raise CheckpointError(f"{file} names {len(stored.classes)} classes for a model with {config.classes}")
    if not 0 < stored.temperature < math.inf:
        raise CheckpointError(f"{file}: the temperature is {stored.temperature}; it must be a number above 0")
    if stored.positions.resize not in ALL_RULES:
        known = suggest(stored.positions.resize, ALL_RULES)
        raise CheckpointError(f"{file}: unknown resize rule {stored.positions.resize!r}; {known}")
    return config, preprocess, decode, stored


def _architecture(document: dict[str, Any]) -> Any:
    """Return the settings of the architecture; those of format 1 without the ones that only training uses."""
    found = document["architecture"]
    if document["vitreous_model"] != 1 or not isinstance(found, dict):
        return found
    found = {name: value for name, value in found.items() if name not in TRAINING_SETTINGS}
    if isinstance(found.get("block"), dict):
        found["block"] = {name: value for name, value in found["block"].items() if name != "drop_path"}
    return found


def _verify(path: Path, stored: _Weights, verify: bool | None) -> None:
    wanted = stored.bytes <= CHEAP_BYTES if verify is None else verify
    check_stored(path, stored.bytes, stored.sha256 if wanted else None, CONFIG)


def _fill(model: Model, tensors: dict[str, Tensor]) -> None:
    """Make these tensors, widened to float32, the model's parameters, without copying those that already are."""
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    model.eval()


def _locate(path: Path) -> Path:
    """Find the model folder for a path."""
    path = find_settled(path)
    if not path_exists(path):
        raise CheckpointError(f"no such model folder: {path}")
    if path.is_file():
        raise CheckpointError(f"{path} is a file; give the model folder that holds {CONFIG} and {WEIGHTS}")
    for name, what in ((FOLDS, "cross-validation"), (ROUNDS, "self-training")):
        if path_exists(path / name):
            model = find_settled(path / "model")
            if not (model / CONFIG).is_file():
                raise CheckpointError(f"the {what} in {path} has no model yet; resume it with `vitreous resume {path}`")
            return model
    if "vitreous_run" not in _keys(path):
        return path
    model = find_settled(path / "model")
    if (model / CONFIG).is_file():
        return model
    steps = [folder.name.removeprefix("step-") for folder in (path / "checkpoints").glob("step-*")]
    newest = max((int(step) for step in steps if step.isdigit()), default=None)
    far = "has no checkpoint yet" if newest is None else f"is at step {newest}"
    raise CheckpointError(
        f"the run in {path} has exported no model yet (it {far}); wait for its first evaluation, or resume it "
        f"with `vitreous resume {path}`"
    )


def is_model(path: Path) -> bool:
    """Return whether a folder is a model folder, of any format."""
    return "vitreous_model" in _keys(path)


def _keys(path: Path) -> set[str]:
    """Return the top-level names in a folder's config.json, or none if there is no such file."""
    try:
        document = read_json(path / CONFIG)
    except (OSError, CheckpointError):
        return set()
    return set(document) if isinstance(document, dict) else set()


@contextmanager
def _watch(path: Path) -> Iterator[Callable[[], bool]]:
    """Detect whether a newer model replaced a folder in the meantime, as a run in training does: never mix the two.

    The folder is held open, so that its inode number can't be reused.
    """
    before, handle = None, None
    with suppress(OSError, CheckpointError):
        where = _locate(path)
        handle = os.open(where, os.O_RDONLY)
        before = _identity(where, os.fstat(handle))
    try:
        yield lambda: _identity_now(path) == before
    finally:
        if handle is not None:
            os.close(handle)


def _identity(where: Path, status: os.stat_result) -> tuple[Path, int, int]:
    return where, status.st_dev, status.st_ino


def _identity_now(path: Path) -> tuple[Path, int, int] | None:
    try:
        where = _locate(path)
        return _identity(where, where.stat())
    except (OSError, CheckpointError):
        return None


def _document(path: Path) -> dict[str, Any]:
    """Read config.json and check that vitreous wrote it; raises CheckpointError."""
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} is not a model folder: it has no {CONFIG}{suggest_run(path)}")
    with translate_read_errors(path / CONFIG):
        document = read_json(path / CONFIG)
    if isinstance(document, dict) and KEY in document:
        came = (document.get("origin") or {}).get("exported_from") if isinstance(document.get("origin"), dict) else None
        raise CheckpointError(
            f"{path} is an export to {document.get('target')}, whose weights torch can't train or inspect; give the model "
            f"it was exported from{f' ({came})' if came else ''}"
        )
    if not isinstance(document, dict) or "vitreous_model" not in document:
        raise CheckpointError(f"{path} is not a model folder of vitreous: its {CONFIG} describes something else")
    if document["vitreous_model"] not in READABLE:
        raise CheckpointError(
            f"{path} is a model folder of format {document['vitreous_model']!r}; this vitreous reads formats {READABLE[0]} to {MODEL_FORMAT}. "
            "Use the vitreous that wrote it (its config.json names the version)"
        )
    return document
