"""timm's ViTs with rotary positions on plain blocks (timm/models/eva.py): `vit_*_rope_*` and Perception Encoder (`vit_pe_*`).

Perception Encoder's own files (facebookresearch/perception_models) are read too, by timm's names for the same tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vitreous.model.config import RotaryConfig, ViTConfig
from vitreous.weights.families.base import HALF, IMAGENET, Family, ForeignModel, find_heads, get_shape, has_tensor
from vitreous.weights.families.timm import eva, vit
from vitreous.weights.families.timm.arguments import (
    check_arguments,
    read_arguments,
    read_classes,
    read_details,
    read_size,
)
from vitreous.weights.families.timm.eva import read_block
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import explain_pooling, find_pool, name_architecture, settle_positions
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, count_blocks, dense_rules

NAMES = r"_pe_(core|lang|spatial)|_rope_(mixed|ape|\d)"
POOL_HEADS = 8
"""Heads of Perception Encoder's attention pooling, at any width."""
GIGANTIC = {1536: 16}
"""Heads of Perception Encoder that aren't the usual ones of a width."""
TRAINED = ((r"core_base", 14), (r"core_(gigantic|g)|lang|spatial", 32), (r"core_(tiny|small|large)", 24))
"""Rows and columns of the grid on which Perception Encoder's angles were trained, by name; the first match counts."""
OWN = (
    ("visual.", ""),
    ("conv1.", "patch_embed.proj."),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".ls_1.gamma", ".gamma_1"),
    (".ls_2.gamma", ".gamma_2"),
    ("attn_pool.attn.", "attn_pool."),
    ("attn_pool.layernorm.", "attn_pool.norm."),
    (".in_proj_", ".qkv."),
    ("out_proj.", "proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)
"""Perception Encoder's own names, and timm's."""
TEXT = (r"^(transformer|token_embedding|ln_final)\.", r"^(positional_embedding|text_projection|logit_scale|attn_mask)$")


@dataclass(frozen=True)
class Line:
    """The facts about a line of models that aren't in their tensors."""

    rotary: RotaryConfig
    eps: float
    images: Mapping[str, Any]
    title: str


AXIAL = RotaryConfig("cells", 100.0, columns_first=True)
LINES = {
    "rope": Line(AXIAL, 1e-6, IMAGENET, "timm's ViT with rotary positions by rows and columns, of temperature 100"),
    "mixed": Line(RotaryConfig("mixed", 10.0), 1e-6, IMAGENET, "timm's ViT with mixed rotary positions"),
    "pe": Line(RotaryConfig("cells", columns_first=True), 1e-5, HALF | {"crop": 1.0}, "Perception Encoder"),
}


def table(config: ViTConfig) -> Table:
    """Return the rules: class Eva's, those of attention pooling, and the frequencies of mixed rotary positions."""
    return [
        *eva.table(config),
        *dense_rules("embed_norm", "norm_pre"),
        *(rule for rule in vit.table(config) if rule.ours.startswith("pool.")),
        Rule("blocks.{i}.attention.rotary.frequencies", ("rope.freqs.{i}",)),
    ]


def find_line(tensors: Mapping[str, Tensor], architecture: str) -> str | None:
    """Return the line of models: from the name, else as the tensors suggest; None if they are of no such line."""
    if re.search(r"_pe_(core|lang|spatial)", architecture):
        return "pe"
    if re.search(NAMES, architecture):
        return "mixed" if "_mixed" in architecture else "rope"
    if architecture or "blocks.0.attn.qkv.weight" not in tensors:
        return None
    if "rope.freqs" in tensors:
        return "mixed"
    if "norm_pre.weight" in tensors:
        return "pe" if "attn_pool.latent" in tensors or not has_tensor(tensors, r"^(fc_)?norm\.weight$") else None
    bare = "cls_token" in tensors and not has_tensor(tensors, r"^(pos_embed|reg_token|dist_token)$")
    return "rope" if bare and {"blocks.0.gamma_1", "blocks.0.attn.qkv.bias"} <= set(tensors) else None


def recognise(weights: Weights) -> float:
    """timm's names with the marks of such a line, more certain than the families that share the names."""
    tensors = dict(weights.tensors)
    if "patch_embed.proj.weight" not in tensors:
        return 0.0
    line = find_line(tensors, str(weights.config.get("architecture", "")))
    return 0.0 if line is None else 2.5 if "architecture" in weights.config else 1.5


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read timm's files."""
    return read_architecture(weights, dict(weights.tensors), name_architecture(weights, name))


def read_architecture(weights: Weights, tensors: dict[str, Tensor], architecture: str) -> ForeignModel:
    """Read the architecture from shapes, the rest from its line of models."""
    where, named = str(weights.path), find_line(tensors, architecture) or "rope"
    line = LINES[named]
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    given = read_arguments(weights)
    details, told = read_details(given, where), given.get("num_heads")
    if "rope.freqs" in tensors:
        frequencies = tensors.pop("rope.freqs")
        told = frequencies.shape[2]
        tensors |= {f"rope.freqs.{index}": frequencies[:, index] for index in range(frequencies.shape[1])}
    heads, usual = find_heads(weights, width, told, GIGANTIC.get(width) if named == "pe" else None)
    config = ViTConfig(
        image=(224 // rows * rows, 224 // cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=vit.get_size(tensors, "head.weight", 0),
        pool=find_pool(tensors, weights, "mean" if named == "pe" else "class"),
        pool_mlp_width=vit.get_size(tensors, "attn_pool.mlp.fc2.weight", 1),
        pool_heads=POOL_HEADS if "attn_pool.latent" in tensors else 0,
        pool_prefix="attn_pool.latent" in tensors,
        class_token="cls_token" in tensors,
        patch_bias="patch_embed.proj.bias" in tensors,
        embed_norm="norm_pre.weight" in tensors,
        final_norm=vit.find_norm(tensors),
        norm_eps=details.get("eps", line.eps),
        rotary=line.rotary,
        block=read_block(tensors),
    )
    config, squared = settle_positions(config, tensors, weights)
    if named == "pe":  # without a name, angles were trained on the file's grid; with [class], cells count from 1
        offset = 1.0 if config.class_token else 0.0
        side = next((side for pattern, side in TRAINED if re.search(pattern, architecture)), None)
        reference = (side, side) if side else tuple(config.grid)
        config = replace(config, rotary=replace(line.rotary, reference=reference, offset=offset))
    elif named == "rope":
        config = replace(config, rotary=replace(line.rotary, reference=read_size(given.get("ref_feat_shape"))))
    assumed = () if architecture else (f"it is {line.title}: epsilon {line.eps:g} and normalisation",)
    assumed += (*usual, *squared, *check_arguments(config, given, where), *explain_pooling(config, weights))
    if named == "pe" and tuple(config.grid) == config.rotary.reference:
        assumed += (f"angles as trained on a grid of {config.grid}",)
    images = read_vit_transform(weights, config, line.images)
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, read_classes(weights, config.classes))


def rename_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give Perception Encoder's own tensors timm's names and shapes; others keep theirs."""
    found: dict[str, Tensor] = {}
    whole = any(name.startswith("visual.") for name in tensors)
    for name, tensor in tensors.items():
        if whole and not name.startswith("visual."):
            found[name] = tensor
            continue
        for theirs, timms in OWN:
            name = name.replace(theirs, timms)
        if name.startswith("attn_pool.qkv."):
            third, suffix = len(tensor) // 3, name.rpartition(".")[2]
            found |= {f"attn_pool.q.{suffix}": tensor[:third], f"attn_pool.kv.{suffix}": tensor[third:]}
        elif name == "proj":
            found["head.weight"] = tensor.T
        else:
            lone = {
                "class_embedding": "cls_token",
                "positional_embedding": "pos_embed",
                "attn_pool.probe": "attn_pool.latent",
            }
            axes: dict[str, tuple[None, ...]] = {"class_embedding": (None, None), "positional_embedding": (None,)}
            found[lone.get(name, name)] = tensor[axes[name]] if name in axes else tensor
    return found


def recognise_own(weights: Weights) -> float:
    """CLIP's names with Perception Encoder's pooling, or without a norm after the blocks (lang, spatial)."""
    names = {name.removeprefix("visual.") for name in weights.tensors}
    clip = {"conv1.weight", "ln_pre.weight", "transformer.resblocks.0.attn.in_proj_weight"} <= names
    return 1.5 if clip and ("attn_pool.probe" in names or "ln_post.weight" not in names) else 0.0


def interpret_own(weights: Weights, name: str | None) -> ForeignModel:
    """Read Perception Encoder's own files; the projection becomes the head."""
    found = read_architecture(replace(weights, config={}), rename_own(weights.tensors), "vit_pe_core_own")
    assert isinstance(found.model, ViTConfig)
    config = replace(found.model, head_bias=False) if found.model.classes else found.model
    images = replace(found.preprocess, resize="squash", rounding="torchvision", interpolation="bilinear")
    named = tuple(f"embedding {number}" for number in range(config.classes))
    assumed = (*found.assumed, "images squashed, bilinear, mean and deviation 0.5, as its authors' transform has them")
    return replace(found, model=config, preprocess=images, classes=named, ignored=TEXT, assumed=assumed)


FAMILY = Family("timm-rope", "timm (eva: vit_*_rope_*, Perception Encoder)", recognise, interpret, table)
OWN_FAMILY = Family(
    "pe", "facebookresearch/perception_models (Perception Encoder)", recognise_own, interpret_own, table
)
