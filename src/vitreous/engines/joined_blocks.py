"""Encoder blocks joined into one graph of oneDNN, for frequent batch sizes: a small model spends a sixth of a pass on
setting up products, and a graph sets them up only once."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.engines.int8_linear import Int8Linear
from vitreous.engines.int8_product import Int8Product
from vitreous.engines.onednn_graph import FEWEST_ROWS, Pass, compile_graph
from vitreous.engines.packed_attention import LN2, attend_by_products, find_room
from vitreous.engines.packed_blocks import AnyLinear, PlainBlock, needs_module, run_norm
from vitreous.engines.packed_linear import PackedLinear
from vitreous.model.attention import NOWHERE, Places
from vitreous.model.vit import ViT
from vitreous.runtime.device import has_amx
from vitreous.shapes import Float

WORTH = 256
"""Number of images in batches of one size after which a graph for that size pays: building it takes 0.2 to 0.5 s, as
much as it saves on this many images. For models wider than `WIDEST` it is four times this number, since building takes
0.8 to 1.4 s."""
WIDEST = 512
"""Widest float model whose graphs pay: the products of wider ones take so long that setting them up doesn't matter. In
int8, graphs of any width pay, since threads that compute blocks one by one wait for Python's lock."""
MOST = 4
"""Number of sizes that get a graph, at most: the first frequent ones. Each graph holds a copy of the float weights in
oneDNN's own layout."""

Size = tuple[int, int]
"""Images that pass together, and threads that compute them."""
Inputs = tuple[Tensor, ...]
"""Tensors that are passed to the graph: those of all its int8 layers."""


class FloatProduct:
    """A float dense layer as a part of a graph, which oneDNN fuses with its neighbours."""

    def __init__(self, layer: PackedLinear, dtype: torch.dtype) -> None:
        self.weight, self.bias, self.gelu = layer.weight.to(dtype), layer.bias, layer.activation == "gelu"

    def multiply(self, values: Float[Tensor, "batch token in"], inputs: Inputs) -> Float[Tensor, "batch token out"]:
        """Return the product, with GELU if it follows."""
        values = values if values.dtype == self.weight.dtype else values.to(self.weight.dtype)
        found = F.linear(values, self.weight, self.bias)
        return F.gelu(found) if self.gelu else found

    def add(
        self, values: Float[Tensor, "batch token in"], residual: Float[Tensor, "batch token out"], inputs: Inputs
    ) -> Float[Tensor, "batch token out"]:
        """Return the product plus the residual."""
        return residual + self.multiply(values, inputs)


Product = FloatProduct | Int8Product


@dataclass(frozen=True)
class JoinedBlock:
    """A `PlainBlock` in operators that can be traced; oneDNN's graphs support those that aren't int8.

    A block that only needs the first token computes the second one too, since oneDNN's graphs can't handle a single row.
    """

    block: PlainBlock
    query: Product | None
    qkv: Product
    out: Product
    expand: Product
    contract: Product

    def compute(self, z: Float[Tensor, "batch token dim"], inputs: Inputs) -> Float[Tensor, "batch token2 dim"]:
        """As `Block.forward`."""
        first, second = self.block.norms
        normed = run_norm(z, first)
        parts = self._cut(self.qkv.multiply(normed, inputs), 2 if self.query else 3)
        if self.query is not None:
            z, normed = z[:, :FEWEST_ROWS].contiguous(), normed[:, :FEWEST_ROWS].contiguous()
            parts = [*self._cut(self.query.multiply(normed, inputs), 1), *parts]
        attended = attend_by_products(*parts, scale=LN2[parts[0].dtype]).transpose(1, 2).flatten(2)
        z = self.out.add(attended, z, inputs)
        z = self.contract.add(self.expand.multiply(run_norm(z, second), inputs), z, inputs)
        return z if self.query is None else z[:, :1]

    def _cut(
        self, projected: Float[Tensor, "batch token width"], count: int
    ) -> list[Float[Tensor, "batch head token head_dim"]]:
        """Return the heads of this many parts out of q, k and v."""
        cut = projected.view(*projected.shape[:2], count, self.block.heads, -1)
        return list(cut.permute(2, 0, 3, 1, 4).unbind(0))


