"""vit-pytorch's ViT and SimpleViT (lucidrains/vit-pytorch): state_dicts of current and earlier versions.

No other file accompanies such a file: heads are assumed to be 64 values wide, the package's default, and patches to be
square.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import HALF, Family, ForeignModel, find_grid, find_heads, get_shape
from vitreous.weights.families.huggingface.clip import cut_patches
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Layout, Rule, Table, count_blocks, dense_rules

DIM_HEAD = 64
LAYERS = "transformer.layers"
IMAGES = (
    "mean and deviation 0.5, the centre of what remains when the short side is 1/0.875 as long: vit-pytorch "
    "says nothing about images"
)
VARIANTS = {
    "vit-pytorch-mean": "the mean over all tokens, [class] among them, as earlier versions pool with pool='mean'"
}
SIDE = 224


def table(config: ViTConfig) -> Table:
    """Return the rules, for names as `simplify_names` makes them."""
    layer, flat = f"{LAYERS}.{{i}}", Layout(lambda tensor: tensor.reshape(-1, tensor.shape[-1]), lambda tensor: tensor)
    vector = Layout(lambda tensor: tensor.flatten(), lambda tensor: tensor[None])
    before = channels_first_layout(config)
    return [
        Rule("patches.norm_before.weight", ("to_patch_embedding.1.weight",), before),
        Rule("patches.norm_before.bias", ("to_patch_embedding.1.bias",), before),
        Rule("patches.embed.weight", ("to_patch_embedding.2.weight",), cut_patches(config)),
        Rule("patches.embed.bias", ("to_patch_embedding.2.bias",)),
        *dense_rules("patches.norm", "to_patch_embedding.3"),
        Rule("class_token", ("cls_token",), vector),
        Rule("positions.embedding", ("pos_embedding",), flat),
        *dense_rules("blocks.{i}.attention_norm", f"{layer}.0.norm"),
        Rule("blocks.{i}.attention.qkv.weight", (f"{layer}.0.to_qkv.weight",)),
        *dense_rules("blocks.{i}.attention.out", f"{layer}.0.to_out"),
        Rule("blocks.{i}.attention.out.weight", (), fixed=lambda like: torch.eye(*like.shape)),
        Rule("blocks.{i}.attention.out.bias", (), fixed=torch.zeros_like),
        *dense_rules("blocks.{i}.mlp_norm", f"{layer}.1.net.0"),
        *dense_rules("blocks.{i}.mlp.expand", f"{layer}.1.net.1"),
        *dense_rules("blocks.{i}.mlp.contract", f"{layer}.1.net.4"),
        *dense_rules("norm", "transformer.norm"),
        *dense_rules("norm", "head.norm"),
        *dense_rules("head", "head"),
    ]


def channels_first_layout(config: ViTConfig) -> Layout:
    """The layout of a patch's values: (row, col, channel) for our (channel, row, col)."""
    channels, rows, cols = config.patch_shape
    return Layout(
        lambda tensor: tensor.view(rows, cols, channels).permute(2, 0, 1).flatten(),
        lambda tensor: tensor.view(channels, rows, cols).permute(1, 2, 0).flatten(),
    )


