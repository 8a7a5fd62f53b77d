"""Resize a grid of position embeddings by a named rule, as a constant matrix."""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import UnknownName
from vitreous.shapes import Float, Float64, Size

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
OFFSET_RULES = ("geometric",)
"""Rules only for tables over the offsets of two patches. geometric is BEiT's: the old offsets are spread over the
new ones in a geometric progression, dense near zero, and linear interpolation reads between them (timm's reader; the
authors' fine-tuning script does the same with cubic splines)."""
ALL_RULES = (*RULES, *OFFSET_RULES)
DEFAULT_RULE = "bicubic-antialias"
OFFSET = 0.1
"""The offset in DINOv2's bicubic-offset."""


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
    if to.cols == 1:  # torch 2.13 with antialias fills such a column with its first value; a row is right
        return interpolate(units.mT, to[::-1], rule).mT.flatten(1).T
    return interpolate(units, to, rule).flatten(1).T


@functools.lru_cache(maxsize=128)
def find_resize_matrix(start: Size, to: Size, rule: str) -> Float64[Tensor, "new old"]:
    """Return `resize_matrix`, kept for the next time; not to be changed in place."""
    with torch.inference_mode(False):  # gradients may pass through it the next time
        return resize_matrix(start, to, rule)


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


def geometric_matrix(start: Size, to: Size) -> Float64[Tensor, "new old"]:
    """Return the constant matrix of BEiT's rule for a table over offsets, both grids odd (2 rows - 1, 2 cols - 1)."""
    rows, cols = (geometric_line(old, new) for old, new in zip(start, to, strict=True))
    return torch.kron(rows, cols)


def geometric_line(old: int, new: int) -> Float64[Tensor, "new old"]:
    """Return BEiT's rule along one axis: old offsets at 0, +-1, +-(1 + q), +-(1 + q + q^2) ..., the last at the new end.

    q is found by bisection between 1.01 and 1.5, as the authors do (microsoft/unilm, beit/run_class_finetuning.py), so
    that a table which shrinks, or grows by much, is cut or held at its ends.
    """
    half, low, high = old // 2, 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**half) / (1 - ratio) > new // 2:
            high = ratio
        else:
            low = ratio
    steps = np.cumsum(ratio ** np.arange(half))
    places = np.concatenate([-steps[::-1], [0.0], steps])
    wanted = np.arange(new) - new // 2
    return torch.from_numpy(np.stack([np.interp(wanted, places, unit) for unit in np.eye(old)], axis=1))
