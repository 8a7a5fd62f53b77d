"""What a model has learned about positions (2010.11929, figure 7, middle, and figure 10), for every kind of
position."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.insight.attention import resolve_index
from vitreous.insight.tokens import require_vit
from vitreous.model.attention import Attention
from vitreous.model.positions.added import AddedPositions
from vitreous.model.positions.offset_bias import OffsetBias
from vitreous.model.positions.relative import Relative
from vitreous.model.vit import ViT
from vitreous.shapes import Float, Size


@dataclass(frozen=True)
class PlaceMap:
    """How strongly two places are related, for all pairs: [r, c] is the small picture of row r, column c."""

    name: str
    """Which positions: "input", "layer 3", "layer 3, head 5", "rotary"; layers and heads counted from 0."""
    values: Float[Tensor, "row col row2 col2"]
    """In float64, on the CPU."""
    kind: Literal["cosine", "logit"]
    """cosine: similarity, -1 to 1. logit: what is added to the attention's logits, of any size."""
    of: str
    """Description of what is compared."""


def compute_position_maps(model: nn.Module) -> list[PlaceMap]:
    """Return every map of places that a model has, input first, then layer by layer; empty if it has none.

    Added positions: cosine similarity of the vectors of two places. relative: cosine similarity of the embedding of the
    offset between two places and that of no offset. bias: what each head adds to the logits. rotary: the mean over all
    frequencies of the cosine of the angle between two places, which is the similarity of one vector rotated to both.

    Raises:
        ConfigError: not a ViT.
    """
    vit = require_vit(model, "position embedding")
    return [*_compare_added(vit), *_compare_relative(vit), *_compare_rotary(vit)]


def compute_similarity(model: nn.Module, layer: int = 0) -> Float[Tensor, "row col row2 col2"]:
    """Return the cosine similarity of each patch's position embedding with every other's, -1 to 1, in float64.

    [r, c] is the small picture that figure 7 shows at row r and column c. [class] has no place and is left out. A
    vector of zeros is similar to nothing: 0. `layer` selects the vectors if every layer has its own (table 8).

    Raises:
        ConfigError: the model adds no position embedding; `compute_position_maps` shows what acts inside the attention.
    """
    vit = require_vit(model, "position embedding")
    if vit.positions is None:
        raise ConfigError(
            f"positions={vit.config.positions!r} adds no vectors to the tokens, so there are none to compare"
        )
    index = resolve_index(layer, vit.config.depth, "layer")
    own = vit.layer_positions[index - 1] if index and len(vit.layer_positions) else vit.positions
    assert isinstance(own, AddedPositions)
    return _compute_cosines(own)


def _compute_cosines(positions: AddedPositions) -> Float[Tensor, "row col row2 col2"]:
    patches = positions.vectors().detach()[positions.prefix :]
    unit = F.normalize(patches.cpu().to(torch.float64), dim=1)
    return (unit @ unit.T).clamp(-1, 1).view(*positions.grid, *positions.grid)


def _compare_added(model: ViT) -> Iterator[PlaceMap]:
    if model.positions is None:
        return
    kind = {"learned": "learned vectors", "learned2d": "learned vectors of rows and columns"}.get(
        model.config.positions, "fixed sines and cosines"
    )
    yield PlaceMap("input", compute_similarity(model), "cosine", kind)
    for layer, own in enumerate(model.layer_positions, start=1):
        assert isinstance(own, AddedPositions)
        yield PlaceMap(f"layer {layer}", _compute_cosines(own), "cosine", kind)


def _compare_relative(model: ViT) -> Iterator[PlaceMap]:
    if model.relative is not None:
        yield from _compare_tables(model.relative, "all layers", model.grid)
        return
    for layer in range(model.config.depth):
        attention = model.get_submodule(f"blocks.{layer}.attention")
        assert isinstance(attention, Attention)
        if attention.relative is not None:
            yield from _compare_tables(attention.relative, f"layer {layer}", model.grid)


def _compare_tables(relative: Relative | OffsetBias, where: str, cells: Size) -> Iterator[PlaceMap]:
    if isinstance(relative, OffsetBias):
        biases = relative.biases().detach().cpu().double()[0, :, relative.prefix :, relative.prefix :]
        for head, bias in enumerate(biases):
            yield PlaceMap(
                f"{where}, head {head}", bias.view(*cells, *cells), "logit", "bias of the attention's logits"
            )
        return
    table = relative.table.detach().cpu().double()
    if relative.matrix is not None:
        table = relative.matrix.cpu().double() @ table
    rows = relative.places.cpu()[relative.prefix :, relative.prefix :].reshape(*cells, *cells)
    if relative.kind == "relative":
        unit = F.normalize(table, dim=1)
        likeness = (unit @ unit[len(unit) // 2]).clamp(-1, 1)
        of = "embeddings of the offset between two patches, and of no offset"
        yield PlaceMap(where, likeness[rows], "cosine", of)
        return
    for head in range(table.shape[1]):
        yield PlaceMap(f"{where}, head {head}", table[:, head][rows], "logit", "bias of the attention's logits")


def _compare_rotary(model: ViT) -> Iterator[PlaceMap]:
    if model.rotary is not None:
        yield _compare_angles("rotary", *model.rotary(), model.grid)
    for layer in range(model.config.depth):
        attention = model.get_submodule(f"blocks.{layer}.attention")
        if isinstance(attention, Attention) and attention.rotary is not None:
            for head, (cos, sin) in enumerate(zip(*attention.rotary(), strict=True)):
                yield _compare_angles(f"rotary, layer {layer}, head {head}", cos, sin, model.grid)


def _compare_angles(where: str, cos: Tensor, sin: Tensor, cells: Size) -> PlaceMap:
    cos, sin = (part.detach().cpu().double() for part in (cos, sin))
    likeness = ((cos @ cos.T + sin @ sin.T) / cos.shape[1]).clamp(-1, 1)
    return PlaceMap(where, likeness.view(*cells, *cells), "cosine", "rotations of q and k")
