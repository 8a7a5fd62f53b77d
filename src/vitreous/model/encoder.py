"""The Transformer encoder (2010.11929, equations 2 and 3), and the variants that followed."""

from collections.abc import Sequence
from itertools import cycle, islice

import torch
from torch import Tensor, nn

from vitreous.model.attention import NOWHERE, Attention, Places
from vitreous.model.axial import AxialAttention, Axis
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.draws import Dropout, DropPath, Place, set_rate
from vitreous.model.layers import build_activation, build_norm
from vitreous.model.parameters import ZEROS, Constant, Dense, Normal, Role, declare
from vitreous.shapes import Float


class MLP(nn.Module):
    """Two dense layers with an activation between, dropout after each; optionally gated by a third (SwiGLU).

    Args:
        config: of the model.
        hidden: width between the layers; None: the blocks'.
        in_block: whether it belongs to a Transformer block.
    """

    def __init__(self, config: ViTConfig, hidden: int | None = None, *, in_block: bool = True) -> None:
        super().__init__()
        made, hidden = config.block, hidden or config.mlp_width
        self.gated = made.mlp == "swiglu"
        stacked = 2 if self.gated else 1
        bias = ZEROS if config.init == "mae" else Role(decays=False, start=Normal(1e-6))
        expand = Dense(config.width, stacked * hidden, bias=made.biases, stacked=stacked, in_block=in_block)
        self.expand = declare(expand, bias=bias)
        self.act = build_activation("silu" if self.gated else made.activation)
        self.norm = build_norm(config, hidden) if made.mlp_inner_norm else nn.Identity()
        self.contract = declare(Dense(hidden, config.width, bias=made.biases, in_block=in_block), bias=bias)
        self.hidden_dropout, self.dropout = Place(Dropout), Place(Dropout, second=True)

    def forward(self, tokens: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """Transform every token on its own."""
        return self.dropout(self.contract(self.compute_hidden(tokens)))

    def compute_hidden(self, tokens: Float[Tensor, "... dim"]) -> Float[Tensor, "... hidden"]:
        """Return what `contract` maps back. A gated layer's first half is the gate, its second the value."""
        hidden = self.expand(tokens)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = self.act(gate) * value
        else:
            hidden = self.act(hidden)
        return self.norm(self.hidden_dropout(hidden))


class LayerScale(nn.Module):
    """A learned scale of each value of a branch (CaiT, 2103.17239)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.roles = {"scale": Role(decays=False, start=Constant(initial))}
        self.scale = nn.Parameter(torch.empty(width))

    def forward(self, branch: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Scale."""
        return branch * self.scale


class Block(nn.Module):
    """One encoder block, pre-norm: attention, then the MLP, each added to the residual stream; or both side by side."""

    def __init__(self, config: ViTConfig, attention: Attention | None = None) -> None:
        """`attention`: over the tokens; None: full attention."""
        super().__init__()
        made = config.block
        self.after = made.norm_order == "after"
        self.attention_norm = build_norm(config)
        self.attention = Attention(config) if attention is None else attention
        self.dropout = Place(Dropout)
        self.attention_scale = build_layer_scale(config)
        self.mlp_norm = None if made.parallel else build_norm(config)
        self.mlp = MLP(config)
        self.mlp_scale = build_layer_scale(config)
        self.attention_drop_path, self.mlp_drop_path = Place(DropPath), Place(DropPath, second=True)

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token dim"]:
        """z' = MSA(LN(z)) + z, then z = MLP(LN(z')) + z'. In parallel: z = MSA(LN(z)) + MLP(LN(z)) + z. Normalised after:
        z' = LN(MSA(z)) + z, then z = LN(MLP(z')) + z'.
        """
        if self.after:
            gathered = self.attention_scale(self.attention_norm(self.dropout(self.attention(z, places))))
            z = z + self.attention_drop_path(gathered)
            return z + self.mlp_drop_path(self.mlp_scale(self.mlp_norm(self.mlp(z))))
        normed = self.attention_norm(z)
        gathered = self.attention_scale(self.dropout(self.attention(normed, places)))
        if self.mlp_norm is None:
            return z + self.attention_drop_path(gathered + self.mlp_scale(self.mlp(normed)))
        z = z + self.attention_drop_path(gathered)
        return z + self.mlp_drop_path(self.mlp_scale(self.mlp(self.mlp_norm(z))))


def build_layer_scale(config: ViTConfig) -> nn.Module:
    """Return the configured layer scale, or the identity."""
    initial = config.block.layer_scale
    return LayerScale(config.width, initial) if initial else nn.Identity()


def build_blocks(config: ViTConfig) -> nn.ModuleList:
    """Build the stack. Axial blocks alternate between rows and columns, rows first."""
    if config.block.attention == "full":
        return nn.ModuleList(Block(config) for _ in range(config.depth))
    axes: tuple[Axis, ...] = ("rows", "cols")
    return nn.ModuleList(Block(config, AxialAttention(config, axis)) for axis in islice(cycle(axes), config.depth))


def set_drop_path(stack: Sequence[nn.Module] | nn.ModuleList, config: RegularisationConfig) -> None:
    """Set each block's drop-path rate: linear from 0 at the first to the configured one at the last, or the same in
    all."""
    last, constant = max(1, len(stack) - 1), config.drop_path_schedule == "constant"
    for index, block in enumerate(stack):
        set_rate(block, DropPath, config.drop_path * (1 if constant else index / last))
