"""Write a model in another code base's format, and verify that it is the same function."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import CheckpointError, UnknownName
from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import compute_uncropped
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import Config, get_kind
from vitreous.model.resnet_config import EpsilonConfig, ResNetConfig
from vitreous.runtime.display import Shown
from vitreous.settings import to_json
from vitreous.shapes import Size
from vitreous.storage.atomic import atomic_folder, check_new_folder, remove_folder, write_atomically
from vitreous.storage.safetensors_file import save_tensors
from vitreous.weights.compatibility import describe
from vitreous.weights.families.base import Family
from vitreous.weights.foreign import list_families
from vitreous.weights.loading import open_model
from vitreous.weights.mapping import write_tensors
from vitreous.weights.model_folder import ModelFolder, save_model
from vitreous.weights.options import LoadOptions

OURS = "vitreous"
PROOF_IMAGES = 4
WEIGHTS = {"safetensors": "model.safetensors", "npz": "model.npz"}


@dataclass(frozen=True)
class Proof(Shown):
    """The outputs of both models on the same images."""

    difference: float
    """Largest absolute difference of their outputs."""
    scale: float
    """Largest absolute output."""
    lost: str = ""
    """Facts that the format doesn't record and that the user must therefore know."""

    def __str__(self) -> str:
        return (
            f"{PROOF_IMAGES} fixed images through both: largest difference {self.difference:.1e} "
            f"(largest output {self.scale:.2g}), float32"
        )


def formats() -> dict[str, Family | None]:
    """Return the formats that can be written, by name; vitreous's own is None."""
    return {OURS: None} | {name: family for name, family in list_families().items() if family.unwritable is not None}


def convert(folder: ModelFolder, path: str | Path, to: str = OURS) -> Proof:
    """Write a model to a new folder in a format, read it back, and run both.

    Raises:
        UnknownName: no such format.
        CheckpointError: the format can't express this model (nothing is written), or the folder is not empty.
        StorageError: the disk is full or read-only.
    """
    known = formats()
    if to not in known:
        raise UnknownName("format", to, known)
    path, family = Path(path), known[to]
    check_new_folder(path)
    if family is None:
        save_model(path, folder)
    else:
        write_foreign(folder, path, family)
    options = None if family is None else LoadOptions(family=family.name + choose_variant(folder, family))
    try:
        again, _ = open_model(path, options)
        proof = prove(folder, again, describe_epsilons(folder, again, to))
    except CheckpointError:
        remove_folder(path)
        raise
    lost = [describe_epsilons(folder, again, to), describe_transform(folder.preprocess, again.preprocess, to)]
    if folder.multilabel and not again.multilabel:
        lost.append(f"that the model is multilabel: {to} doesn't record it; apply a sigmoid")
    if folder.temperature != again.temperature:
        lost.append(
            f"the temperature: {to} doesn't record it; divide logits by {folder.temperature:.4g} for calibrated probabilities"
        )
    return replace(proof, lost="; ".join(filter(None, lost)))


def choose_variant(folder: ModelFolder, family: Family) -> str:
    """Return the variant under which the written file is read back, if the format is ambiguous."""
    config = folder.model.config
    exact = isinstance(config, ViTConfig) and config.block.activation == "gelu"
    return ":timm" if "timm" in family.variants and exact else ""


def epsilons(config: Config) -> EpsilonConfig | None:
    """Return the epsilons of a model's standardised kernels and group norms, if it has any."""
    if isinstance(config, ViTConfig):
        return config.stem.epsilons
    return config.epsilons if isinstance(config, ResNetConfig) else None


def describe_epsilons(folder: ModelFolder, again: ModelFolder, to: str) -> str:
    """Describe how the epsilons of a format's own code differ from the model's; "" if they don't."""
    here, there = epsilons(folder.model.config), epsilons(again.model.config)
    return f"the epsilons: the model has {here}, but {to}'s own code {there}" if here != there else ""


def describe_transform(here: PreprocessConfig, there: PreprocessConfig, to: str) -> str:
    """Describe the parts of the images' transform that a format doesn't record, or its own code does differently; ""
    if none."""
    found = []
    for name, own, other in (
        ("scaled to", Size(*compute_uncropped(here)), Size(*compute_uncropped(there))),
        *((name, getattr(here, name), getattr(there, name)) for name in ("resize", "interpolation", "antialias")),
        *((name, spread(getattr(here, name)), spread(getattr(there, name))) for name in ("mean", "std")),
    ):
        if own != other:
            found.append(f"{name} {own} here, {other} there")
    if here.rounding != there.rounding and (here.resize != "squash" or here.crop != 1):
        found.append(f"sizes rounded as by {here.rounding} here, {there.rounding} there, a pixel at most")
    return f"of the images' transform ({to} has its own): {'; '.join(found)}" if found else ""


def spread(values: tuple[float, ...]) -> list[float]:
    """Return a mean or deviation for each of three channels, to four digits."""
    return [round(value, 4) for value in (values * 3 if len(values) == 1 else values)]


def explain_unfit(config: Config, family: Family) -> str | None:
    """Name the formats that hold this model, if this one doesn't hold its kind."""
    kind = get_kind(config)
    if kind == family.kind:
        return None
    fitting = ", ".join(
        name
        for name, known in formats().items()
        if known is None or (known.kind == kind and known.unwritable and not known.unwritable(config))
    )
    return f"it doesn't hold {describe(config)}; these do: {fitting}"


def write_foreign(folder: ModelFolder, path: Path, family: Family) -> None:
    """Write a model folder of another code base: weights and the JSON files that go with them."""
    config = folder.model.config
    assert family.unwritable is not None
    reason = explain_unfit(config, family) or family.unwritable(config)
    if reason:
        raise CheckpointError(f"the format {family.name} can't express this model: {reason}")
    tensors, left = write_tensors(family.table(config), folder.model.state_dict(), config.depth)
    if left:
        raise CheckpointError(f"the format {family.name} has no place for {len(left)} tensors, such as {left[0]}")
    tensors |= family.constants(config) if family.constants else {}
    with atomic_folder(path) as partial:
        file = partial / WEIGHTS[family.container]
        if family.container == "npz":
            save_npz(file, tensors)
        else:
            save_tensors(file, tensors, {"format": "pt"})
        for name, document in (family.sidecars(folder) if family.sidecars else {}).items():
            write_atomically(partial / name, to_json(document))


def save_npz(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a NumPy archive."""
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.float().numpy() for name, tensor in tensors.items()})


def prove(first: ModelFolder, second: ModelFolder, reason: str = "") -> Proof:
    """Run both on the same images; raises CheckpointError, with a known reason, if they differ by more than rounding."""
    config = first.model.config
    images = torch.randn(PROOF_IMAGES, config.channels, *config.image, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = first.model.eval()(images), second.model.eval()(images)
    found = Proof(float((one - other).abs().max()), float(one.abs().max()))
    if not found.difference <= 1e-4 * max(1.0, found.scale):
        raise CheckpointError(
            f"this format can't hold this function: outputs of {found.scale:.2g} come back {found.difference:.1e} "
            "off"
            + (
                f" by {reason}. Load the weights as their code does (--as FAMILY:timm), or write another format"
                if reason
                else ""
            )
        )
    return found
