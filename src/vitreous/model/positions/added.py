"""Position embeddings that are added to the tokens (2010.11929, sections 3.1 and 3.2, appendix D.4).

relative.py and rotary.py hold those that act inside the attention; resize.py resizes grids.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.config import ViTConfig
from vitreous.model.parameters import TABLE, Role
from vitreous.model.positions.resize import DEFAULT_RULE, RULES, find_resize_matrix, resize_grid, resize_matrix
from vitreous.shapes import Float, Size

__all__ = [
    "DEFAULT_RULE",
    "RULES",
    "AddedPositions",
    "build_positions",
    "encode_sincos_2d",
    "resize_grid",
    "resize_matrix",
]


class AddedPositions(nn.Module):
    """A vector added at each position of the sequence; those of the placed prefix tokens come first."""

    matrix: Tensor | None

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config, self.grid = config, config.grid
        self.prefix, self.unplaced = config.placed_prefix, config.prefix - config.placed_prefix
        self.register_buffer("matrix", None, persistent=False)

    def vectors(self) -> Float[Tensor, "token dim"]:
        """Return the vectors of the placed prefix tokens and of the trained grid's patches, row by row."""
        raise NotImplementedError

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Add each place's vector."""
        places = self.vectors()
        if self.matrix is not None:
            places = torch.cat([places[: self.prefix], self.matrix @ places[self.prefix :]])
        return tokens + self.spread(places).to(tokens.dtype)

    def vectors_on(self, grid: Size, rule: str = DEFAULT_RULE) -> Float[Tensor, "token dim"]:
        """Return the vectors of a sequence on another grid, of all its tokens; gradients reach what they are made from. As those of
        the module that `resize` makes."""
        places = self.vectors()
        if grid != self.grid:
            matrix = find_resize_matrix(self.grid, grid, rule).to(places)
            places = torch.cat([places[: self.prefix], matrix @ places[self.prefix :]])
        return self.spread(places)

    def spread(self, places: Float[Tensor, "place dim"]) -> Float[Tensor, "token dim"]:
        """Return the vectors of all tokens: prefix tokens without a position are between those with one and the patches."""
        if not self.unplaced:
            return places
        nowhere = places.new_zeros(self.unplaced, places.shape[1])
        return torch.cat([places[: self.prefix], nowhere, places[self.prefix :]])

    def place(self, grid: Size) -> None:
        """Serve another grid from the same vectors, averaged over the cells that each new cell covers."""
        matrix = None if grid == self.grid else resize_matrix(self.grid, grid, "area").to(self.vectors())
        self.matrix = matrix

    def resize(self, to: Size, rule: str) -> dict[str, Tensor]:
        """Return this module's state for another grid."""
        return {}


class Learned(AddedPositions):
    """The paper's standard: one learned vector for each place."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        count = config.grid.rows * config.grid.cols + config.placed_prefix
        self.embedding = nn.Parameter(torch.empty(count, config.width))
        self.roles = {"embedding": Role(decays=False, start=None) if config.position_init == "sincos2d" else TABLE}

    def start(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Fill vectors that start as sines and cosines."""
        vectors.copy_(encode_places(self.config))

    def vectors(self) -> Float[Tensor, "token dim"]:
        """Return the learned vectors."""
        return self.embedding

    def resize(self, to: Size, rule: str) -> dict[str, Tensor]:
        """Interpolate the patches' vectors as a grid; the prefix tokens' stay."""
        vectors = self.embedding.detach()
        grid = resize_grid(vectors[self.prefix :].view(*self.grid, -1), to, rule).flatten(0, 1)
        return {"embedding": torch.cat([vectors[: self.prefix], grid])}


class Learned2D(AddedPositions):
    """A learned vector of half the width for each row and one for each column, side by side: columns (x) first."""

    roles: ClassVar = dict.fromkeys(("prefix_embedding", "col_embedding", "row_embedding"), TABLE)

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        half = config.width // 2
        self.prefix_embedding = nn.Parameter(torch.empty(config.placed_prefix, config.width)) if self.prefix else None
        self.col_embedding = nn.Parameter(torch.empty(config.grid.cols, half))
        self.row_embedding = nn.Parameter(torch.empty(config.grid.rows, half))

    def vectors(self) -> Float[Tensor, "token dim"]:
        """Return each place's column and row halves, side by side."""
        shape = (*self.grid, self.col_embedding.shape[1])
        grid = torch.cat([self.col_embedding[None].expand(shape), self.row_embedding[:, None].expand(shape)], dim=2)
        grid = grid.flatten(0, 1)
        return grid if self.prefix_embedding is None else torch.cat([self.prefix_embedding, grid])

    def resize(self, to: Size, rule: str) -> dict[str, Tensor]:
        """Interpolate rows and columns, each as a line."""
        cols = resize_grid(self.col_embedding.detach()[None], Size(1, to.cols), rule)[0]
        rows = resize_grid(self.row_embedding.detach()[:, None], Size(to.rows, 1), rule)[:, 0]
        return {"col_embedding": cols, "row_embedding": rows}


class SinCos(AddedPositions):
    """Fixed 2-D sines and cosines; prefix tokens get zeros. Nothing is learned."""

    embedding: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.register_buffer("embedding", encode_places(config), persistent=False)

    def vectors(self) -> Float[Tensor, "token dim"]:
        """Return the fixed vectors."""
        return self.embedding

    def vectors_on(self, grid: Size, rule: str = DEFAULT_RULE) -> Float[Tensor, "token dim"]:
        """Return the formula's vectors on another grid."""
        patch = self.config.patch
        image = (grid.rows * patch[0], grid.cols * patch[1])
        return self.spread(encode_places(replace(self.config, image=image)).to(self.embedding))


def build_positions(config: ViTConfig) -> AddedPositions | None:
    """Build the added position embedding that the configuration names, if any."""
    kinds = {"learned": Learned, "learned2d": Learned2D, "sincos2d": SinCos, "sincos2d-mae": SinCos}
    return kinds[config.positions](config) if config.positions in kinds else None


def encode_places(config: ViTConfig) -> Float[Tensor, "token dim"]:
    """Return the fixed vectors of all placed tokens of a sequence; zeros for the prefix."""
    mae = config.positions == "sincos2d-mae"
    grid = encode_sincos_2d(config.grid, config.width, config.position_temperature, mae).flatten(0, 1)
    return F.pad(grid, (0, 0, config.placed_prefix, 0))


def encode_sincos_2d(
    grid: Size, width: int, temperature: float = 10_000.0, mae: bool = False
) -> Float[Tensor, "row col dim"]:
    """Return sin(col w), cos(col w), sin(row w), cos(row w), a quarter of the width each.

    The frequencies w fall geometrically from 1 to 1 / temperature (MoCo v3, 2104.02057; big_vision); with `mae` the
    last one is one step short of that (MAE, 2111.06377).
    """
    quarter = width // 4
    last = quarter if mae else max(1, quarter - 1)
    frequencies = temperature ** -(torch.arange(quarter, dtype=torch.float64, device="cpu") / last)
    rows = torch.arange(grid.rows, dtype=torch.float64, device="cpu").view(-1, 1, 1) * frequencies
    cols = torch.arange(grid.cols, dtype=torch.float64, device="cpu").view(1, -1, 1) * frequencies
    rows, cols = torch.broadcast_tensors(rows, cols)
    return torch.cat([cols.sin(), cols.cos(), rows.sin(), rows.cos()], dim=2).float()
