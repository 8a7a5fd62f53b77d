"""How a grid of position embeddings becomes one of another size: by a named rule, as a constant matrix."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import UnknownName
from vitreous.shapes import Size

RULES = {
    "linear-corners": {"mode": "bilinear", "align_corners": True},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear-antialias": {"mode": "bilinear", "align_corners": False, "antialias": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic-antialias": {"mode": "bicubic", "align_corners": False, "antialias": True},
    "bicubic-offset": {"mode": "bicubic", "align_corners": False},
    "area": {"mode": "area"},
    "bicubic-corners": {"mode": "bicubic", "align_corners": True},
}
"""The rules in use, by name: kernel, alignment of the grids, antialias when shrinking (torch's bicubic has a = -0.75
without antialias and -0.5 with it, so the flag matters when enlarging too). bicubic-offset is DINOv2's: the scale is
computed from the new size plus 0.1. docs/checkpoints.md says which origin uses which."""
DEFAULT_RULE = "bicubic-antialias"
OFFSET = 0.1
"""Of DINOv2's bicubic-offset."""


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
    units = torch.eye(cells, dtype=torch.float64, device="cpu").view(cells, 1, *start)
    if to.cols == 1:  # torch 2.13 with antialias fills such a column with its first value; a row comes out right
        return interpolate(units.mT, to[::-1], rule).mT.flatten(1).T
    return interpolate(units, to, rule).flatten(1).T


def interpolate(
    units: Float64[Tensor, "cell 1 row col"], to: tuple[int, int], rule: str
) -> Float64[Tensor, "cell 1 row2 col2"]:
    """Resize grids by a named rule, as torch does."""
    if rule == "bicubic-offset":
        scale = tuple((new + OFFSET) / old for new, old in zip(to, units.shape[2:], strict=True))
        return F.interpolate(units, scale_factor=scale, recompute_scale_factor=False, **RULES[rule])
    return F.interpolate(units, size=tuple(to), **RULES[rule])


def resize_grid(
    grid: Float[Tensor, "row col dim"], to: Size, rule: str = DEFAULT_RULE
) -> Float[Tensor, "row2 col2 dim"]:
    """Resize a grid of vectors by a named rule, computed in float64 and returned in the grid's own precision."""
    start = Size(*grid.shape[:2])
    if start == to:
        return grid
    cells = grid.flatten(0, 1).cpu().double()  # some devices have no float64
    return (resize_matrix(start, to, rule) @ cells).to(grid).view(*to, -1)
