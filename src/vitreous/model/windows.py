"""Attention within windows, shifted or not (2103.14030, section 3.2), and the cosine attention of its second version."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.attention import NOWHERE, Attention, Heads, Places
from vitreous.model.config import ViTConfig
from vitreous.model.parameters import Constant, Role
from vitreous.model.positions.offset_bias import OffsetBias
from vitreous.shapes import Bool, Float, Size

MASKED = -100.0
"""Added to the logits of patches that meet in a window only because it was shifted; the authors' number, not minus infinity."""
FIRST_SCALE, LARGEST_SCALE = 10.0, 100.0
"""Initial and largest value of the scale of cosines (2111.09883, section 3.3, and the authors' code)."""
CUT = "batch (down row) (across col) dim -> batch (down across) (row col) dim"
JOINED = "batch (down across head) (row col) dim -> batch head (down row) (across col) dim"


class Directions(nn.Module):
    """Vectors at unit length."""

    def forward(
        self, vectors: Float[Tensor, "batch head token head_dim"]
    ) -> Float[Tensor, "batch head token head_dim"]:
        """Normalise each."""
        return F.normalize(vectors, dim=-1)


class ScaledDirections(nn.Module):
    """Queries at unit length, times a learned scale of each head: with keys at unit length, logits are scaled cosines.

    The kernel divides logits by the root of the head's width, which the queries are multiplied by here.
    """

    def __init__(self, heads: int, per_head: int) -> None:
        super().__init__()
        self.roles = {"log_scale": Role(decays=False, start=Constant(math.log(FIRST_SCALE)))}
        self.log_scale = nn.Parameter(torch.empty(heads, 1, 1))
        self.root = per_head**0.5

    def forward(
        self, queries: Float[Tensor, "batch head token head_dim"]
    ) -> Float[Tensor, "batch head token head_dim"]:
        """Normalise and scale each."""
        scale = self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        return F.normalize(queries, dim=-1) * (scale * self.root).to(queries.dtype)


class WindowAttention(Attention):
    """Self-attention within windows of the patch grid: the windows of an image are further heads of the kernel.

    The grid is padded with zeros to whole windows, after the norm and before q, k and v are made of it, as the authors'
    detection code does: patches attend to the padding too. Shifted, windows begin half a window further down and to the
    right; what is cut off there meets at the other end, masked. Along an axis with a single window nothing is shifted.

    Args:
        config: of the stage: the image is one window.
        shifted: whether windows are shifted by half of them.
        cosine: version 2: scaled cosines of q and k.
        trained: version 2: the window that offsets were scaled by in training.
    """

    mask: Tensor | None

    def __init__(self, config: ViTConfig, *, shifted: bool, cosine: bool = False, trained: Size | None = None) -> None:
        super().__init__(config)
        self.window, self.shifted, self.placed = config.grid, shifted, Size(0, 0)
        if cosine:
            self.q_norm, self.k_norm = ScaledDirections(config.heads, config.per_head), Directions()
            self.relative = OffsetBias(config, trained)
        self.register_buffer("mask", None, persistent=False)

    def place(self, grid: Size) -> None:
        """Prepare for a grid of patches: its mask is kept. Other grids are accepted as well."""
        self.placed, self.mask = grid, self._build_mask(grid, next(self.parameters()).device)

    def gather(
        self, tokens: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token inner"]:
        """Let every patch attend to those of its window."""
        assert places.grid is not None
        return self.concatenate(self.join(self.attend(self.window_heads(tokens, places)), places.grid))

    def window_heads(self, tokens: Float[Tensor, "batch token dim"], places: Places) -> Heads:
        """Return the kernel's input: the heads of the first window, then those of the next; the bias holds the mask."""
        assert places.grid is not None
        windows = self.cut(tokens, places.grid)
        count = windows.shape[1]
        q, k, v, bias = self.compute_heads(self.project(windows.flatten(0, 1)), NOWHERE)
        assert bias is not None
        mask = self.mask if places.grid == self.placed else self._build_mask(places.grid, tokens.device)
        bias = bias.expand(count, -1, -1, -1) if mask is None else bias + MASKED * mask[:, None].to(bias.dtype)
        side_by_side = (
            rearrange(part, "(batch window) head ... -> batch (window head) ...", window=count) for part in (q, k, v)
        )
        return Heads(*side_by_side, bias.flatten(0, 1)[None])

    def cut(self, tokens: Float[Tensor, "batch token dim"], grid: Size) -> Float[Tensor, "batch window place dim"]:
        """Cut a grid of patches, listed row by row, into windows; zeros where it is padded."""
        padded, shift = self.plan(grid)
        z = F.pad(tokens.unflatten(1, tuple(grid)), (0, 0, 0, padded.cols - grid.cols, 0, padded.rows - grid.rows))
        z = torch.roll(z, (-shift.rows, -shift.cols), dims=(1, 2)) if any(shift) else z
        return rearrange(z, CUT, row=self.window.rows, col=self.window.cols)

    def join(
        self, windows: Float[Tensor, "batch window_head place value"], grid: Size
    ) -> Float[Tensor, "batch head token value"]:
        """Join the windows of each head again, without the padding: the inverse of `cut`."""
        padded, shift = self.plan(grid)
        down, across = padded.rows // self.window.rows, padded.cols // self.window.cols
        z = rearrange(windows, JOINED, row=self.window.rows, down=down, across=across)
        z = torch.roll(z, tuple(shift), dims=(2, 3)) if any(shift) else z
        return z[:, :, : grid.rows, : grid.cols].flatten(2, 3)

    def plan(self, grid: Size) -> tuple[Size, Size]:
        """Return the padded grid, and by how many rows and columns windows are shifted."""
        padded = Size(*(-(-count // side) * side for count, side in zip(grid, self.window, strict=True)))
        moved = (
            side // 2 if self.shifted and side < count else 0 for count, side in zip(padded, self.window, strict=True)
        )
        return padded, Size(*moved)

    def _build_mask(self, grid: Size, device: torch.device) -> Bool[Tensor, "window query key"] | None:
        """Return which patches of a window don't belong together: one was cut off at the other end; None if all do."""
        padded, shift = self.plan(grid)
        if not any(shift):
            return None
        wrapped = (torch.arange(count, device="cpu") >= count - by for count, by in zip(padded, shift, strict=True))
        rows, cols = wrapped
        region = (2 * rows[:, None] + cols[None, :].int())[None, :, :, None]
        region = rearrange(region, CUT, row=self.window.rows, col=self.window.cols)[0, :, :, 0]
        mask = region[:, :, None] != region[:, None, :]
        return mask.to(device if device.type != "meta" else torch.device("cpu"))