class JoinedBlocks(nn.Module):
    """Consecutive blocks, computed by a graph for each size that has one, otherwise one by one.

    Args:
        blocks: the blocks, for each of which `can_join` holds.
        tokens: number of tokens per image.
    """

    def __init__(self, blocks: Sequence[PlainBlock], tokens: int) -> None:
        super().__init__()
        self.notes: list[str] = []
        """Notes on which graphs there are, and on why others aren't used."""
        self.blocks, self.tokens, self.dtype = nn.ModuleList(blocks), tokens, blocks[0].dtype
        self.width, self.rounds = blocks[0].width, any(block.attends == torch.bfloat16 for block in blocks)
        self.room = find_room() // max(block.heads * tokens**2 * block.attends.itemsize for block in blocks)
        """Images whose attention a graph may hold."""
        self.graphs: dict[Size, Pass] = {}
        self._seen: Counter[Size] = Counter()
        self._tried: set[Size] = set()
        self._joined: list[JoinedBlock] = []
        self._inputs: Inputs = ()
        self._lock, self._trial = threading.Lock(), threading.local()

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token2 dim"]:
        """As `Block.forward` of each block in turn. A graph that fails is not used again."""
        graph = self.graphs.get((len(z), torch.get_num_threads())) or getattr(self._trial, "graph", None)
        if graph is not None:
            try:
                with torch.autocast("cpu", enabled=False):
                    return graph(z.to(self.dtype).contiguous())
            except RuntimeError as error:
                if graph is getattr(self._trial, "graph", None):
                    raise
                if self.graphs.pop((len(z), torch.get_num_threads()), None) is not None:
                    self.notes.append(f"a graph of oneDNN failed: {' '.join(str(error).split())[:200]}")
        for block in self.blocks:
            z = block(z, places)
        return z

    def is_due(self, size: Size, images: int) -> bool:
        """Count the images in batches of a size, and return whether to build its graph now, which happens at most once.

        With AMX, batches in bfloat16 get no graph, since torch's fused attention is faster there.
        """
        with self._lock:
            if size in self._tried or len(self._tried) >= MOST:
                return False
            if size[0] > self.room or (size[0] > 1 and self.rounds and has_amx()):
                return False
            self._seen[size] += images
            if self._seen[size] < (WORTH if self.width <= WIDEST else 4 * WORTH):
                return False
            self._tried.add(size)
            return True

    def try_graph(self, images: int, compute: Callable[[], Tensor]) -> tuple[Pass, Tensor]:
        """Build the graph for this many images and the current number of threads; return it and the result of a pass
        through it. Until it is put into `graphs`, only this pass uses it. Raises RuntimeError if torch has no such
        graph."""
        with self._lock:
            self._joined = self._joined or [self._join(cast("PlainBlock", block)) for block in self.blocks]
        self._trial.graph = compile_graph(self._compute, [(images, self.tokens, self.width)], self.dtype, self._inputs)
        try:
            return self._trial.graph, compute()
        finally:
            del self._trial.graph

    def _compute(self, z: Float[Tensor, "batch token dim"], *inputs: Tensor) -> Float[Tensor, "batch token2 dim"]:
        for block in self._joined:
            z = block.compute(z, inputs)
        return z

    def _join(self, block: PlainBlock) -> JoinedBlock:
        layers = (block.query, block.qkv, block.out, block.mlp.expand, block.contract)
        return JoinedBlock(
            block, *(layer if layer is None else self._take(cast("AnyLinear", layer), block.dtype) for layer in layers)
        )

    def _take(self, layer: AnyLinear, dtype: torch.dtype) -> Product:
        """Return a layer as a part of the graph; an int8 layer's tensors become inputs of the graph."""
        if isinstance(layer, PackedLinear):
            return FloatProduct(layer, dtype)
        product = Int8Product(layer, len(self._inputs))
        self._inputs += product.tensors
        return product


def join_blocks(twin: nn.Module, tokens: int) -> JoinedBlocks | None:
    """Join the blocks of a packed twin into one module and return it; None if that isn't possible or wouldn't be faster.

    Args:
        twin: the packed twin, whose blocks are replaced.
        tokens: number of tokens per image.
    """
    if not isinstance(twin, ViT) or tokens < FEWEST_ROWS:
        return None
    if twin.config.pool_layers > 1 or twin.config.position_placement != "input":
        return None
    blocks = [block for block in twin.blocks if can_join(block)]
    if not blocks or len(blocks) < len(twin.blocks) or (twin.config.width > WIDEST and not holds_no_weights(twin)):
        return None
    joined = JoinedBlocks(blocks, tokens)
    if not joined.room:
        return None
    twin.blocks = nn.ModuleList([joined])
    return joined


def holds_no_weights(twin: nn.Module) -> bool:
    """Return whether a graph of a twin's blocks holds none of their weights, because all dense layers are int8."""
    blocks = (block for block in twin.modules() if isinstance(block, PlainBlock))
    return not any(isinstance(layer, PackedLinear) for block in blocks for layer in block.modules())


def can_join(block: nn.Module) -> TypeGuard[PlainBlock]:
    """Return whether a block can be part of a graph."""
    if not isinstance(block, PlainBlock) or needs_module(block):
        return False
    layers = cast("tuple[AnyLinear, ...]", (block.qkv, block.out, block.mlp.expand, block.contract))
    if not all(isinstance(layer, Int8Linear) or layer.packing.library == "onednn" for layer in layers):
        return False
    # oneDNN's graphs compute GELU's tanh form as exact GELU
    expand, norms = block.mlp.expand, all(isinstance(norm, tuple) for norm in block.norms)
    return norms and (isinstance(expand, Int8Linear) or expand.activation == "gelu")
