"""OpenMMLab's ViT, DeiT and DeiT-III (mmpretrain/models/backbones/vision_transformer.py; MMClassification's before it)."""

from collections.abc import Mapping

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import (
    HALF,
    IMAGENET,
    Family,
    ForeignModel,
    find_grid,
    find_heads,
    get_shape,
    has_tensor,
)
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, build_leading_layout, convolution_rules, count_blocks, dense_rules

PATCHES = "patch_embed.projection.weight"
SMALL = (768, 8)
"""Width and depth of their own "small", which has 8 heads."""


def table(config: ViTConfig) -> Table:
    """Return the rules."""
    return [
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        Rule("patches.embed.bias", ("patch_embed.projection.bias",)),
        Rule("class_token", ("cls_token",), build_leading_layout(2)),
        Rule("positions.embedding", ("pos_embed",), build_leading_layout(1)),
        *dense_rules("embed_norm", "pre_norm"),
        *dense_rules("blocks.{i}.attention_norm", "layers.{i}.ln1"),
        *dense_rules("blocks.{i}.attention.qkv", "layers.{i}.attn.qkv"),
        *dense_rules("blocks.{i}.attention.out", "layers.{i}.attn.proj"),
        Rule("blocks.{i}.attention_scale.scale", ("layers.{i}.attn.gamma1.weight",)),
        *dense_rules("blocks.{i}.mlp_norm", "layers.{i}.ln2"),
        *dense_rules("blocks.{i}.mlp.expand", "layers.{i}.ffn.layers.0.0"),
        *dense_rules("blocks.{i}.mlp.contract", "layers.{i}.ffn.layers.1"),
        Rule("blocks.{i}.mlp_scale.scale", ("layers.{i}.ffn.gamma2.weight",)),
        *dense_rules("norm", "ln2" if config.final_norm == "pooled" else "ln1"),
        *dense_rules("pre_logits.0", "head.layers.pre_logits"),
        *dense_rules("head", "head.layers.head"),
        *dense_rules("head", "head.fc"),
    ]


def recognise(weights: Weights) -> float:
    """Their names."""
    names = (PATCHES, "layers.0.ln1.weight", "layers.0.attn.qkv.weight", "layers.0.ffn.layers.0.0.weight")
    return float(all(name in weights.tensors for name in names))


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes."""
    tensors, where = weights.tensors, str(weights.path)
    width, channels, rows, cols = get_shape(tensors, PATCHES, where)
    depth = count_blocks(tensors, r"layers\.(\d+)\.")
    heads, assumed = find_heads(weights, width, usual=8 if (width, depth) == SMALL else None)
    token, pooled = "cls_token" in tensors, is_norm_pooled(tensors, where)
    count = get_shape(tensors, "pos_embed", where)[1]
    prefix, grid, squared = find_grid(weights, count, (0, 1) if token else (0,))
    scaled = "layers.0.attn.gamma1.weight" in tensors
    head = next((tensors[key] for key in ("head.layers.head.weight", "head.fc.weight") if key in tensors), None)
    config = ViTConfig(
        image=(grid[0] * rows, grid[1] * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=get_shape(tensors, "layers.0.ffn.layers.0.0.weight", where)[0],
        classes=0 if head is None else head.shape[0],
        pool="class" if token and not pooled else "mean",
        class_token=token,
        positioned_tokens="all" if prefix == token else "patches",
        final_norm="pooled" if pooled else "tokens",
        embed_norm="pre_norm.weight" in tensors,
        patch_bias="patch_embed.projection.bias" in tensors,
        pre_logits="head.layers.pre_logits.weight" in tensors,
        block=BlockConfig(
            qkv_bias="all" if "layers.0.attn.qkv.bias" in tensors else "none", layer_scale=1e-5 if scaled else 0.0
        ),
    )
    images = PreprocessConfig(
        size=config.image,
        rounding="torchvision",
        crop=0.875 if config.image == (224, 224) else 1.0,
        interpolation="bicubic",
        **(IMAGENET if scaled else HALF),
    )
    kind = (
        "DeiT-III: ImageNet's mean and deviation" if scaled else "ViT: mean and deviation 0.5 (DeiT's are ImageNet's)"
    )
    assumed += (
        *squared,
        f"activation gelu, epsilon 1e-6; the transform of their {kind}",
    )
    return ForeignModel(config, images, "bicubic", tensors, assumed)


def is_norm_pooled(tensors: Mapping[str, Tensor], where: str) -> bool:
    """Return whether the final norm comes after pooling; raises CheckpointError if there are two."""
    if has_tensor(tensors, r"^ln1\.") and has_tensor(tensors, r"^ln2\."):
        raise CheckpointError(f"{where} normalises both before and after pooling, which vitreous can't build")
    return has_tensor(tensors, r"^ln2\.")


FAMILY = Family("mmpretrain", "OpenMMLab (mmpretrain, MMClassification)", recognise, interpret, table)
