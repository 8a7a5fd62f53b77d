"""timm's class Eva (timm/models/eva.py): EVA, EVA-02, DINOv3 and the `rope_reg` models; safetensors or pth.

The names distinguish them from timm's plain ViT: gamma_1, q_bias, or separate q, k and v.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.weights.families.base import CLIP, HALF, IMAGENET, Family, ForeignModel, find_heads, get_shape, has_tensor
from vitreous.weights.families.timm import vit
from vitreous.weights.families.timm.arguments import (
    check_arguments,
    read_arguments,
    read_classes,
    read_details,
    read_pooling,
)
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import explain_pooling, find_pool, name_architecture, settle_positions
from vitreous.weights.files import Weights
from vitreous.weights.mapping import (
    Rule,
    Table,
    build_leading_layout,
    convolution_rules,
    count_blocks,
    dense_rules,
    stack_rule,
)

SIGNS = r"^blocks\.0\.(gamma_1|attn\.q_bias|attn\.q_proj\.weight)$"
HEADS = {1408: 16, 4096: 32}
"""Heads by width where a head isn't 64 values wide: EVA giant, DINOv3 7B."""
POST_NORM = 1792
"""Width of EVA-02 enormous, which normalises after the branches and has no other distinguishing feature."""
UNKNOWN = r"enormous|sapiens|_pe_|rope_(mixed|ape|\d)|beit"


@dataclass(frozen=True)
class Kind:
    """The facts about a line of models that aren't in their tensors."""

    rotary: RotaryConfig
    eps: float
    images: Mapping[str, tuple[float, ...] | float]
    title: str
    side: int = 224
    """Rows and columns of the images, if neither positions nor config.json give them."""


CELLS = RotaryConfig("cells", 10_000.0, (16, 16))
KINDS = {
    "eva": Kind(RotaryConfig(), 1e-6, CLIP, "EVA"),
    "eva02": Kind(CELLS, 1e-6, CLIP, "EVA-02"),
    "dinov3": Kind(RotaryConfig("centred", 100.0), 1e-5, {**IMAGENET, "crop": 1.0}, "DINOv3", 256),
    "rope_reg": Kind(CELLS, 1e-6, {**HALF, "crop": 0.95}, "timm's ViT with rotary positions and registers", 256),
}


