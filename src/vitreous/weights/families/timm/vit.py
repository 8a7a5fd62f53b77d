"""timm's `vit_*` and `deit*` (timm/models/vision_transformer.py, deit.py): safetensors or pth, with or without config.json."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import BlockConfig, Pool, ViTConfig
from vitreous.shapes import Size
from vitreous.weights.families.base import (
    CLIP,
    HALF,
    IMAGENET,
    Family,
    ForeignModel,
    Notes,
    find_grid,
    find_heads,
    get_shape,
    has_tensor,
)
from vitreous.weights.families.timm.arguments import (
    check_arguments,
    read_arguments,
    read_classes,
    read_details,
    read_grid,
    read_images,
    read_pooling,
    read_size,
)
from vitreous.weights.families.timm.hybrid import read_channels, read_stem, stem_rules
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.write import explain_unwritable, sidecars
from vitreous.weights.files import Weights
from vitreous.weights.mapping import (
    Layout,
    Rule,
    Table,
    build_leading_layout,
    convolution_rules,
    count_blocks,
    dense_rules,
)

ELSEWHERE = r"^(decoder|mask_token|rope|teacher|storage_tokens|register_tokens)|^blocks\.0\.(gamma_1|attn\.q_bias)|relative_pos|rel_pos\."
"""Names that no variant of timm's ViT that is read here has."""
POOLS: dict[Any, Pool] = {"token": "class", "avg": "mean", "max": "max"}
MARKS = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
LAYER_SCALE = re.compile(
    r"^(blocks\.\d+)\.(?:ls|gamma|lambda|layer_?scale)_?([12])(?:\.(?:gamma|lambda1?|weight|scale))?$"
)
"""The spellings of LayerScale: ls1.gamma, gamma_1, layer_scale_1, ..."""
TANH = r"giantopt|patch32_siglip|large_patch16_siglip\w*_512|so400m_patch16_siglip"
PRE_NORM = "branches are normalised before, not after (--as NAME with _rpn_ in it uses the latter)"
ARCHITECTURES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (r"_rpn_", {"order": "after"}, HALF),
    (r"clip_quickgelu", {"act": "quick-gelu", "eps": 1e-5}, CLIP),
    (r"clip", {"eps": 1e-5}, CLIP),
    (r"giantopt", {"act": "gelu-tanh", "heads": 16}, HALF),
    (TANH, {"act": "gelu-tanh"}, HALF),
    (r"siglip", {}, HALF),
    (r"beit3", {"eps": 1e-5}, HALF),
    (r"dinov2", {}, IMAGENET | {"crop": 1.0}),
    (r"dino|mae|ijepa|deit", {}, IMAGENET),
    (r"^vit_base_patch16_gap", {"heads": 16}, IMAGENET),
    (r"^vit_small_resnet", {"heads": 8}, IMAGENET),
    (r"^test_vit3", {"heads": 3, "prefix": True}, HALF),
    (r"^test_vit4", {"heads": 3}, HALF),
    (r"^test_vit", {"heads": 2}, HALF),
    (r"augreg|orig_in21k|vit_", {}, HALF),
)
"""What an architecture's name says beyond its keys: activation, epsilon, heads, normalisation. The first match
counts."""
EVA = r"^eva(02)?_|dinov3|lingbot|rope_reg"
"""Architectures of timm's class Eva."""
OTHERS = rf"_pe_|_rope|{EVA}"
"""Architectures whose tensors have these names but another meaning."""
FILES = r"(vit|deit3?|beit3)_\w*\d|test_vit[2-4](\.|$)"
"""The start of file names that are timm's names of models."""
NAMED = "activation, epsilon, mean and deviation of timm's {called}, by the file's name; --as NAME uses another's"
CLIP_LIKE = "it is one of CLIP's towers: epsilon 1e-5, activation gelu (--as vit_clip_quickgelu takes the other one)"
SHARED = (
    "activation gelu, epsilon 1e-6, mean and deviation 0.5, timm's resize rule: these names are also DeiT's, DINO's and "
    "MAE's; --as deit, dino or mae takes theirs"
)


