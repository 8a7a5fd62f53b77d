"""timm's ViTs with relative positions (timm/models/vision_transformer_relpos.py): `vit_relpos_*` and `vit_srelpos_*`.

In each block or shared; a table over offsets, or an MLP of the offset's logarithm.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.model.config import Positions, ViTConfig
from vitreous.weights.families.base import HALF, Family, Reading, grid_of, heads_of, shape_of
from vitreous.weights.families.beit import CLASS_OFFSETS
from vitreous.weights.families.timm import vit
from vitreous.weights.families.timm.arguments import (
    arguments_in,
    classes_of,
    details_of,
    images_in,
    pretrained_in,
    said_grid,
    size_in,
)
from vitreous.weights.families.timm.vit import architecture_of, pool_of, pooling_assumed, preprocess
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, dense, depth_of

OWN, SHARED = "blocks.0.attn.rel_pos.", "shared_rel_pos."
OFFSETS = "relative_position_bias_table"
SIDE = 224


def table(config: ViTConfig) -> Table:
    """Return the rules: those of timm's ViT, and relative positions."""
    rules = list(vit.table(config))
    places = (("relative", "shared_rel_pos"), ("blocks.{i}.attention.relative", "blocks.{i}.attn.rel_pos"))
    for ours, theirs in places:
        rules.append(Rule(f"{ours}.table", (f"{theirs}.{OFFSETS}",)))
        rules += [*dense(f"{ours}.expand", f"{theirs}.mlp.fc1"), *dense(f"{ours}.contract", f"{theirs}.mlp.fc2")]
    return rules


def root_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what the names of relative positions begin with; None where there are none."""
    ends = (OFFSETS, "mlp.fc1.weight")
    return next((root for root in (OWN, SHARED) if any(root + end in tensors for end in ends)), None)


def recognise(weights: Weights) -> float:
    """timm's names with relative positions; a config.json that names an architecture makes it sure."""
    tensors = dict(weights.tensors)
    if not all(name in tensors for name in vit.MARKS) or root_of(tensors) is None:
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret(weights: Weights, name: str | None) -> Reading:
    """Read the architecture from shapes; relative positions tell the heads."""
    tensors, where = dict(weights.tensors), str(weights.path)
    root = root_of(tensors)
    assert root is not None
    width, channels, rows, cols = shape_of(tensors, "patch_embed.proj.weight", where)
    architecture, given = architecture_of(weights, name), arguments_in(weights)
    details, images = vit.said(architecture)
    details |= details_of(given, where)
    token = "cls_token" in tensors
    positions, found, hidden = kind_of(tensors, root, where)
    heads, assumed = heads_of(weights, width, found or details.get("heads"))
    size, told = size_in(given.get("img_size")) or images_in(weights), weights.told.grid
    if positions == "bias":
        offsets, prefix = tensors[root + OFFSETS].shape[0], CLASS_OFFSETS * token
        said = said_grid(weights, (rows, cols), (offsets - prefix,), table=True)
        _, grid, squared = grid_of(weights, offsets, (prefix,), said, table=True)
        size, assumed = (grid.rows * rows, grid.cols * cols), assumed + squared
    elif size is None and told is not None:
        size = (told[0] * rows, told[1] * cols)
    elif size is None:
        assumed += (f"images of {SIDE}x{SIDE}: offsets are an MLP's, and nothing says their size",)
    config = ViTConfig(
        image=size or (SIDE // rows * rows, SIDE // cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=depth_of(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=shape_of(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=vit.size_of(tensors, "head.weight", 0),
        pool=pool_of(tensors, weights),
        class_token=token,
        positions=positions,
        position_placement="shared" if root == SHARED else "layers",
        position_mlp_width=hidden,
        final_norm=vit.norm_of(tensors),
        norm_eps=details.get("eps", 1e-6),
        block=vit.block_of(tensors, details, width),
    )
    assumed += pooling_assumed(config, weights) + (() if architecture else (vit.PRE_NORM,))
    labels = classes_of(weights, config.classes)
    return Reading(
        config, preprocess(config, pretrained_in(weights), images or HALF), "geometric", tensors, assumed, labels
    )


def kind_of(tensors: Mapping[str, Tensor], root: str, where: str) -> tuple[Positions, int, int]:
    """Return the kind of positions, their heads, and the hidden width of their MLP (128 where there is none)."""
    if root + OFFSETS in tensors:
        return "bias", tensors[root + OFFSETS].shape[1], 128
    heads, hidden = shape_of(tensors, f"{root}mlp.fc2.weight", where)
    swin: Any = f"{root}mlp.fc2.bias" not in tensors
    return ("bias-log-swin" if swin else "bias-log"), heads, hidden


FAMILY = Family("timm-relpos", "timm (vision_transformer_relpos)", recognise, interpret, table)
