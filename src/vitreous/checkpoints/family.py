"""What a family of checkpoints is: how it is recognised, configured, mapped and preprocessed."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from vitreous.checkpoints.mapping import Table
from vitreous.checkpoints.weights import Weights
from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import Config
from vitreous.shapes import Size

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALF = {"mean": (0.5,), "std": (0.5,)}

MULTI_LABEL = "multi_label_classification"
"""The problem_type of a config.json where an image may have several classes (transformers)."""


@dataclass(frozen=True)
class Reading:
    """What a family makes of somebody's weights."""

    model: Config
    """The architecture, at the resolution of the file."""
    preprocess: PreprocessConfig
    resize: str
    """The rule by which this origin resizes its position grid."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Their tensors, after wrappers were taken off their names."""
    assumed: tuple[str, ...] = ()
    """What the file didn't tell and was taken from the family's defaults."""
    classes: tuple[str, ...] = ()
    """Names of the outputs, where the file has them."""
    ignored: tuple[str, ...] = ()
    """Patterns of names that are not part of an image classifier, such as a text tower or a decoder."""


@dataclass(frozen=True)
class Family:
    """One origin of checkpoints."""

    name: str
    title: str
    """Who writes such files, for reports."""
    recognise: Callable[[Weights], float]
    """How surely these weights are of this family: 0 no, 1 by keys and shapes, 2 by a configuration that names it."""
    interpret: Callable[[Weights, str | None], Reading]
    """Read the architecture; the second argument is what the user says it is (--as), a name that the family knows."""
    table: Callable[[Any], Table]
    """The rules, for an architecture of the family's kind."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Names for --as that settle what keys and shapes leave open, and what each stands for."""
    unwritable: Callable[[Any], str | None] | None = None
    """Why a model of that kind can't be written in this format, or None if it can; without it the family is only read."""
    container: Literal["safetensors", "npz"] = "safetensors"
    sidecars: Callable[[Any], dict[str, dict[str, Any]]] | None = None
    """JSON files to write beside the weights, by name, from a model folder."""
    kind: Literal["vit", "resnet"] = "vit"
    """The kind of models that such files hold."""


def square(cells: int, where: str) -> Size:
    """Return the square grid of so many cells; raises CheckpointError where there is none."""
    side = math.isqrt(cells)
    if side * side != cells:
        raise CheckpointError(
            f"{where} has positions for {cells} patches, which is no square, and nothing beside the weights says how many "
            "rows and columns; put a config.json beside them that names the image size, as their library writes it"
        )
    return Size(side, side)


def shape_of(tensors: Mapping[str, Tensor], name: str, where: str) -> tuple[int, ...]:
    """Return a tensor's shape; raises CheckpointError if it isn't there."""
    if name not in tensors:
        raise CheckpointError(f"{where} has no {name}, which every model of this kind has")
    return tuple(tensors[name].shape)


def unlike_plain(config: ViTConfig, names: Iterable[str], knower: str) -> str | None:
    """Say which of these fields isn't that of the paper's ViT, where a format knows only that; None if all are."""
    if config.block.attention != "full":
        return f"its attention is {config.block.attention}; {knower} knows only full attention"
    plain = ViTConfig()
    for name in names:
        if getattr(config, name) != getattr(plain, name):
            return f"{name} is {getattr(config, name)!r}; {knower} knows only {getattr(plain, name)!r}"
    return None


def has(tensors: Mapping[str, Tensor], pattern: str) -> bool:
    """Tell whether a name matches."""
    return any(re.search(pattern, name) for name in tensors)


HEADS_OF = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16, 4096: 32, 32: 2}
"""Heads by width, of the published models; of others, 64 values a head."""


def usual_heads(width: int) -> int:
    """Return the heads that published models of this width have."""
    return HEADS_OF.get(width, max(1, width // 64))