EARLIER = ((".1.fn.net.0.", ".1.net.1."), (".1.fn.net.3.", ".1.net.4."), (".1.norm.", ".1.net.0."), (".0.fn.", ".0."))
TODAY = ((".1.net.3.", ".1.net.4."),)
"""Names of earlier versions (a norm around each branch), and of SimpleViT's (no dropout between): those of the
current ViT."""


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of all versions to those of the current ViT, with the head named head."""
    found, normed = {}, "to_patch_embedding.2.weight" in tensors
    swaps = EARLIER if any(".fn." in name for name in tensors) else TODAY
    for name, tensor in tensors.items():
        new = name if normed else name.replace("to_patch_embedding.1.", "to_patch_embedding.2.")
        if new.startswith(LAYERS):
            for other, today in (*swaps, (".to_out.0.", ".to_out.")):
                new = new.replace(other, today)
        new = re.sub(
            r"^(mlp|linear)_head\.(0\.(?=(weight|bias)))?", lambda match: "head.norm." if match[2] else "head.", new
        )
        new = new.replace("head.1.", "head.")
        if tensor.numel():  # pool="mean" leaves an empty [class]
            found[new] = tensor
    return found


def recognise(weights: Weights) -> float:
    """Its names for patches, q, k and v, and the MLP, in plain blocks only."""
    tensors = simplify_names(weights.tensors)
    needed = ("to_patch_embedding.2.weight", f"{LAYERS}.0.0.to_qkv.weight", f"{LAYERS}.0.1.net.1.weight")
    return 1.0 if all(name in tensors and tensors[name].ndim == 2 for name in needed) else 0.0


def find_patch(values: int, where: str) -> tuple[int, int]:
    """Return the channels and the side of square patches with this number of values.

    Raises:
        CheckpointError: no square patch of one or three channels has that many.
    """
    for channels in (3, 1):
        side = math.isqrt(values // channels)
        if channels * side * side == values:
            return channels, side
    raise CheckpointError(
        f"{where} embeds patches of {values} values, which no square patch of 1 or 3 channels has, and "
        "vit-pytorch's files don't record rows, columns and channels; such a model can't be read"
    )


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    width, values = get_shape(tensors, "to_patch_embedding.2.weight", where)
    channels, side = find_patch(values, where)
    inner = get_shape(tensors, f"{LAYERS}.0.0.to_qkv.weight", where)[0] // 3
    if weights.stated.heads is None and inner % DIM_HEAD:
        raise CheckpointError(
            f"{where}: its heads hold {inner} values, which {DIM_HEAD} doesn't divide, and the file doesn't "
            "record their number; say --heads N"
        )
    heads, usual = find_heads(weights, inner, usual=max(1, inner // DIM_HEAD))
    token, learned = "cls_token" in tensors, "pos_embedding" in tensors
    norms = [part in tensors for part in ("to_patch_embedding.1.weight", "to_patch_embedding.3.weight")]
    config = ViTConfig(
        image=(SIDE // side * side, SIDE // side * side),
        patch=(side, side),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"transformer\.layers\.(\d+)\."),
        heads=heads,
        attention_head_width=0 if inner == width else inner // heads,
        mlp_width=get_shape(tensors, f"{LAYERS}.0.1.net.1.weight", where)[0],
        classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        pool="class" if token and name not in VARIANTS else "mean",
        pool_prefix=token and name in VARIANTS,
        class_token=token,
        positions="learned" if learned else "sincos2d",
        positioned_tokens="all" if learned else "patches",
        patch_norm="both" if all(norms) else "none",
        final_norm="pooled" if "head.norm.weight" in tensors else "tokens",
        norm_eps=1e-5,
        block=BlockConfig(qkv_bias="none"),
    )
    assumed: tuple[Any, ...] = (
        *(
            (f"{heads} heads, {DIM_HEAD} values each, vit-pytorch's default (--heads N says another number)",)
            if usual
            else ()
        ),
        f"patches of {side}x{side} pixels in {channels} channels",
        IMAGES,
    )
    if learned:
        _, grid, squared = find_grid(weights, tensors["pos_embedding"].numel() // width, (int(token),))
        config, assumed = replace(config, image=(grid.rows * side, grid.cols * side)), assumed + squared
    elif told := weights.stated.grid:
        config = replace(config, image=(told[0] * side, told[1] * side))
    else:
        assumed += (
            f"images of {config.image[0]}x{config.image[1]}: positions are fixed sines and cosines, of any size",
        )
    if token and name not in VARIANTS:
        assumed += ("[class] represents the image (--as vit-pytorch-mean takes the mean)",)
    images = PreprocessConfig(size=config.image, rounding="torchvision", **HALF)
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed)


FAMILY = Family("vit-pytorch", "lucidrains/vit-pytorch (ViT, SimpleViT)", recognise, interpret, table, VARIANTS)
