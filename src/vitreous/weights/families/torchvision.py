"""torchvision's vit_b_16 and its relatives (torchvision/models/vision_transformer.py)."""

from collections.abc import Mapping

from torch import Tensor

from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import (
    IMAGENET,
    Family,
    ForeignModel,
    explain_not_plain,
    find_grid,
    find_heads,
    get_shape,
    guess_heads,
)
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, build_leading_layout, convolution_rules, count_blocks, dense_rules

ONE_OF_TWO = " that ImageNet alone made; those of SWAG with a linear head (a file's name with _lc_swag in it) have bicubic, crop 1"
PATCHES, PLACES = "conv_proj.weight", "encoder.pos_embedding"


def table(config: ViTConfig) -> Table:
    """Return the rules; the MLP's layers have their current names first, then those of the published files."""
    block = "encoder.layers.encoder_layer_{i}"
    attention = f"{block}.self_attention"
    return [
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        Rule("patches.embed.bias", ("conv_proj.bias",)),
        Rule("class_token", ("class_token",), build_leading_layout(2)),
        Rule("positions.embedding", (PLACES,), build_leading_layout(1)),
        *dense_rules("blocks.{i}.attention_norm", f"{block}.ln_1"),
        Rule("blocks.{i}.attention.qkv.weight", (f"{attention}.in_proj_weight",)),
        Rule("blocks.{i}.attention.qkv.bias", (f"{attention}.in_proj_bias",)),
        *dense_rules("blocks.{i}.attention.out", f"{attention}.out_proj"),
        *dense_rules("blocks.{i}.mlp_norm", f"{block}.ln_2"),
        *dense_rules("blocks.{i}.mlp.expand", f"{block}.mlp.0"),
        *dense_rules("blocks.{i}.mlp.expand", f"{block}.mlp.linear_1"),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.mlp.3"),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.mlp.linear_2"),
        *dense_rules("norm", "encoder.ln"),
        *dense_rules("pre_logits.0", "heads.pre_logits"),
        *dense_rules("head", "heads.head"),
    ]


def recognise(weights: Weights) -> float:
    """torchvision's names."""
    tensors = weights.tensors
    return float(PATCHES in tensors and PLACES in tensors)


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes."""
    tensors, where = weights.tensors, str(weights.path)
    width, channels, rows, cols = get_shape(tensors, PATCHES, where)
    _, grid, squared = find_grid(weights, get_shape(tensors, PLACES, where)[1], (1,))
    heads, usual = find_heads(weights, width)
    config = ViTConfig(
        image=(grid.rows * rows, grid.cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"encoder\.layers\.encoder_layer_(\d+)\."),
        heads=heads,
        mlp_width=read_hidden_width(tensors, where),
        classes=tensors["heads.head.weight"].shape[0] if "heads.head.weight" in tensors else 0,
        pre_logits="heads.pre_logits.weight" in tensors,
    )
    swag = width == 1280 or "_lc_swag" in weights.path.name  # trained elsewhere, with a linear head on ImageNet
    published = config.image == (224, 224) and not swag
    images = PreprocessConfig(
        size=config.image,
        rounding="torchvision",
        crop=(224 / 242 if width == 1024 and rows == 16 else 0.875) if published else 1.0,
        interpolation="bilinear" if published else "bicubic",
        **IMAGENET,
    )
    assumed = (*squared, *usual, "the transform of torchvision's weights of this size" + ONE_OF_TWO * published)
    return ForeignModel(config, images, "bicubic-corners", tensors, assumed)


def read_hidden_width(tensors: Mapping[str, Tensor], where: str) -> int:
    """Return the hidden width of the MLP."""
    first = "encoder.layers.encoder_layer_0.mlp."
    return get_shape(
        tensors, f"{first}linear_1.weight" if f"{first}linear_1.weight" in tensors else f"{first}0.weight", where
    )[0]


FIXED = (
    "pool",
    "class_token",
    "distillation_token",
    "registers",
    "positions",
    "position_placement",
    "positioned_tokens",
    "patch_norm",
    "rotary",
    "patch_bias",
    "embed_norm",
    "final_norm",
    "head_bias",
    "norm_eps",
    "stem",
)
"""Settings with only one possible value in torchvision's model."""


def explain_unwritable(config: ViTConfig) -> str | None:
    """Say what torchvision's model, the paper's on square images, can't express, if anything."""
    unlike = explain_not_plain(config, FIXED, "torchvision")
    if unlike:
        return unlike
    if config.block != BlockConfig():
        return "its blocks are not the paper's (norms, biases, gates, scales or activation differ)"
    if config.image[0] != config.image[1] or config.patch[0] != config.patch[1] or config.channels != 3:
        return "torchvision's images and patches are square, with three channels"
    if config.heads != guess_heads(config.width):
        return (
            f"it has {config.heads} heads, which the file can't record; {guess_heads(config.width)} is usual at "
            "its width"
        )
    return None if config.classes else "it has no head"


FAMILY = Family("torchvision", "torchvision", recognise, interpret, table, unwritable=explain_unwritable)
