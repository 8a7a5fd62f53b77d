"""timm's `vit_*` and `deit*` (timm/models/vision_transformer.py, deit.py): safetensors or pth, with or without config.json."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.checkpoints.family import (
    CLIP,
    HALF,
    IMAGENET,
    Family,
    Reading,
    has,
    shape_of,
    square,
    usual_heads,
)
from vitreous.checkpoints.mapping import Rule, Table, convolution, dense, depth_of, leading, stripped
from vitreous.checkpoints.weights import Weights
from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig

MARKS = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight")
PREFIXES = ("module.", "backbone.", "model.", "trunk.")
ARCHITECTURES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (r"clip_quickgelu", {"act": "quick-gelu", "eps": 1e-5}, CLIP),
    (r"clip", {"eps": 1e-5}, CLIP),
    (r"siglip", {"act": "gelu-tanh"}, HALF),
    (r"dinov2", {}, IMAGENET | {"crop": 1.0}),
    (r"dino|mae|ijepa", {}, IMAGENET),
    (r"deit3", {}, IMAGENET),
    (r"deit", {}, IMAGENET),
    (r"augreg|orig_in21k|vit_", {}, HALF),
)
"""What an architecture's name says that its keys don't: activation, epsilon, normalisation. The first match counts."""


def table(config: ViTConfig) -> Table:
    """Return the rules."""
    norm = "fc_norm" if config.norm_at == "pooled" else "norm"
    return [
        Rule("patches.embed.weight", ("patch_embed.proj.weight",), convolution(config)),
        Rule("patches.embed.bias", ("patch_embed.proj.bias",)),
        Rule("class_token", ("cls_token",), leading(2)),
        Rule("distillation_token", ("dist_token",), leading(2)),
        Rule("registers", ("reg_token",), leading(1)),
        Rule("positions.embedding", ("pos_embed",), leading(1)),
        *dense("embed_norm", "norm_pre"),
        *dense("blocks.{i}.attention_norm", "blocks.{i}.norm1"),
        *dense("blocks.{i}.attention.qkv", "blocks.{i}.attn.qkv"),
        *dense("blocks.{i}.attention.q_norm", "blocks.{i}.attn.q_norm"),
        *dense("blocks.{i}.attention.k_norm", "blocks.{i}.attn.k_norm"),
        *dense("blocks.{i}.attention.norm", "blocks.{i}.attn.norm"),
        *dense("blocks.{i}.attention.out", "blocks.{i}.attn.proj"),
        Rule("blocks.{i}.attention_scale.scale", ("blocks.{i}.ls1.gamma",)),
        *dense("blocks.{i}.mlp_norm", "blocks.{i}.norm2"),
        *dense("blocks.{i}.mlp.expand", "blocks.{i}.mlp.fc1"),
        *dense("blocks.{i}.mlp.norm", "blocks.{i}.mlp.norm"),
        *dense("blocks.{i}.mlp.contract", "blocks.{i}.mlp.fc2"),
        Rule("blocks.{i}.mlp_scale.scale", ("blocks.{i}.ls2.gamma",)),
        *dense("norm", norm),
        Rule("pool.attention.probe", ("attn_pool.latent",), leading(2)),
        *dense("pool.attention.q", "attn_pool.q"),
        *dense("pool.attention.kv", "attn_pool.kv"),
        *dense("pool.attention.out", "attn_pool.proj"),
        *dense("pool.attention.norm", "attn_pool.norm"),
        *dense("pool.attention.mlp.expand", "attn_pool.mlp.fc1"),
        *dense("pool.attention.mlp.contract", "attn_pool.mlp.fc2"),
        *dense("pre_logits.0", "pre_logits.fc"),
        *dense("head", "head"),
        *dense("distillation_head", "head_dist"),
    ]


def recognise(weights: Weights) -> float:
    """timm's names; a config.json that names an architecture makes it sure."""
    tensors = stripped(weights.tensors, PREFIXES)
    if not all(name in tensors for name in MARKS) or has(tensors, r"^(decoder|mask_token|rope|teacher)"):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret(weights: Weights, name: str | None) -> Reading:
    """Read the architecture from shapes, the rest from config.json or from what the name says."""
    tensors, where = stripped(weights.tensors, PREFIXES), str(weights.path)
    width, channels, rows, cols = shape_of(tensors, "patch_embed.proj.weight", where)
    depth = depth_of(tensors, r"blocks\.(\d+)\.")
    given = weights.config.get("pretrained_cfg") or {}
    architecture = name or str(weights.config.get("architecture", "")) or "vit_"
    details, images = said(architecture)
    heads, assumed = heads_of(architecture, width, where)
    prefix = sum(part in tensors for part in ("cls_token", "dist_token"))
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    config = ViTConfig(
        image=(rows, cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=depth,
        heads=heads,
        mlp=shape_of(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        pool=pool_of(tensors, architecture),
        class_token="cls_token" in tensors,
        distillation="dist_token" in tensors,
        registers=registers,
        norm_at="pooled" if "fc_norm.weight" in tensors else "tokens",
        norm_eps=details.get("eps", 1e-6),
        embed_norm="norm_pre.weight" in tensors,
        patch_bias="patch_embed.proj.bias" in tensors,
        head_bias="head.bias" in tensors or "head.weight" not in tensors,
        pre_logits="pre_logits.fc.weight" in tensors,
        pool_mlp=tensors["attn_pool.mlp.fc2.weight"].shape[1] if "attn_pool.mlp.fc2.weight" in tensors else 0,
        block=block_of(tensors, details, width),
    )
    config = placed(config, tensors, given, prefix, registers, where)
    if "act" not in details and "architecture" not in weights.config and name is None:
        assumed = (*assumed, "activation gelu, epsilon 1e-6")
    return Reading(config, preprocess(config, given, images), "bicubic-antialias", tensors, assumed)


def said(architecture: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an architecture's name says of activation and epsilon, and of normalisation."""
    for pattern, details, images in ARCHITECTURES:
        if re.search(pattern, architecture):
            return details, images
    return {}, HALF


def heads_of(architecture: str, width: int, where: str) -> tuple[int, tuple[str, ...]]:
    """Return the heads, and a note where they had to be assumed."""
    heads = usual_heads(width)
    if width % heads:
        raise CheckpointError(
            f"{where}: nobody's ViT of width {width} is known here, so its heads aren't; say --as NAME"
        )
    return heads, (f"{heads} heads, as is usual at width {width}",)


def pool_of(tensors: Mapping[str, Tensor], architecture: str) -> str:
    """Return how the model pools: what its tensors need."""
    if "attn_pool.latent" in tensors:
        return "map"
    return "class" if "cls_token" in tensors and "fc_norm.weight" not in tensors else "mean"


def block_of(tensors: Mapping[str, Tensor], details: Mapping[str, Any], width: int) -> BlockConfig:
    """Return how the blocks are made."""
    hidden, expand = tensors["blocks.0.mlp.fc2.weight"].shape[1], tensors["blocks.0.mlp.fc1.weight"].shape[0]
    return BlockConfig(
        norm="layer" if "norm.bias" in tensors or "fc_norm.bias" in tensors else "rms",
        act=details.get("act", "gelu"),
        mlp="swiglu" if expand == 2 * hidden else "plain",
        mlp_norm="blocks.0.mlp.norm.weight" in tensors,
        qkv_bias="all" if "blocks.0.attn.qkv.bias" in tensors else "none",
        biases="blocks.0.attn.proj.bias" in tensors,
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
        attention_norm="blocks.0.attn.norm.weight" in tensors,
        layer_scale=1e-5 if "blocks.0.ls1.gamma" in tensors else 0.0,
    )


def placed(
    config: ViTConfig,
    tensors: Mapping[str, Tensor],
    given: Mapping[str, Any],
    prefix: int,
    registers: int,
    where: str,
) -> ViTConfig:
    """Settle the grid, and which tokens have positions."""
    rows, cols = config.patch
    size = given.get("input_size")
    if "pos_embed" not in tensors:
        image = tuple(size[1:]) if size else (224, 224)
        return replace(config, image=image, positions="none")
    count = tensors["pos_embed"].shape[1]
    if size and size[1] % rows == 0 and size[2] % cols == 0:
        cells = (size[1] // rows) * (size[2] // cols)
        known = {cells + prefix + registers: "all", cells + prefix: "class", cells: "patches"}
        if count in known:
            return replace(config, image=tuple(size[1:]), position_tokens=known[count])
    candidates = [(prefix, "class" if registers else "all"), (0, "patches"), (prefix + registers, "all")]
    for tokens, kind in candidates:
        if is_square(count - tokens):
            grid = square(count - tokens, where)
            return replace(config, image=(grid.rows * rows, grid.cols * cols), position_tokens=kind)
    square(count - prefix, where)
    raise AssertionError("unreachable")


def is_square(cells: int) -> bool:
    """Tell whether so many cells make a square."""
    return cells > 0 and round(cells**0.5) ** 2 == cells


def preprocess(config: ViTConfig, given: Mapping[str, Any], images: Mapping[str, Any]) -> PreprocessConfig:
    """Return the evaluation transform: of pretrained_cfg where it is there, else what the name stands for."""
    images = dict(images)
    interpolation = given.get("interpolation", "bicubic")
    return PreprocessConfig(
        size=tuple(config.image),
        resize="squash" if given.get("crop_mode") == "squash" else "short",
        crop=float(given.get("crop_pct") or images.get("crop", 0.9)),
        interpolation=interpolation if interpolation in ("bicubic", "bilinear", "nearest") else "bicubic",
        mean=tuple(given.get("mean") or images["mean"]),
        std=tuple(given.get("std") or images["std"]),
    )


FAMILY = Family("timm", "timm (vision_transformer, deit)", recognise, interpret, table)
