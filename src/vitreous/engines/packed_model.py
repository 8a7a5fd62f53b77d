"""A twin of a model with packed dense layers, for a CPU: the same function, faster. The model itself stays
unchanged."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.engines.int8_linear import AnyPacking, Int8Linear, get_rest, pack_layer
from vitreous.engines.packed_attention import attend_heads
from vitreous.engines.packed_blocks import (
    AnyLinear,
    NormalizedFirst,
    PackedBlock,
    PackedPatches,
    PlainBlock,
    attends_plainly,
)
from vitreous.engines.packed_linear import PackedLinear
from vitreous.images.config import PreprocessConfig
from vitreous.model.encoder import Block, LayerScale
from vitreous.model.parameters import Dense
from vitreous.model.vit import ViT

PLAIN = (nn.Linear, Dense)
"""Kinds of layers that are packed: only these, not classes derived from them."""
PATCHES = "patches.embed"
"""Name of a ViT's first product."""
KINDS = (PackedLinear, Int8Linear)
"""Kinds of packed layers."""


@dataclass(frozen=True)
class PackedModel:
    """A model's packed twin."""

    model: nn.Module
    unpacked_layers: tuple[str, ...]
    """Dense layers of blocks that stay torch's own layers, each with the reason."""


def pack_model(model: nn.Module, packing: AnyPacking, preprocess: PreprocessConfig | None = None) -> PackedModel:
    """Return a twin of a model in which the dense layers of its encoder blocks are packed; everything else is shared.

    Layers derived from a dense layer (LoRA's, parametrised ones) stay unchanged. The twin computes the model's logits and
    features; don't call its other functions, since the last block leaves out tokens that these two don't read.

    Args:
        model: in eval mode, on the CPU, in float32.
        packing: how weights are laid out.
        preprocess: a ViT's twin takes pixels minus 128, in the type of its `centred`, and normalises them accordingly; None:
            it takes the model's own input.
    """
    twin, left = copy_tree(model), list[str]()
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
            twin.patches = _pack_patches(twin, preprocess, packing)
            twin.centred = twin.patches.takes
        return PackedModel(twin, tuple(left))
    for name, block in blocks.items():
        _pack_qkv(name, block, packing, left)
    if not blocks:
        left.append(f"a {type(model).__name__} has no encoder blocks")
    return PackedModel(twin, tuple(left))


def _pack_block(name: str, block: Block, packing: AnyPacking, left: list[str], at: tuple[ViT, bool]) -> nn.Module:
    """Return the fastest form of a block of this model, which may be the last one; its other dense layers are already
    packed."""
    model, last = at
    positions = model.rotary is not None or model.relative is not None
    qkv = block.attention.qkv
    if _adds_in_products(block) and not positions and attends_plainly(block.attention) and type(qkv) in PLAIN:
        return PlainBlock(name, block, qkv.weight, _join_bias(block), packing, last and reads_first(model))
    _pack_qkv(name, block, packing, left)
    return PackedBlock(block) if _adds_in_products(block) else block


def reads_first(model: ViT) -> bool:
    """Return whether logits and features depend only on the last block's first token."""
    return model.config.pool == "class" and model.distillation_head is None


def _join_bias(block: Block) -> Tensor | None:
    """Return the bias of q, k and v."""
    attention = block.attention
    if not attention.no_key_bias:
        return attention.qkv.bias
    return torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])


def _pack_patches(model: ViT, preprocess: PreprocessConfig, packing: AnyPacking) -> PackedPatches | NormalizedFirst:
    """Return the module that turns pixels into tokens."""
    patches = model.patches
    if folds_pixels(model):
        return PackedPatches(patches, preprocess, packing, PATCHES)
    return NormalizedFirst(patches, preprocess, get_rest(packing).dtype)


def folds_pixels(model: nn.Module) -> bool:
    """Return whether normalising images can be a part of the model's first product."""
    if not isinstance(model, ViT):
        return False
    plain = type(model.patches.stem) is nn.Identity and type(model.patches.norm_before) is nn.Identity
    return plain and type(model.patches.embed) in PLAIN


