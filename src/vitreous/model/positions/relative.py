"""Relative positions: terms in the attention logits that depend on the distance of two tokens."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from vitreous.model.config import ViTConfig
from vitreous.model.parameters import TABLE
from vitreous.model.positions.resize import OFFSET_RULES, geometric_matrix, resize_matrix
from vitreous.shapes import Float, Float64, Int64, Size


class Relative(nn.Module):
    """A table over offsets, shared by all pairs of tokens with the same offset.

    relative (2010.11929, appendix D.4): an embedding r of each 1-D offset of the sequence, [class] included; the logit of
    a query q gains q . r(offset) / sqrt(head_dim), so it depends on the query. All heads share the embeddings.

    bias (Swin, 2103.14030; BEiT, 2106.08254): one number for each head and 2-D offset of two patches; three more numbers
    stand for [class] to patch, patch to [class] and [class] to itself (all prefix tokens count as [class]).
    """

    roles: ClassVar = {"table": TABLE}
    places: Tensor
    matrix: Tensor | None

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind, self.prefix, self.grid = config.positions, config.prefix, config.grid
        columns = config.per_head if self.kind == "relative" else config.heads
        self.table = nn.Parameter(torch.empty(count_rows(self.kind, config.grid, config.prefix), columns))
        self.register_buffer("places", None, persistent=False)
        self.register_buffer("matrix", None, persistent=False)
        self._serve(config.grid)

    def forward(self, q: Float[Tensor, "batch head query head_dim"]) -> Float[Tensor, "#batch head query key"]:
        """Return the terms to add to the logits of these queries."""
        table = self.table if self.matrix is None else self.matrix @ self.table
        if self.kind == "bias":
            return table[self.places].permute(2, 0, 1)[None]
        # Every query against every offset, then each pair selects its own: no (token, token, head_dim) table is made.
        logits = (q * q.shape[-1] ** -0.5) @ table.to(q.dtype).T
        return logits.gather(3, self.places.expand(*logits.shape[:2], -1, -1))

    def place(self, grid: Size) -> None:
        """Serve another grid over the same picture from the same table, by interpolation between offsets."""
        self._serve(grid)

    def resize(self, to: Size, rule: str) -> dict[str, Tensor]:
        """Return this module's state for another grid."""
        table = self.table.detach()
        matrix = resize_table_matrix(self.kind, self.grid, to, self.prefix, rule)
        return {"table": (matrix @ table.cpu().double()).to(table)}  # some devices have no float64

    def _serve(self, grid: Size) -> None:
        device = self.table.device if self.table.device.type != "meta" else torch.device("cpu")
        self.places = index_offsets(self.kind, grid, self.prefix).to(device)
        same = grid == self.grid
        matrix = None if same else resize_table_matrix(self.kind, self.grid, grid, self.prefix, "bilinear")
        self.matrix = None if matrix is None else matrix.to(self.table.dtype).to(device)


def count_rows(kind: str, grid: Size, prefix: int) -> int:
    """Return how many offsets a grid has."""
    if kind == "relative":
        return 2 * (grid.rows * grid.cols + prefix) - 1
    return (2 * grid.rows - 1) * (2 * grid.cols - 1) + (3 if prefix else 0)


def index_offsets(kind: str, grid: Size, prefix: int) -> Int64[Tensor, "query key"]:
    """Return the row of the table that each pair of tokens reads: that of key minus query."""
    count = grid.rows * grid.cols
    if kind == "relative":
        order = torch.arange(count + prefix, device="cpu")
        return order[None, :] - order[:, None] + count + prefix - 1
    row = torch.arange(grid.rows, device="cpu").repeat_interleave(grid.cols)
    col = torch.arange(grid.cols, device="cpu").repeat(grid.rows)
    # Swin's and BEiT's order: query minus key, rows first.
    down, across = row[:, None] - row[None, :] + grid.rows - 1, col[:, None] - col[None, :] + grid.cols - 1
    places = torch.empty(count + prefix, count + prefix, dtype=torch.int64, device="cpu")
    cells = (2 * grid.rows - 1) * (2 * grid.cols - 1)
    places[prefix:, prefix:] = down * (2 * grid.cols - 1) + across
    places[:prefix, prefix:], places[prefix:, :prefix], places[:prefix, :prefix] = cells, cells + 1, cells + 2
    return places


def resize_table_matrix(kind: str, start: Size, to: Size, prefix: int, rule: str) -> Float64[Tensor, "new old"]:
    """Return the constant matrix that maps a table over the offsets of one grid to those of another.

    bias: the named rule, on the grid of offsets (the three numbers of [class] stay). relative: an offset in the new
    sequence is a number of rows and columns of the new grid; the same share of the old grid lies between two of its 1-D
    offsets, and linear interpolation reads there. Rules don't apply: the table is a line, not a grid.
    """
    if kind == "bias":
        spans = _get_span(start), _get_span(to)
        matrix = geometric_matrix(*spans) if rule in OFFSET_RULES else resize_matrix(*spans, rule)
        return torch.block_diag(matrix, torch.eye(3, dtype=torch.float64, device="cpu")) if prefix else matrix
    old, new = (2 * (grid.rows * grid.cols + prefix) - 1 for grid in (start, to))
    reach = to.rows * to.cols + prefix - 1
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu")
    rows = (offset / to.cols).round()
    cols = offset - rows * to.cols
    place = rows * (start.rows / to.rows) * start.cols + cols * (start.cols / to.cols) + (old - 1) / 2
    place = place.clamp(0, old - 1)
    low = place.floor().long().clamp(max=old - 2)
    share = place - low
    matrix = torch.zeros(new, old, dtype=torch.float64, device="cpu")
    new_rows = torch.arange(new, device="cpu")
    matrix[new_rows, low] = 1 - share
    matrix[new_rows, low + 1] += share
    return matrix


def _get_span(grid: Size) -> Size:
    return Size(2 * grid.rows - 1, 2 * grid.cols - 1)
