"""The interface of a family of checkpoints: how it is recognised, configured, mapped and preprocessed."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import Config
from vitreous.shapes import Size
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALF = {"mean": (0.5,), "std": (0.5,)}

MULTI_LABEL = "multi_label_classification"
"""The problem_type in a config.json for images that may have several classes (transformers)."""


CLASS_OFFSETS = 3
"""Entries of a BEiT's table of relative positions for [class] to patch, patch to [class], and [class] to itself."""
Notes = tuple[str, ...]
"""Assumptions, for the report."""


@dataclass(frozen=True)
class ForeignModel:
    """A family's interpretation of somebody's weights."""

    model: Config
    """The architecture, at the resolution of the file."""
    preprocess: PreprocessConfig
    resize: str
    """The rule by which this origin resizes its position grid."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Their tensors, without the prefixes of wrappers."""
    assumed: tuple[str, ...] = ()
    """Facts that the file doesn't state, taken from the family's defaults."""
    classes: tuple[str, ...] = ()
    """Names of the outputs, if the file has them."""
    ignored: tuple[str, ...] = ()
    """Patterns of names that are not part of an image classifier, such as a text tower or a decoder."""


@dataclass(frozen=True)
class Family:
    """One origin of checkpoints."""

    name: str
    title: str
    """Who writes such files, for reports."""
    recognise: Callable[[Weights], float]
    """How certainly these weights are of this family: 0 no, 1 by keys and shapes, 2 by a configuration that names
    it."""
    interpret: Callable[[Weights, str | None], ForeignModel]
    """Read the architecture; the second argument is the user's name for it (--as), one that the family knows."""
    table: Callable[[Any], Table]
    """The rules, for an architecture of the family's kind."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Names for --as that settle what keys and shapes leave open, and what each means."""
    unwritable: Callable[[Any], str | None] | None = None
    """Return why a model of that kind can't be written in this format, or None if it can; without it the family is
    only read."""
    container: Literal["safetensors", "npz"] = "safetensors"
    sidecars: Callable[[Any], dict[str, dict[str, Any]]] | None = None
    """JSON files to write with the weights, by name, from a model folder."""
    constants: Callable[[Any], dict[str, Tensor]] | None = None
    """Constants that their files hold beside the weights, for an architecture of the family's kind."""
    kind: Literal["vit", "resnet", "efficientnet", "swin"] = "vit"
    """The kind of models in such files."""


def find_grid(
    weights: Weights, count: int, prefixes: Sequence[int], said: Size | None = None, table: bool = False
) -> tuple[int, Size, Notes]:
    """Return the grid for learned positions: from the file, else from the user, else a square, with a note.

    Args:
        weights: the weights, with the user's statements about them.
        count: number of positions, including those of prefix tokens.
        prefixes: how many of them may belong to prefix tokens, the most likely first.
        said: the grid in a configuration next to the file.
        table: whether there is one for each offset of two patches, rather than for each patch.

    Returns:
        how many of the positions belong to prefix tokens, the grid, and the assumptions.

    Raises:
        CheckpointError: the file's grid has another number of positions; or no grid is given, and the number is no
            square.
        ConfigError: the user's grid has another number of positions.
    """
    wanted = said or (None if weights.stated.grid is None else Size(*weights.stated.grid))
    if wanted is not None and max(wanted) > count:
        named = "--grid says" if said is None else f"the configuration next to {weights.path} says"
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
            f"{weights.path} has positions for {left} {what}, which is no square, and nothing beside the weights "
            "gives the number of rows and columns; say --grid ROWS COLS"
        )
    makes = f"{count_places(wanted, table)} {what}"
    if said is None:
        raise ConfigError(
            f"--grid {wanted.rows} {wanted.cols} makes {makes}, but {weights.path} has positions for {left}"
        )
    raise CheckpointError(
        f"the configuration next to {weights.path} says a grid of {said}, {makes}, but the weights have positions "
        f"for {left}; they don't belong together"
    )


def count_places(grid: Size, table: bool = False) -> int:
    """Count a grid's patches, or the offsets between two of them."""
    return (2 * grid.rows - 1) * (2 * grid.cols - 1) if table else grid.rows * grid.cols


def find_square(count: int, table: bool = False) -> Size | None:
    """Return the square grid with this number of patches, or offsets between them; None if there is none."""
    side = math.isqrt(max(0, count))
    if side * side != count or not side or (table and side % 2 == 0):
        return None
    side = (side + 1) // 2 if table else side
    return Size(side, side)


def get_shape(tensors: Mapping[str, Tensor], name: str, where: str) -> tuple[int, ...]:
    """Return a tensor's shape; raises CheckpointError if it is missing."""
    if name not in tensors:
        raise CheckpointError(f"{where} has no {name}, which every model of this kind has")
    return tuple(tensors[name].shape)


def explain_not_plain(config: ViTConfig, names: Iterable[str], knower: str) -> str | None:
    """Say which of these fields differs from the paper's ViT, for a format that knows only that; None if none does."""
    if config.block.attention != "full":
        return f"its attention is {config.block.attention}; {knower} knows only full attention"
    if config.attention_width != config.width:
        return f"its heads are {config.attention_width} wide together; {knower} knows only heads that share the width, {config.width}"
    plain = ViTConfig()
    for name in names:
        if getattr(config, name) != getattr(plain, name):
            return f"{name} is {getattr(config, name)!r}; {knower} knows only {getattr(plain, name)!r}"
    return None


def has_tensor(tensors: Mapping[str, Tensor], pattern: str) -> bool:
    """Return whether a name matches."""
    return any(re.search(pattern, name) for name in tensors)


HEADS_OF = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16, 4096: 32, 32: 2}
"""Heads by width, of the published models; others have 64 values per head."""


def guess_heads(width: int) -> int:
    """Return the number of heads in published models of this width."""
    return HEADS_OF.get(width, max(1, width // 64))


def find_heads(weights: Weights, width: int, said: int | None = None, usual: int | None = None) -> tuple[int, Notes]:
    """Return the attention heads: from the file, else from the user, else the usual number, with a note.

    Args:
        weights: the weights, with the user's statements about them.
        width: of the model.
        said: the heads in a configuration next to the file.
        usual: the usual number, if the family knows it better than `guess_heads`.

    Raises:
        CheckpointError: heads that don't divide the width. ConfigError: the user's don't.
    """
    told = weights.stated.heads
    heads = said if said is not None else told if told is not None else usual or guess_heads(width)
    if heads > 0 and width % heads == 0:
        silent = said is not None or told is not None
        return heads, () if silent else (
            f"{heads} heads, as is usual at width {width} (--heads N says another number)",
        )
    if said is None and told is None:
        raise CheckpointError(
            f"{weights.path}: no published ViT of width {width} is known here, so neither is its number of heads; "
            "say --heads N"
        )
    if said is None:
        raise ConfigError(f"--heads {heads} doesn't divide the width of {weights.path}, which is {width}")
    raise CheckpointError(f"{weights.path}: {heads} heads don't divide a width of {width}")
