"""Encoder blocks that pass through one graph of oneDNN, for sizes of batch that come often: a small model spends a sixth of a pass on
setting up products, and a graph sets them up once."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.engines.onednn_graph import FEWEST_ROWS, Pass, compile_graph
from vitreous.engines.packed_attention import LN2, attend_by_products
from vitreous.engines.packed_blocks import PlainBlock, needs_module, run_norm
from vitreous.engines.packed_linear import PackedLinear
from vitreous.model.attention import NOWHERE, Places
from vitreous.model.vit import ViT
from vitreous.runtime.device import has_amx

WORTH = 256
"""Images of one size after which its graph pays: making it takes 0.2 to 0.5 s, as much as it saves on so many."""
WIDEST = 512
"""Widest model for which that holds: wider ones' products take so long that setting them up doesn't matter."""
MOST = 4
"""Most sizes for which a graph is made, each with a copy of the weights in oneDNN's own layout: the first ones that come often."""

Size = tuple[int, int]
"""Images that pass together, and threads that compute them."""
Affine = tuple[Tensor, Tensor | None]
"""A weight and a bias."""


@dataclass(frozen=True)
class JoinedBlock:
    """A `PlainBlock` in operators that oneDNN's graphs know.

    One that computes the first token alone computes the second one too, since oneDNN's graphs take no single row.
    """

    block: PlainBlock
    query: Affine | None
    qkv: Affine
    out: Affine
    expand: Affine
    contract: Affine

    def compute(self, z: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token2 dim"]:
        """As `Block.forward`."""
        first, second = self.block.norms
        normed = run_norm(z, first)
        parts = self._cut(F.linear(normed, *self.qkv))
        if self.query is not None:
            z, normed = z[:, :FEWEST_ROWS].contiguous(), normed[:, :FEWEST_ROWS].contiguous()
            parts = [*self._cut(F.linear(normed, *self.query)), *parts]
        attended = attend_by_products(*parts, scale=LN2[z.dtype]).transpose(1, 2).flatten(2)
        z = z + F.linear(attended, *self.out)
        z = z + F.linear(F.gelu(F.linear(run_norm(z, second), *self.expand)), *self.contract)
        return z if self.query is None else z[:, :1]

    def _cut(self, projected: Float[Tensor, "batch token width"]) -> list[Float[Tensor, "batch head token head_dim"]]:
        """Return each part's heads."""
        heads, width = self.block.heads, self.out[0].shape[1]
        cut = projected.view(*projected.shape[:2], -1, heads, width // heads)
        return list(cut.permute(2, 0, 3, 1, 4).unbind(0))


class JoinedBlocks(nn.Module):
    """Blocks that follow each other, as a graph for each size that has one, otherwise one by one.

    Args:
        blocks: for each of which `can_join` holds.
        tokens: of an image.
    """

    def __init__(self, blocks: Sequence[PlainBlock], tokens: int) -> None:
        super().__init__()
        self.blocks, self.tokens, self.dtype = nn.ModuleList(blocks), tokens, blocks[0].dtype
        self.graphs: dict[Size, Pass] = {}
        self._seen: Counter[Size] = Counter()
        self._tried: set[Size] = set()
        self._joined: list[JoinedBlock] = []
        self._lock, self._trial = threading.Lock(), threading.local()

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token2 dim"]:
        """As `Block.forward` of one after the other."""
        graph = self.graphs.get((len(z), torch.get_num_threads())) or getattr(self._trial, "graph", None)
        if graph is None:
            for block in self.blocks:
                z = block(z, places)
            return z
        with torch.autocast("cpu", enabled=False):
            return graph(z.to(self.dtype).contiguous())

    def is_due(self, size: Size, images: int) -> bool:
        """Count images that come in batches of a size, and return whether its graph is to be made: once at most.

        With AMX batches in bfloat16 have none: torch's fused attention is the faster one there.
        """
        with self._lock:
            if size in self._tried or len(self._tried) >= MOST:
                return False
            if size[0] > 1 and self.dtype == torch.bfloat16 and has_amx():
                return False
            self._seen[size] += images
            if self._seen[size] < WORTH:
                return False
            self._tried.add(size)
            return True

    def try_graph(self, images: int, compute: Callable[[], Tensor]) -> tuple[Pass, Tensor]:
        """Make the graph for so many images and the threads that compute now, and return it with what a pass through it gives:
        until it is put into `graphs`, only this pass takes it. Raises RuntimeError if torch has none."""
        if not self._joined:
            self._joined = [join_block(cast("PlainBlock", block)) for block in self.blocks]
        shape = (images, self.tokens, self._joined[0].qkv[0].shape[1])
        self._trial.graph = compile_graph(self._compute, [shape], self.dtype)
        try:
            return self._trial.graph, compute()
        finally:
            del self._trial.graph

    def _compute(self, z: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token2 dim"]:
        for block in self._joined:
            z = block.compute(z)
        return z


def join_block(block: PlainBlock) -> JoinedBlock:
    """Return a block's factors in its precision."""
    layers = (block.query, block.qkv, block.out, block.mlp.expand, block.contract)
    factors = [
        None if layer is None else (layer.weight.to(block.dtype), layer.bias)
        for layer in cast("tuple[PackedLinear | None, ...]", layers)
    ]
    return JoinedBlock(block, *factors)


def join_blocks(twin: nn.Module, tokens: int) -> JoinedBlocks | None:
    """Have the blocks of a packed twin pass as one; None: this model's can't, or wouldn't be faster.

    Args:
        twin: its blocks are replaced.
        tokens: of an image.
    """
    if not isinstance(twin, ViT) or twin.config.width > WIDEST or tokens < FEWEST_ROWS:
        return None
    if twin.config.pool_layers > 1 or twin.config.position_placement != "input":
        return None
    blocks = [block for block in twin.blocks if can_join(block)]
    if not blocks or len(blocks) < len(twin.blocks):
        return None
    joined = JoinedBlocks(blocks, tokens)
    twin.blocks = nn.ModuleList([joined])
    return joined


def can_join(block: nn.Module) -> TypeGuard[PlainBlock]:
    """Return whether a block is one of those whose operators oneDNN's graphs know."""
    if not isinstance(block, PlainBlock) or needs_module(block):
        return False
    layers = (block.qkv, block.out, block.mlp.expand, block.contract)
    if not all(isinstance(layer, PackedLinear) and layer.packing.library == "onednn" for layer in layers):
        return False
    # they take GELU's tanh form for GELU itself
    norms = all(isinstance(norm, tuple) for norm in block.norms)
    return norms and cast("PackedLinear", block.mlp.expand).activation == "gelu"