def table(config: ViTConfig) -> Table:
    """Return the rules."""
    norm = "fc_norm" if config.final_norm == "pooled" else "norm"
    return [
        *stem_rules(config),
        Rule("patches.embed.weight", ("patch_embed.proj.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", ("patch_embed.proj.bias",)),
        Rule("class_token", ("cls_token",), build_leading_layout(2)),
        Rule("distillation_token", ("dist_token",), build_leading_layout(2)),
        Rule("registers", ("reg_token",), build_leading_layout(1)),
        Rule("positions.embedding", ("pos_embed",), build_position_layout(config)),
        *dense_rules("embed_norm", "norm_pre"),
        *dense_rules("blocks.{i}.attention_norm", "blocks.{i}.norm1"),
        *dense_rules("blocks.{i}.attention.qkv", "blocks.{i}.attn.qkv"),
        *dense_rules("blocks.{i}.attention.q_norm", "blocks.{i}.attn.q_norm"),
        *dense_rules("blocks.{i}.attention.k_norm", "blocks.{i}.attn.k_norm"),
        *dense_rules("blocks.{i}.attention.norm", "blocks.{i}.attn.norm"),
        *dense_rules("blocks.{i}.attention.out", "blocks.{i}.attn.proj"),
        Rule("blocks.{i}.attention_scale.scale", ("blocks.{i}.ls1.gamma",)),
        *dense_rules("blocks.{i}.mlp_norm", "blocks.{i}.norm2"),
        *dense_rules("blocks.{i}.mlp.expand", "blocks.{i}.mlp.fc1"),
        *dense_rules("blocks.{i}.mlp.norm", "blocks.{i}.mlp.norm"),
        *dense_rules("blocks.{i}.mlp.contract", "blocks.{i}.mlp.fc2"),
        Rule("blocks.{i}.mlp_scale.scale", ("blocks.{i}.ls2.gamma",)),
        *dense_rules("norm", norm),
        Rule("pool.attention.probe", ("attn_pool.latent",), build_leading_layout(2)),
        *dense_rules("pool.attention.q", "attn_pool.q"),
        *dense_rules("pool.attention.kv", "attn_pool.kv"),
        *dense_rules("pool.attention.out", "attn_pool.proj"),
        *dense_rules("pool.attention.norm", "attn_pool.norm"),
        *dense_rules("pool.attention.mlp.expand", "attn_pool.mlp.fc1"),
        *dense_rules("pool.attention.mlp.contract", "attn_pool.mlp.fc2"),
        *dense_rules("pre_logits.0", "pre_logits.fc"),
        *dense_rules("head", "head"),
        *dense_rules("distillation_head", "head_dist"),
    ]


def build_position_layout(config: ViTConfig) -> Layout:
    """Return the layout of positions; where registers have none, those written for them are zeros, which add nothing."""
    plain, named = build_leading_layout(1), config.prefix - config.registers
    if config.positioned_tokens != "class" or not config.registers:
        return plain

    def write(ours: Tensor) -> Tensor:
        return plain.write(torch.cat([ours[:named], ours.new_zeros(config.registers, config.width), ours[named:]]))

    return Layout(plain.read, write)


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give LayerScale timm's name, in any spelling."""
    return {LAYER_SCALE.sub(r"\1.ls\2.gamma", name): tensor for name, tensor in tensors.items()}


def recognise(weights: Weights) -> float:
    """timm's names; certain if a config.json names an architecture."""
    tensors = weights.tensors
    named = re.search(EVA, str(weights.config.get("architecture", "")))
    if named or not all(name in tensors for name in MARKS) or has_tensor(tensors, ELSEWHERE):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def name_architecture(weights: Weights, name: str | None) -> str:
    """Return the architecture's name: from the user, else from config.json, else nothing."""
    return name or str(weights.config.get("architecture", ""))


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, the rest from config.json or from the name."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    stem = read_stem(tensors, where)
    if stem.kind != "none":
        rows, cols, channels = rows * stem.stride, cols * stem.stride, read_channels(tensors, stem, where)
    details, images, named = find_details(weights, tensors, name)
    if details.get("positions"):
        get_shape(tensors, "pos_embed", where)
    heads, assumed = find_heads(weights, width, details.get("heads"), details.get("usual"))
    config = ViTConfig(
        image=(224 // rows * rows, 224 // cols * cols),
        patch=(rows, cols),
        channels=channels,
        stem=stem,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=get_size(tensors, "head.weight", 0),
        pool=find_pool(tensors, weights),
        pool_prefix=find_pool_prefix(tensors, weights, details),
        class_token="cls_token" in tensors,
        distillation_token="dist_token" in tensors,
        registers=get_size(tensors, "reg_token", 1),
        final_norm=find_norm(tensors),
        norm_eps=details.get("eps", 1e-6),
        embed_norm="norm_pre.weight" in tensors,
        patch_bias="norm_pre.weight" not in tensors,
        pre_logits="pre_logits.fc.weight" in tensors,
        pool_mlp_width=get_size(tensors, "attn_pool.mlp.fc2.weight", 1),
        block=read_block(tensors, details, width),
    )
    config, positioned = settle_positions(config, tensors, weights)
    assumed += (
        *positioned,
        *check_arguments(config, read_arguments(weights), where),
        *explain_pooling(config, weights),
    )
    images = read_vit_transform(weights, config, images)
    return ForeignModel(
        config, images, "bicubic-antialias", tensors, assumed + named, read_classes(weights, config.classes)
    )


def find_details(
    weights: Weights, tensors: Mapping[str, Tensor], name: str | None
) -> tuple[dict[str, Any], Mapping[str, Any], Notes]:
    """Return activation, epsilon and heads, and the images' normalisation, which no tensor shows; and the assumptions.

    Args:
        weights: with the configuration next to them, which takes precedence.
        tensors: theirs under plain names.
        name: the user's name of the architecture.
    """
    told = name_architecture(weights, name)
    architecture = told or name_from_file(weights, tensors)
    refuse(architecture, tensors, str(weights.path))
    details, images = parse_architecture(architecture or guess_architecture(tensors))
    notes: Notes = ()
    if not told:
        shared = CLIP_LIKE if guess_architecture(tensors) else SHARED
        notes = (NAMED.format(called=architecture),) if architecture else (shared, PRE_NORM)
        details["usual"] = details.pop("heads", None)
    if "attn_pool.latent" in tensors and tensors["attn_pool.latent"].shape[-1] == 1536:
        details["usual"] = 16  # SigLIP's giant has fewer than DINOv2's
    return details | read_details(read_arguments(weights), str(weights.path)), images, notes


def get_size(tensors: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Return one side of a tensor, or 0 if it is missing."""
    return tensors[name].shape[axis] if name in tensors else 0


def parse_architecture(architecture: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an architecture's name says about activation and epsilon, and about normalisation."""
    for pattern, details, images in ARCHITECTURES:
        if re.search(pattern, architecture):
            return dict(details), images
    return {}, HALF


def guess_architecture(tensors: Mapping[str, Tensor]) -> str:
    """Guess the architecture of a file without a name: only CLIP's towers have a norm before the blocks."""
    return "clip" if "norm_pre.weight" in tensors else ""


def refuse(architecture: str, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse models whose tensors have these names but another meaning."""
    perception = "norm_pre.weight" in tensors and ("attn_pool.latent" in tensors or find_norm(tensors) == "none")
    if perception or re.search(OTHERS, architecture):
        what = architecture or "a Perception Encoder"
        raise CheckpointError(f"{where}: {what} is a variant of timm's ViT that vitreous can't build")


def name_from_file(weights: Weights, tensors: Mapping[str, Tensor]) -> str:
    """Return the architecture that the file's own name gives, as in timm's downloads; "" if it gives none.

    Raises:
        CheckpointError: the name is a CLIP tower's but the tensors aren't, or the other way round.
    """
    name = weights.path.stem if re.match(FILES, weights.path.stem) else ""
    if name and ("clip" in name) != bool(guess_architecture(tensors)):
        has = "have" if guess_architecture(tensors) else "lack"
        raise CheckpointError(
            f"{weights.path} is named like one of timm's models, but its tensors {has} the norm before the blocks "
            "that a CLIP tower has; say --as NAME for what it is"
        )
    return name


def find_norm(tensors: Mapping[str, Tensor]) -> Literal["tokens", "pooled", "none"]:
    """Return where the final norm is applied."""
    if "fc_norm.weight" in tensors:
        return "pooled"
    return "tokens" if "norm.weight" in tensors else "none"


def find_pool(tensors: Mapping[str, Tensor], weights: Weights, default: Pool | None = None) -> Pool:
    """Return how the model pools: from config.json, else the default, else what its tensors need."""
    if "attn_pool.latent" in tensors:
        return "map"
    said_there = read_pooling(weights)
    if said_there in POOLS:
        return POOLS[said_there]
    if said_there is not None and (said_there or "head.weight" in tensors):
        raise CheckpointError(f"config.json names the pooling {said_there!r}, which vitreous doesn't have")
    if default is not None:
        return default
    return "class" if "cls_token" in tensors and "fc_norm.weight" not in tensors else "mean"


def find_pool_prefix(tensors: Mapping[str, Tensor], weights: Weights, details: Mapping[str, Any]) -> bool:
    """Return whether prefix tokens are pooled too: from config.json, else as in the architecture of that name."""
    said = read_arguments(weights).get("pool_include_prefix", details.get("prefix", False))
    return bool(said) and find_pool(tensors, weights) != "class"


def explain_pooling(config: ViTConfig, weights: Weights) -> Notes:
    """Say how the model pools, if only its tensors suggest it."""
    if read_pooling(weights) is not None or config.pool == "map":
        return ()
    return (
        "it pools by " + {"class": "[class]"}.get(config.pool, "the mean over the patches, prefix tokens left out"),
    )


def read_block(tensors: Mapping[str, Tensor], details: Mapping[str, Any], width: int) -> BlockConfig:
    """Return the design of the blocks."""
    hidden, expand = tensors["blocks.0.mlp.fc2.weight"].shape[1], tensors["blocks.0.mlp.fc1.weight"].shape[0]
    return BlockConfig(
        norm="layer" if "blocks.0.norm1.bias" in tensors else "rms",
        activation=details.get("act", "gelu"),
        norm_order=details.get("order", "before"),
        mlp="swiglu" if expand == 2 * hidden else "plain",
        mlp_inner_norm="blocks.0.mlp.norm.weight" in tensors,
        qkv_bias="all" if "blocks.0.attn.qkv.bias" in tensors else "none",
        biases="blocks.0.attn.proj.bias" in tensors,
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
        attention_inner_norm="blocks.0.attn.norm.weight" in tensors,
        layer_scale=1e-5 if "blocks.0.ls1.gamma" in tensors else 0.0,
    )


def settle_positions(config: ViTConfig, tensors: Mapping[str, Tensor], weights: Weights) -> tuple[ViTConfig, Notes]:
    """Settle the grid, and which tokens have positions; return the assumptions.

    The constructor's img_size takes precedence over the images of pretrained_cfg, which may be older than the model.
    """
    images, told = read_images(weights), weights.stated.grid
    if "pos_embed" not in tensors:
        built = read_size(read_arguments(weights).get("img_size"))
        image = built or images or ((told[0] * config.patch[0], told[1] * config.patch[1]) if told else None)
        note = (
            () if image else (f"images of {Size(*config.image)}: there are no positions, and nothing says their size",)
        )
        return replace(config, image=image or config.image, positions="none"), note
    count = tensors["pos_embed"].shape[1]
    kinds = list_kinds(config, read_arguments(weights).get("no_embed_class"))
    said = read_grid(weights, config.patch, [count - prefix for prefix in kinds])
    prefix, grid, notes = find_grid(weights, count, tuple(kinds), said)
    image = (grid.rows * config.patch[0], grid.cols * config.patch[1])
    if images is not None and image != images:
        notes += (f"images of {Size(*image)}, as the positions are; pretrained_cfg names {Size(*images)}",)
    return replace(config, image=image, positioned_tokens=kinds[prefix]), notes


def list_kinds(config: ViTConfig, patches_only: bool | None) -> dict[int, Literal["all", "class", "patches"]]:
    """Return how many prefix tokens may have positions, the most likely first, with a description.

    Args:
        config: the model.
        patches_only: no_embed_class in config.json.
    """
    if not config.prefix or patches_only is False:
        return {config.prefix: "all"}
    if patches_only:
        return {0: "patches"}
    named = config.prefix - config.registers
    return {named: "class" if config.registers else "all"} | ({0: "patches"} if named else {}) | {config.prefix: "all"}


FAMILY = Family(
    "timm",
    "timm (vision_transformer, its hybrids, deit)",
    recognise,
    interpret,
    table,
    unwritable=explain_unwritable,
    sidecars=sidecars,
)
