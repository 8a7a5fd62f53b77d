"""A model on a CPU with packed dense layers: the same function, faster. The model itself stays as it is."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.engines.packed_blocks import NormalizedFirst, PackedBlock, PackedPatches, PlainBlock, attends_plainly
from vitreous.engines.packed_linear import PackedLinear, Packing
from vitreous.images.config import PreprocessConfig
from vitreous.model.encoder import Block, LayerScale
from vitreous.model.parameters import Dense
from vitreous.model.vit import ViT

PLAIN = (nn.Linear, Dense)
"""Kinds of layers that are packed: these alone, without classes derived from them."""


@dataclass(frozen=True)
class PackedModel:
    """A model's packed twin."""

    model: nn.Module
    left: tuple[str, ...]
    """Dense layers of blocks that stay torch's own, each with the reason."""


def pack_model(model: nn.Module, packing: Packing, preprocess: PreprocessConfig | None = None) -> PackedModel:
    """Return a twin of a model in which the dense layers of its encoder blocks are packed; all else is shared with it.

    Layers derived from a dense layer (LoRA's, parametrised ones) stay as they are. The twin gives the model's logits
    and features; its
    other functions are not to be called, since the last block leaves out tokens that those two don't read.

    Args:
        model: in eval mode, on the CPU, in float32.
        packing: how.
        preprocess: a ViT's twin takes pixels less 128, in the precision of its `centred`, and normalises them so; None:
        it takes the model's own input.
    """
    twin, left = _copy_tree(model), list[str]()
    blocks = {name: block for name, block in twin.named_modules() if isinstance(block, Block)}
    for name, block in blocks.items():
        _pack_out(name, block, packing, left)
        _pack_mlp(name, block, packing, left)
    if isinstance(twin, ViT):
        last = len(twin.blocks) - 1
        twin.blocks = nn.ModuleList(
            _pack_block(name, block, packing, left, (twin, place == last))
            for place, (name, block) in enumerate(blocks.items())
        )
        if preprocess is not None:
            twin.patches, twin.centred = _pack_patches(twin, preprocess, packing), packing.dtype
        return PackedModel(twin, tuple(left))
    for name, block in blocks.items():
        _pack_qkv(name, block, packing, left)
    if not blocks:
        left.append(f"a {type(model).__name__} has no encoder blocks")
    return PackedModel(twin, tuple(left))


def _pack_block(name: str, block: Block, packing: Packing, left: list[str], at: tuple[ViT, bool]) -> nn.Module:
    """Return the fastest form of a block of this model, which may be the last one; its other dense layers are packed already."""
    model, last = at
    positions = model.rotary is not None or model.relative is not None
    qkv = block.attention.qkv
    if _adds_in_products(block) and not positions and attends_plainly(block.attention) and type(qkv) in PLAIN:
        first = last and model.config.pool == "class" and model.distillation_head is None
        return PlainBlock(block, qkv.weight, _join_bias(block), packing, first)
    _pack_qkv(name, block, packing, left)
    return PackedBlock(block) if _adds_in_products(block) else block


def _join_bias(block: Block) -> Tensor | None:
    """Return the bias of q, k and v."""
    attention = block.attention
    if not attention.no_key_bias:
        return attention.qkv.bias
    return torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])


def _pack_patches(model: ViT, preprocess: PreprocessConfig, packing: Packing) -> nn.Module:
    """Return the module that turns pixels into tokens."""
    patches = model.patches
    plain = (
        type(patches.stem) is nn.Identity and type(patches.norm_before) is nn.Identity and type(patches.embed) in PLAIN
    )
    return PackedPatches(patches, preprocess, packing) if plain else NormalizedFirst(patches, preprocess)


def _copy_tree(module: nn.Module) -> nn.Module:
    """Copy a tree of modules; their parameters are the same."""
    twin = copy.copy(module)
    twin._modules = {name: child if child is None else _copy_tree(child) for name, child in module._modules.items()}
    return twin


def _pack_qkv(name: str, block: Block, packing: Packing, left: list[str]) -> None:
    attention = block.attention
    if _is_plain(f"{name}.attention.qkv", attention.qkv, left):
        bias = _join_bias(block)
        attention.no_key_bias = False
        attention.qkv = PackedLinear(attention.qkv.weight, bias, packing)


def _pack_out(name: str, block: Block, packing: Packing, left: list[str]) -> None:
    attention = block.attention
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
    """Return whether a layer is torch's own dense layer; record it if not."""
    if type(layer) in PLAIN:
        return True
    left.append(f"{name}: a {type(layer).__name__}")
    return False


def _pack_scaled(layer: nn.Linear, scale: nn.Module, packing: Packing, after: bool) -> tuple[PackedLinear, nn.Module]:
    """Pack the last layer of a branch, its LayerScale included unless a norm comes between them; return the scaling
    that remains."""
    if after or type(scale) is not LayerScale:
        return PackedLinear(layer.weight, layer.bias, packing), scale
    bias = None if layer.bias is None else layer.bias * scale.scale
    return PackedLinear(layer.weight * scale.scale[:, None], bias, packing), nn.Identity()


def _name_activation(act: nn.Module) -> str:
    """Return the activation that follows a product; "none" if that stays a layer of its own."""
    if type(act) is nn.GELU:
        return "gelu-tanh" if act.approximate == "tanh" else "gelu"
    return "silu" if type(act) is nn.SiLU else "none"


def _adds_in_products(block: nn.Module) -> bool:
    """Return whether each branch of a block ends in a packed product to which the residual is added."""
    if not isinstance(block, Block) or block.after or block.mlp_norm is None:
        return False
    ends = isinstance(block.attention.out, PackedLinear) and isinstance(block.mlp.contract, PackedLinear)
    return ends and type(block.attention_scale) is nn.Identity and type(block.mlp_scale) is nn.Identity


def count_packed(model: nn.Module) -> int:
    """Return the packed layers of a model."""
    return sum(isinstance(module, PackedLinear) for module in model.modules())