def table(config: ViTConfig) -> Table:
    """Return the rules. Of two ways to write q, k and v or the gated layer, the first is the one that its models
    have."""
    attention, mlp = "blocks.{i}.attn", "blocks.{i}.mlp"
    apart = [f"{attention}.{part}_proj" for part in "qkv"]
    joined = [Rule("blocks.{i}.attention.qkv.weight", (f"{attention}.qkv.weight",))]
    biases = [Rule(f"blocks.{{i}}.attention.{part}_bias", (f"{attention}.{part}_bias",)) for part in "qv"]
    split = [stack_rule("blocks.{i}.attention.qkv", apart, "weight")]
    split += [Rule(f"blocks.{{i}}.attention.{part}_bias", (f"{attention}.{part}_proj.bias",)) for part in "qv"]
    packed = dense_rules("blocks.{i}.mlp.expand", f"{mlp}.fc1")
    gated = [
        stack_rule("blocks.{i}.mlp.expand", (f"{mlp}.fc1_g", f"{mlp}.fc1_x"), suffix) for suffix in ("weight", "bias")
    ]
    aligned = config.block.mlp == "swiglu" and (config.block.mlp_inner_norm or config.rotary.kind == "centred")
    return [
        Rule("patches.embed.weight", ("patch_embed.proj.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", ("patch_embed.proj.bias",)),
        Rule("class_token", ("cls_token",), build_leading_layout(2)),
        Rule("registers", ("reg_token",), build_leading_layout(1)),
        Rule("positions.embedding", ("pos_embed",), build_leading_layout(1)),
        *dense_rules("blocks.{i}.attention_norm", "blocks.{i}.norm1"),
        *([*split, *joined, *biases] if config.block.mlp_inner_norm else [*joined, *biases, *split]),
        *dense_rules("blocks.{i}.attention.qkv", f"{attention}.qkv")[1:],
        *dense_rules("blocks.{i}.attention.norm", f"{attention}.norm"),
        *dense_rules("blocks.{i}.attention.out", f"{attention}.proj"),
        Rule("blocks.{i}.attention_scale.scale", ("blocks.{i}.gamma_1",)),
        *dense_rules("blocks.{i}.mlp_norm", "blocks.{i}.norm2"),
        *([*gated, *packed] if aligned else [*packed, *gated]),
        *dense_rules("blocks.{i}.mlp.norm", f"{mlp}.norm"),
        *dense_rules("blocks.{i}.mlp.contract", f"{mlp}.fc2"),
        Rule("blocks.{i}.mlp_scale.scale", ("blocks.{i}.gamma_2",)),
        *dense_rules("norm", "fc_norm" if config.final_norm == "pooled" else "norm"),
        *dense_rules("head", "head"),
    ]


def recognise(weights: Weights) -> float:
    """timm's names with the marks of class Eva; certain if a config.json names an architecture."""
    tensors = weights.tensors
    if "patch_embed.proj.weight" not in tensors or "blocks.0.mlp.fc2.weight" not in tensors:
        return 0.0
    named = re.search(vit.EVA, str(weights.config.get("architecture", "")))
    if not (named or has_tensor(tensors, SIGNS)) or has_tensor(
        tensors, r"relative_position|^mask_token|^storage_tokens"
    ):
        return 0.0
    if "architecture" in weights.config:
        return 2.0
    return 0.0 if is_deit3(tensors) else 1.0


def is_deit3(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are DeiT-III's own names: timm's with gamma_1, with positions and without registers."""
    named = all(name in tensors for name in ("blocks.0.gamma_1", "blocks.0.attn.qkv.bias", "pos_embed"))
    return named and not has_tensor(tensors, r"^reg_token$|^rope|attn\.q_bias|attn\.proj_[lw]|_token_only|mlp\.fc1_g")


def find_kind(tensors: Mapping[str, Tensor], architecture: str, where: str) -> tuple[str, tuple[str, ...]]:
    """Return the line of models: from the name, else as the tensors suggest, with a note."""
    strange = has_tensor(tensors, r"^rope\.freqs|^norm_pre|attn\.(wq|gate|k_norm|k_proj\.bias)")
    strange = strange or tensors["patch_embed.proj.weight"].shape[0] == POST_NORM
    if strange or re.search(UNKNOWN, architecture):
        raise CheckpointError(
            f"{where}: {architecture or 'this model'} is a variant of timm's Eva that vitreous can't build"
        )
    for pattern, kind in (
        (r"dinov3|lingbot", "dinov3"),
        (r"rope_reg", "rope_reg"),
        (r"eva02", "eva02"),
        (r"eva", "eva"),
    ):
        if re.search(pattern, architecture):
            return kind, ()
    gated = has_tensor(tensors, r"^blocks\.0\.mlp\.fc1_g\.") or is_packed(tensors)
    scaled = "blocks.0.gamma_1" in tensors
    kind = {
        # class token, positions, registers, gated MLP, layer scale
        (True, True, False, True, False): "eva02",
        (True, True, False, False, False): "eva",
        (True, False, True, True, True): "dinov3",
        (True, False, True, False, True): "dinov3",
        (False, False, True, False, True): "rope_reg",
    }.get((*(name in tensors for name in ("cls_token", "pos_embed", "reg_token")), gated, scaled))
    if kind is None:
        raise CheckpointError(f"{where}: can't tell which of timm's Eva models this is; say --as timm-eva:NAME")
    return kind, (f"it is {KINDS[kind].title}: its rotary positions, epsilon {KINDS[kind].eps:g} and normalisation",)


def is_packed(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether gate and value are in one layer."""
    first = tensors.get("blocks.0.mlp.fc1.weight")
    return first is not None and first.shape[0] == 2 * tensors["blocks.0.mlp.fc2.weight"].shape[1]


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, the rest from its line of models."""
    tensors, where = weights.tensors, str(weights.path)
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    kind, assumed = find_kind(tensors, name_architecture(weights, name), where)
    line, given = KINDS[kind], read_arguments(weights)
    if kind in ("dinov3", "rope_reg"):
        get_shape(tensors, "reg_token", where)
    heads, usual = find_heads(weights, width, given.get("num_heads"), HEADS.get(width, max(1, width // 64)))
    details = read_details(given, where)
    pool = find_pool(tensors, weights, "mean" if kind == "dinov3" else None)
    config = ViTConfig(
        image=(line.side, line.side),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        pool=pool,
        class_token="cls_token" in tensors,
        registers=tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        final_norm="pooled" if "fc_norm.weight" in tensors else "tokens",
        norm_eps=details.get("eps", line.eps),
        rotary=line.rotary,
        block=read_block(tensors),
    )
    config, positioned = settle_positions(config, tensors, weights)
    if kind == "dinov3" and not read_pooling(weights):
        assumed = (*assumed, "it pools by the mean over patches, timm's default (--as dinov3 takes [class])")
    else:
        assumed = (*explain_pooling(config, weights), *assumed)
    assumed = (*usual, *positioned, *check_arguments(config, given, where), *assumed)
    images = read_vit_transform(weights, config, line.images)
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, read_classes(weights, config.classes))


def read_block(tensors: Mapping[str, Tensor]) -> BlockConfig:
    """Return the design of the blocks."""
    no_key = has_tensor(tensors, r"^blocks\.0\.attn\.(q_bias|q_proj\.bias)$")
    return BlockConfig(
        mlp="swiglu" if is_packed(tensors) or has_tensor(tensors, r"^blocks\.0\.mlp\.fc1_g\.") else "plain",
        mlp_inner_norm="blocks.0.mlp.norm.weight" in tensors,
        qkv_bias="no-key" if no_key else ("all" if "blocks.0.attn.qkv.bias" in tensors else "none"),
        attention_inner_norm="blocks.0.attn.norm.weight" in tensors,
        layer_scale=1e-5 if "blocks.0.gamma_1" in tensors else 0.0,
    )


FAMILY = Family("timm-eva", "timm (eva: EVA, EVA-02, DINOv3)", recognise, interpret, table)
