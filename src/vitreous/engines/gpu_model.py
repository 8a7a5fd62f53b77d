"""A twin of a model for NVIDIA GPUs: the same function with fewer bytes to move. Its weights are converted to bfloat16
once, and the last block computes only [class] if nothing else is read. The model itself stays unchanged."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitreous.engines.packed_model import PLAIN, copy_tree, reads_first
from vitreous.model.attention import NOWHERE, Attention, Places, attend
from vitreous.model.convolutions import HaarConv, NormedUnitConv
from vitreous.model.encoder import Block
from vitreous.model.positions.offset_bias import OffsetBias
from vitreous.model.positions.relative import Relative
from vitreous.model.positions.rotary import MixedRotary, Rotary
from vitreous.model.vit import ViT
from vitreous.shapes import Float

NARROWED = (*PLAIN, nn.Conv2d, HaarConv, NormedUnitConv)
"""Kinds of layers whose weights autocast would cast to bfloat16 in every pass."""

PLACED = (Relative, OffsetBias, Rotary, MixedRotary)
"""Positions whose angles or tables need float32."""


class GpuModel(NamedTuple):
    """A model's twin."""

    model: nn.Module
    takes: torch.dtype
    """Type of the normalised images that it takes."""
    autocast: bool
    """Whether it computes under autocast; otherwise it computes entirely in the type that it takes."""


class FirstTokenBlock(nn.Module):
    """A pre-norm encoder block that computes only the first token."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE) -> Float[Tensor, "batch 1 dim"]:
        """As `Block.forward`, for the first token: it attends to all tokens."""
        block = self.block
        assert block.mlp_norm is not None
        attention, normed = block.attention, block.attention_norm(z)
        heads = attention.compute_heads(attention.project(normed), places)
        bias = None if heads.bias is None else heads.bias[:, :, :1]
        gathered = attention.mix(attend(heads._replace(q=heads.q[:, :, :1], bias=bias)))
        z = z[:, :1] + block.attention_scale(gathered)
        return z + block.mlp_scale(block.mlp(block.mlp_norm(z)))


def build_gpu_model(model: nn.Module, dtype: torch.dtype) -> GpuModel:
    """Return a twin of a model that computes in float32 or bfloat16; unchanged parts are shared with the model.

    The twin computes the model's logits and features; don't call its other functions. In bfloat16 a ViT without rotary or
    relative positions and without convolutions has its residual stream in bfloat16 too. Other models compute under autocast, as without
    a twin.

    Args:
        model: in eval mode, in float32.
        dtype: float32 or bfloat16.
    """
    twin = copy_tree(model)
    if isinstance(twin, ViT) and reads_first(twin) and computes_first(twin.blocks[-1]):
        twin.blocks = nn.ModuleList([*twin.blocks[:-1], FirstTokenBlock(twin.blocks[-1])])
    for module in twin.modules():
        module._buffers = dict(module._buffers)  # a copy: a graph keeps reading these even if the model gets others
    if dtype == torch.float32:
        return GpuModel(twin, dtype, autocast=False)
    whole = isinstance(twin, ViT) and is_dense(twin)
    for module in twin.modules():
        if whole or type(module) in NARROWED:
            module._parameters = {name: narrow(value) for name, value in module._parameters.items()}
        if whole:
            module._buffers = {name: narrow(value) for name, value in module._buffers.items()}
    return GpuModel(twin, torch.bfloat16 if whole else torch.float32, autocast=not whole)


def computes_first(block: nn.Module) -> bool:
    """Return whether a `FirstTokenBlock` can replace a block."""
    plain = type(block) is Block and not block.after and block.mlp_norm is not None
    return plain and type(block.attention) is Attention


def is_dense(model: ViT) -> bool:
    """Return whether a model consists only of dense layers, norms, and learned or fixed vectors that are added to the
    tokens."""
    if type(model.patches.stem) is not nn.Identity:
        return False
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d, *PLACED))]
    return all(type(layer) in PLAIN for layer in layers)


def narrow(value: Tensor | None) -> Tensor | None:
    """Return a float32 tensor in bfloat16; anything else as it is."""
    return value.detach().to(torch.bfloat16) if value is not None and value.dtype == torch.float32 else value
