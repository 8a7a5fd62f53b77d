"""Rotary positions in two dimensions, as in EVA-02 (2303.11331), DINOv3 (2508.10104) and RoPE-ViT (2403.13298)."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vitreous.model.config import RotaryConfig, ViTConfig
from vitreous.model.parameters import Role
from vitreous.shapes import Float, Size


class Angles(NamedTuple):
    """Cosines and sines of every patch's angles."""

    cos: Float[Tensor, "*head patch head_dim"]
    sin: Float[Tensor, "*head patch head_dim"]


class Rotary(nn.Module):
    """Angles of a grid's patches. Nothing is learned; another grid has other angles, by the same formula."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config, self.grid = config, config.grid
        self.register_buffer("cos", None, persistent=False)
        self.register_buffer("sin", None, persistent=False)
        self._set(config.grid)

    def forward(self) -> Angles:
        """Return the angles of the present grid."""
        return Angles(self.cos, self.sin)

    def place(self, grid: Size) -> None:
        """Serve another grid over the same picture: its cells are at the centres of those that they cover."""
        self._set(grid)

    def _set(self, grid: Size) -> None:
        config = self.config.rotary
        down, across = self.grid.rows / grid.rows, self.grid.cols / grid.cols
        rows = (torch.arange(grid.rows, dtype=torch.float64, device="cpu") + 0.5) * down - 0.5
        cols = (torch.arange(grid.cols, dtype=torch.float64, device="cpu") + 0.5) * across - 0.5
        head = self.config.per_head
        wavelengths = config.temperature ** (torch.arange(head // 4, dtype=torch.float64, device="cpu") / (head // 4))
        if config.rounded:
            wavelengths = wavelengths.bfloat16().double()
        if config.kind == "cells":
            angles = compute_cell_angles(rows, cols, self.grid, 1 / wavelengths, config)
        else:
            angles = compute_centred_angles(rows, cols, self.grid, 1 / wavelengths)
        old = self.cos
        device = old.device if old is not None else angles.device
        self.cos, self.sin = (wave.float().to(device) for wave in (angles.cos(), angles.sin()))


class MixedRotary(nn.Module):
    """Angles of a grid's patches for the heads of one block: row and column, times learned frequencies."""

    roles: ClassVar = {"frequencies": Role(decays=False, start=None)}
    row: Tensor
    col: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.grid, self.temperature = config.grid, config.rotary.temperature
        self.frequencies = nn.Parameter(torch.empty(2, config.heads, config.per_head // 2))
        """Of columns and of rows."""
        self.register_buffer("row", None, persistent=False)
        self.register_buffer("col", None, persistent=False)
        self.place(config.grid)

    def forward(self) -> Angles:
        """Return the angles of the present grid, of each head."""
        across, down = self.frequencies.float()[:, :, None]
        turns = (self.col[:, None] * across + self.row[:, None] * down).repeat_interleave(2, dim=2)
        return Angles(turns.cos(), turns.sin())

    def place(self, grid: Size) -> None:
        """Serve another grid over the same picture: its cells are at the centres of those that they cover."""
        device = self.frequencies.device if self.frequencies.device.type != "meta" else torch.device("cpu")
        rows = (torch.arange(grid.rows, dtype=torch.float64, device="cpu") + 0.5) * (self.grid.rows / grid.rows) - 0.5
        cols = (torch.arange(grid.cols, dtype=torch.float64, device="cpu") + 0.5) * (self.grid.cols / grid.cols) - 0.5
        self.row = rows.repeat_interleave(grid.cols).float().to(device)
        self.col = cols.repeat(grid.rows).float().to(device)

    def start(self, frequencies: Float[Tensor, "axis head half"], generator: torch.Generator) -> None:
        """Fill with falling frequencies in two directions, rotated by a random angle per head."""
        heads, quarter = frequencies.shape[1], frequencies.shape[2] // 2
        size = self.temperature ** -(torch.arange(quarter) / quarter)
        turn = torch.rand((heads, 1), generator=generator) * 2 * math.pi
        across = torch.cat([size * turn.cos(), size * (turn + math.pi / 2).cos()], dim=1)
        down = torch.cat([size * turn.sin(), size * (turn + math.pi / 2).sin()], dim=1)
        frequencies.copy_(torch.stack([across, down]))


def compute_cell_angles(
    rows: Tensor, cols: Tensor, grid: Size, frequencies: Tensor, config: RotaryConfig
) -> Float[Tensor, "patch head_dim"]:
    """EVA-02: a cell's row and column times falling frequencies, each for two neighbouring values; rows first by
    default."""
    rows, cols = rows + config.offset, cols + config.offset
    if config.reference is not None:
        rows, cols = rows * config.reference[0] / grid.rows, cols * config.reference[1] / grid.cols
    outer = _multiply_outer(rows, cols, frequencies)
    outer = outer.flip(2) if config.columns_first else outer
    return outer.flatten(2).repeat_interleave(2, dim=2).flatten(0, 1)


def compute_centred_angles(
    rows: Tensor, cols: Tensor, grid: Size, frequencies: Tensor
) -> Float[Tensor, "patch head_dim"]:
    """DINOv3: coordinates from -1 to 1 at the outer edges, times 2 pi and falling frequencies; both halves the same."""
    rows, cols = (2 * (part + 0.5) / count - 1 for part, count in ((rows, grid.rows), (cols, grid.cols)))
    return _multiply_outer(rows, cols, 2 * math.pi * frequencies).flatten(2).repeat(1, 1, 2).flatten(0, 1)


def _multiply_outer(rows: Tensor, cols: Tensor, frequencies: Tensor) -> Float[Tensor, "row col axis quarter"]:
    shape = (len(rows), len(cols), len(frequencies))
    down, across = (rows[:, None, None] * frequencies).expand(shape), (cols[None, :, None] * frequencies).expand(shape)
    return torch.stack([down, across], dim=2)


def rotate(
    heads: Float[Tensor, "batch head token head_dim"], angles: Angles, kind: str
) -> Float[Tensor, "batch head token head_dim"]:
    """Rotate each patch's q or k by its angles; tokens before the patches have no position and stay as they are."""
    prefix = heads.shape[2] - angles.cos.shape[-2]
    patches = heads[:, :, prefix:]
    if kind in ("cells", "mixed"):
        turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    else:
        first, second = patches.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    patches = (patches * angles.cos + turned * angles.sin).to(heads.dtype)
    return torch.cat([heads[:, :, :prefix], patches], dim=2) if prefix else patches