def list_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the dense layers of a model's encoder blocks that can be packed, by their names in the model."""
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, Block)}
    parts = ("attention.qkv", "attention.out", "mlp.expand", "mlp.contract")
    found = {f"{name}.{part}": block.get_submodule(part) for name, block in blocks.items() for part in parts}
    return {name: layer for name, layer in found.items() if type(layer) in PLAIN}


def copy_tree(module: nn.Module) -> nn.Module:
    """Copy a tree of modules, which share their parameters with the originals."""
    twin = copy.copy(module)
    twin._modules = {name: child if child is None else copy_tree(child) for name, child in module._modules.items()}
    return twin


def _pack_qkv(name: str, block: Block, packing: AnyPacking, left: list[str]) -> None:
    attention = block.attention
    attention.attend = attend_heads
    if _is_plain(f"{name}.attention.qkv", attention.qkv, left):
        bias = _join_bias(block)
        attention.no_key_bias = False
        attention.qkv = pack_layer(f"{name}.attention.qkv", attention.qkv.weight, bias, packing)


def _pack_out(name: str, block: Block, packing: AnyPacking, left: list[str]) -> None:
    attention = block.attention
    if _is_plain(f"{name}.attention.out", attention.out, left):
        attention.out, block.attention_scale = _pack_scaled(
            f"{name}.attention.out", attention.out, block.attention_scale, packing, block.after
        )


def _pack_mlp(name: str, block: Block, packing: AnyPacking, left: list[str]) -> None:
    mlp = block.mlp
    if _is_plain(f"{name}.mlp.expand", mlp.expand, left):
        kind = "none" if mlp.gated else _name_activation(mlp.act)
        mlp.expand = pack_layer(f"{name}.mlp.expand", mlp.expand.weight, mlp.expand.bias, packing, kind)
        mlp.act = mlp.act if kind == "none" else nn.Identity()
    if _is_plain(f"{name}.mlp.contract", mlp.contract, left):
        mlp.contract, block.mlp_scale = _pack_scaled(
            f"{name}.mlp.contract", mlp.contract, block.mlp_scale, packing, block.after
        )


def _is_plain(name: str, layer: nn.Module, left: list[str]) -> bool:
    """Return whether a layer is a plain dense layer; record it if not."""
    if type(layer) in PLAIN:
        return True
    left.append(f"{name}: a {type(layer).__name__}")
    return False


def _pack_scaled(
    name: str, layer: nn.Linear, scale: nn.Module, packing: AnyPacking, after: bool
) -> tuple[AnyLinear, nn.Module]:
    """Pack the last layer of a branch, including its LayerScale unless a norm comes between them; return the remaining
    scaling."""
    if after or type(scale) is not LayerScale:
        return pack_layer(name, layer.weight, layer.bias, packing), scale
    bias = None if layer.bias is None else layer.bias * scale.scale
    return pack_layer(name, layer.weight * scale.scale[:, None], bias, packing), nn.Identity()


def _name_activation(act: nn.Module) -> str:
    """Return the activation that follows a product; "none" if it stays a separate layer."""
    if type(act) is nn.GELU:
        return "gelu-tanh" if act.approximate == "tanh" else "gelu"
    return "silu" if type(act) is nn.SiLU else "none"


def _adds_in_products(block: nn.Module) -> bool:
    """Return whether each branch of a block ends in a packed product to which the residual is added."""
    if not isinstance(block, Block) or block.after or block.mlp_norm is None:
        return False
    ends = isinstance(block.attention.out, KINDS) and isinstance(block.mlp.contract, KINDS)
    return ends and type(block.attention_scale) is nn.Identity and type(block.mlp_scale) is nn.Identity


def count_packed(model: nn.Module, kinds: tuple[type[nn.Module], ...] = KINDS) -> int:
    """Return the number of packed layers of a model, of all kinds or of the given ones."""
    return sum(isinstance(module, kinds) for module in model.modules())
