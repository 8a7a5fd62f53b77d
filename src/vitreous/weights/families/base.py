"""What a family of checkpoints is: how it is recognised, configured, mapped and preprocessed."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import Config
from vitreous.shapes import Size
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALF = {"mean": (0.5,), "std": (0.5,)}

MULTI_LABEL = "multi_label_classification"
"""The problem_type of a config.json where an image may have several classes (transformers)."""


CLASS_OFFSETS = 3
"""Entries of a BEiT's table of relative positions for [class] to patch, patch to [class], and [class] to itself."""
Notes = tuple[str, ...]
"""What was assumed, for the report."""


@dataclass(frozen=True)
class ForeignModel:
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
    interpret: Callable[[Weights, str | None], ForeignModel]
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


def find_grid(
    weights: Weights, count: int, prefixes: Sequence[int], said: Size | None = None, table: bool = False
) -> tuple[int, Size, Notes]:
    """Return the grid that learned positions are for: as the file says, else as the user does, else a square, with a note.

    Args:
        weights: where they come from, and what the user says.
        count: positions, those of prefix tokens among them.
        prefixes: how many of them may belong to prefix tokens, the likeliest first.
        said: the grid that a configuration beside the file names.
        table: there is not one for each patch, but one for each offset of two patches.

    Returns:
        how many of the positions belong to prefix tokens, the grid, and what was assumed.

    Raises:
        CheckpointError: the file says a grid that has another number of them; or nobody says one, and no square has so many.
        ConfigError: the user says a grid that has another number of them.
    """
    wanted = said or (None if weights.told.grid is None else Size(*weights.told.grid))
    if wanted is not None and max(wanted) > count:
        named = "--grid says" if said is None else f"the configuration beside {weights.path} says"
        raise (ConfigError if said is None else CheckpointError)(
            f"{named} a grid of more rows or columns than the {count:,} positions of the weights; they don't belong together"
        )
    for prefix in prefixes:
        grid = wanted or find_square(count - prefix, table)
        if grid is not None and count_places(grid, table) == count - prefix:
            assumed = f"a square grid of {grid} patches (--grid ROWS COLS says another)"
            return prefix, grid, () if wanted else (assumed,)
    left, what = count - prefixes[0], "offsets between patches" if table else "patches"
    if wanted is None:
        raise CheckpointError(
            f"{weights.path} has positions for {left} {what}, which is no square, and nothing beside the weights says how many "
            "rows and columns; say --grid ROWS COLS"
        )
    makes = f"{count_places(wanted, table)} {what}"
    if said is None:
        raise ConfigError(
            f"--grid {wanted.rows} {wanted.cols} makes {makes}, and {weights.path} has positions for {left}"
        )
    raise CheckpointError(
        f"the configuration beside {weights.path} says a grid of {said}, {makes}, and the weights have positions for {left}; "
        "they don't belong together"
    )


def count_places(grid: Size, table: bool = False) -> int:
    """Count a grid's patches, or the offsets between two of them."""
    return (2 * grid.rows - 1) * (2 * grid.cols - 1) if table else grid.rows * grid.cols


def find_square(count: int, table: bool = False) -> Size | None:
    """Return the square grid of so many patches, or offsets between them; None if there is none."""
    side = math.isqrt(max(0, count))
    if side * side != count or not side or (table and side % 2 == 0):
        return None
    side = (side + 1) // 2 if table else side
    return Size(side, side)


def get_shape(tensors: Mapping[str, Tensor], name: str, where: str) -> tuple[int, ...]:
    """Return a tensor's shape; raises CheckpointError if it isn't there."""
    if name not in tensors:
        raise CheckpointError(f"{where} has no {name}, which every model of this kind has")
    return tuple(tensors[name].shape)


def explain_not_plain(config: ViTConfig, names: Iterable[str], knower: str) -> str | None:
    """Say which of these fields isn't that of the paper's ViT, where a format knows only that; None if all are."""
    if config.block.attention != "full":
        return f"its attention is {config.block.attention}; {knower} knows only full attention"
    plain = ViTConfig()
    for name in names:
        if getattr(config, name) != getattr(plain, name):
            return f"{name} is {getattr(config, name)!r}; {knower} knows only {getattr(plain, name)!r}"
    return None


def has_tensor(tensors: Mapping[str, Tensor], pattern: str) -> bool:
    """Tell whether a name matches."""
    return any(re.search(pattern, name) for name in tensors)


HEADS_OF = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16, 4096: 32, 32: 2}
"""Heads by width, of the published models; of others, 64 values a head."""


def guess_heads(width: int) -> int:
    """Return the heads that published models of this width have."""
    return HEADS_OF.get(width, max(1, width // 64))


def find_heads(weights: Weights, width: int, said: int | None = None, usual: int | None = None) -> tuple[int, Notes]:
    """Return the attention heads: as the file says, else as the user does, else as is usual, with a note.

    Args:
        weights: where they come from, and what the user says.
        width: of the model.
        said: the heads that a configuration beside the file names.
        usual: what is usual, where the family knows it better than `guess_heads`.

    Raises:
        CheckpointError: heads that can't share the width. ConfigError: the user says such.
    """
    told = weights.told.heads
    heads = said if said is not None else told if told is not None else usual or guess_heads(width)
    if heads > 0 and width % heads == 0:
        silent = said is not None or told is not None
        return heads, () if silent else (
            f"{heads} heads, as is usual at width {width} (--heads N says another number)",
        )
    if said is None and told is None:
        raise CheckpointError(
            f"{weights.path}: nobody's ViT of width {width} is known here, so its heads aren't; say --heads N"
        )
    if said is None:
        raise ConfigError(f"--heads {heads}: so many can't share the width of {weights.path}, which is {width}")
    raise CheckpointError(f"{weights.path}: {heads} heads can't share a width of {width}")
