"""Position embeddings, and how their grid is resized (2010.11929, sections 3.1 and 3.2)."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import UnknownName
from vitreous.model.config import ViTConfig
from vitreous.shapes import Size

RULES = {
    "linear-corners": {"mode": "bilinear", "align_corners": True},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear-antialias": {"mode": "bilinear", "align_corners": False, "antialias": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic-antialias": {"mode": "bicubic", "align_corners": False, "antialias": True},
    "area": {"mode": "area"},
    "bicubic-corners": {"mode": "bicubic", "align_corners": True},
}
"""The rules in use, by name: kernel, alignment of the grids, antialias when shrinking (torch's bicubic has a = -0.75
without antialias and -0.5 with it, so the flag matters when enlarging too)."""
DEFAULT_RULE = "bicubic-antialias"


class AddedPositions(nn.Module):
    """A vector for each place of the sequence, added at the input; [class] first where there is one."""

    embedding: Tensor
    matrix: Tensor | None

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.prefix, self.grid = int(config.class_token), config.grid
        self.register_buffer("matrix", None, persistent=False)

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Add each place's vector."""
        places = self.embedding
        if self.matrix is not None:
            places = torch.cat([places[: self.prefix], self.matrix @ places[self.prefix :]])
        return tokens + places.to(tokens.dtype)

    def place(self, grid: Size) -> None:
        """Serve another grid from the same vectors, averaged over the cells that each new cell covers."""
        matrix = None if grid == self.grid else resize_matrix(self.grid, grid, "area").to(self.embedding)
        self.matrix = matrix


class Learned(AddedPositions):
    """The paper's standard: one learned vector for each place."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Parameter(torch.empty(config.tokens, config.width))


class SinCos(AddedPositions):
    """Fixed 2-D sines and cosines (MoCo v3, 2104.02057; big_vision); [class] gets zeros. Nothing is learned."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.register_buffer("embedding", sincos_places(config), persistent=False)


def positions(config: ViTConfig) -> nn.Module:
    """Return the position embedding that the configuration names; "none" adds nothing."""
    return {"learned": Learned, "sincos2d": SinCos, "none": lambda _: nn.Identity()}[config.positions](config)


def sincos_places(config: ViTConfig) -> Float[Tensor, "token dim"]:
    """Return the fixed vectors of all places of a sequence; zeros for [class]."""
    grid = sincos_2d(config.grid, config.width, config.position_temperature).flatten(0, 1)
    return F.pad(grid, (0, 0, int(config.class_token), 0))


def sincos_2d(grid: Size, width: int, temperature: float = 10_000.0) -> Float[Tensor, "row col dim"]:
    """Return sin(col w), cos(col w), sin(row w), cos(row w), a quarter of the width each.

    The frequencies w fall geometrically from 1 to 1 / temperature.
    """
    quarter = width // 4
    frequencies = temperature ** -(torch.arange(quarter, dtype=torch.float64, device="cpu") / max(1, quarter - 1))
    rows = torch.arange(grid.rows, dtype=torch.float64, device="cpu").view(-1, 1, 1) * frequencies
    cols = torch.arange(grid.cols, dtype=torch.float64, device="cpu").view(1, -1, 1) * frequencies
    rows, cols = torch.broadcast_tensors(rows, cols)
    return torch.cat([cols.sin(), cols.cos(), rows.sin(), rows.cos()], dim=2).float()


def resize_matrix(start: Size, to: Size, rule: str = DEFAULT_RULE) -> Float64[Tensor, "new old"]:
    """Return the constant matrix that resizes a grid by a named rule: (to cells, start cells), grids row by row.

    Interpolation is linear in the grid, so the rule applied to each unit grid gives the matrix's columns. As a matrix
    product the resize has a deterministic backward pass and exports as a constant.

    Raises:
        UnknownName: no such rule.
    """
    if rule not in RULES:
        raise UnknownName("resize rule", rule, RULES)
    cells = start.rows * start.cols
    units = torch.eye(cells, dtype=torch.float64).view(cells, 1, *start)
    return F.interpolate(units, size=tuple(to), **RULES[rule]).flatten(1).T


def resize_grid(
    grid: Float[Tensor, "row col dim"], to: Size, rule: str = DEFAULT_RULE
) -> Float[Tensor, "row2 col2 dim"]:
    """Resize a grid of vectors by a named rule, computed in float64 and returned in the grid's own precision."""
    start = Size(*grid.shape[:2])
    if start == to:
        return grid
    matrix = resize_matrix(start, to, rule).to(grid.device)
    return (matrix @ grid.flatten(0, 1).double()).to(grid.dtype).view(*to, -1)
