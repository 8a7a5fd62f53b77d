"""A model on a CPU with packed dense layers: the same function, faster. The model itself stays as it is."""

import copy
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitreous.engines.packed_linear import PackedLinear, Packing
from vitreous.model.attention import NOWHERE, Places
from vitreous.model.encoder import Block, LayerScale
from vitreous.model.parameters import Dense
from vitreous.model.vit import ViT

PLAIN = (nn.Linear, Dense)
"""Kinds of layers that are packed: these alone, not what is derived from them."""


class PackedBlock(nn.Module):
    """An encoder block, pre-norm, one branch after the other, whose residual additions belong to its products."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token dim"]:
        """As `Block.forward`."""
        block = self.block
        assert block.mlp_norm is not None
        out, contract = cast("PackedLinear", block.attention.out), cast("PackedLinear", block.mlp.contract)
        z = out.add(block.attention.gather(block.attention_norm(z), places), z)
        return contract.add(block.mlp.hidden(block.mlp_norm(z)), z)


@dataclass(frozen=True)
class PackedModel:
    """A model's packed twin."""

    model: nn.Module
    left: tuple[str, ...]
    """Dense layers of blocks that stay as torch has them, each with the reason."""


def pack_model(model: nn.Module, packing: Packing) -> PackedModel:
    """Return a twin of a model in which the dense layers of its encoder blocks are packed; all else is shared with it.

    What is derived from a dense layer (LoRA's, parametrised ones) stays as it is.

    Args:
        model: in eval mode, on the CPU, in float32.
        packing: how.
    """
    twin, left = _copy_tree(model), list[str]()
    for name, block in twin.named_modules():
        if isinstance(block, Block):
            _pack_attention(name, block, packing, left)
            _pack_mlp(name, block, packing, left)
    if isinstance(twin, ViT):
        twin.blocks = nn.ModuleList(PackedBlock(one) if _adds_in_products(one) else one for one in twin.blocks)
    elif not any(isinstance(module, Block) for module in twin.modules()):
        left.append(f"a {type(model).__name__} has no encoder blocks")
    return PackedModel(twin, tuple(left))


def _copy_tree(module: nn.Module) -> nn.Module:
    """Copy a tree of modules; their parameters are the same."""
    twin = copy.copy(module)
    twin._modules = {name: child if child is None else _copy_tree(child) for name, child in module._modules.items()}
    return twin


def _pack_attention(name: str, block: Block, packing: Packing, left: list[str]) -> None:
    attention = block.attention
    if _is_plain(f"{name}.attention.qkv", attention.qkv, left):
        bias = attention.qkv.bias
        if attention.no_key_bias:
            bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
            attention.no_key_bias = False
        attention.qkv = PackedLinear(attention.qkv.weight, bias, packing)
    if _is_plain(f"{name}.attention.out", attention.out, left):
        attention.out, block.attention_scale = _pack_scaled(attention.out, block.attention_scale, packing, block.after)


def _pack_mlp(name: str, block: Block, packing: Packing, left: list[str]) -> None:
    mlp = block.mlp
    if _is_plain(f"{name}.mlp.expand", mlp.expand, left):
        kind = "none" if mlp.gated else _name_activation(mlp.act)
        mlp.expand = PackedLinear(mlp.expand.weight, mlp.expand.bias, packing, kind)
        mlp.act = mlp.act if kind == "none" else nn.Identity()
    if _is_plain(f"{name}.mlp.contract", mlp.contract, left):
        mlp.contract, block.mlp_scale = _pack_scaled(mlp.contract, block.mlp_scale, packing, block.after)


def _is_plain(name: str, layer: nn.Module, left: list[str]) -> bool:
    """Return whether a layer is torch's dense layer and nothing more; note it if not."""
    if type(layer) in PLAIN:
        return True
    left.append(f"{name}: a {type(layer).__name__}")
    return False


def _pack_scaled(layer: nn.Linear, scale: nn.Module, packing: Packing, after: bool) -> tuple[PackedLinear, nn.Module]:
    """Pack the last layer of a branch, its LayerScale included unless a norm comes between them; return what is left to scale."""
    if after or type(scale) is not LayerScale:
        return PackedLinear(layer.weight, layer.bias, packing), scale
    bias = None if layer.bias is None else layer.bias * scale.scale
    return PackedLinear(layer.weight * scale.scale[:, None], bias, packing), nn.Identity()


def _name_activation(act: nn.Module) -> str:
    """Return what a product is followed by, "none" if that stays a layer of its own."""
    if type(act) is nn.GELU:
        return "gelu-tanh" if act.approximate == "tanh" else "gelu"
    return "silu" if type(act) is nn.SiLU else "none"


def _adds_in_products(block: nn.Module) -> bool:
    """Return whether each branch of a block ends in a packed product that its residual is added to."""
    if not isinstance(block, Block) or block.after or block.mlp_norm is None:
        return False
    ends = isinstance(block.attention.out, PackedLinear) and isinstance(block.mlp.contract, PackedLinear)
    return ends and type(block.attention_scale) is nn.Identity and type(block.mlp_scale) is nn.Identity


def count_packed(model: nn.Module) -> int:
    """Return the packed layers of a model."""
    return sum(isinstance(module, PackedLinear) for module in model.modules())
