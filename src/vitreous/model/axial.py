"""Axial attention: along the rows or the columns of the patch grid (2010.11929, appendix D.6; 1912.12180)."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from vitreous.model.attention import NOWHERE, Attention, Heads, Places, build_bias
from vitreous.model.config import ViTConfig
from vitreous.shapes import Bool, Float, Size

Axis = Literal["rows", "cols"]
"""The kind of lines: a patch attends to those of its row, or of its column."""
WHOLE = "batch head (row col) head_dim"
LINES = {"rows": "(batch row) head col head_dim", "cols": "(batch col) head row head_dim"}


class AxialAttention(Attention):
    """Self-attention along one axis: every row, or every column, of every image is a sequence of its own.

    The layers are those of full attention, so weights have the same names and shapes.
    """

    def __init__(self, config: ViTConfig, axis: Axis) -> None:
        super().__init__(config)
        self.axis: Axis = axis

    def gather(
        self, tokens: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token inner"]:
        """Let every patch attend to those of its line."""
        assert places.grid is not None
        q, k, v, _ = super().compute_heads(self.project(tokens), places)
        lines = Heads(*(split_lines(part, places.grid, self.axis) for part in (q, k, v)), bias=None)
        return self.concatenate(join_lines(self.attend(lines), places.grid, self.axis))

    def compute_heads(self, projected: Float[Tensor, "batch token dim3"], places: Places) -> Heads:
        """Return the input of full attention's kernel that gives the same result: minus infinity off each query's line.

        For looking inside only: `forward` makes no token x token matrix.
        """
        assert places.grid is not None
        mask = build_line_mask(places.grid, self.axis, projected.device)
        return super().compute_heads(projected, places._replace(bias=build_bias(mask)))


def split_lines(
    heads: Float[Tensor, "batch head token head_dim"], grid: Size, axis: Axis
) -> Float[Tensor, "line head place head_dim"]:
    """Split each image's patches, listed row by row, into its rows or columns; lines of one image follow one
    another."""
    return rearrange(heads, f"{WHOLE} -> {LINES[axis]}", row=grid.rows, col=grid.cols)


def join_lines(
    lines: Float[Tensor, "line head place head_dim"], grid: Size, axis: Axis
) -> Float[Tensor, "batch head token head_dim"]:
    """Join lines again: the inverse of `split_lines`."""
    return rearrange(lines, f"{LINES[axis]} -> {WHOLE}", row=grid.rows, col=grid.cols)


def build_line_mask(grid: Size, axis: Axis, device: torch.device) -> Bool[Tensor, "query key"]:
    """Return which patches are in the same row, or column."""
    place = torch.arange(grid.rows * grid.cols, device=device)
    line = place // grid.cols if axis == "rows" else place % grid.cols
    return line[:, None] == line[None, :]
