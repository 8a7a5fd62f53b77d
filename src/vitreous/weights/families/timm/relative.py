"""timm's ViTs with relative positions (timm/models/vision_transformer_relpos.py): `vit_relpos_*` and `vit_srelpos_*`.

Per block or shared; a table over offsets, or an MLP of the offset's logarithm.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import Positions, ViTConfig
from vitreous.weights.families.base import CLASS_OFFSETS, HALF, Family, ForeignModel, find_grid, find_heads, get_shape
from vitreous.weights.families.timm import vit
from vitreous.weights.families.timm.arguments import (
    check_arguments,
    read_arguments,
    read_classes,
    read_details,
    read_grid,
    read_images,
    read_size,
)
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import explain_pooling, find_pool, name_architecture
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, count_blocks, dense_rules

OWN, SHARED = "blocks.0.attn.rel_pos.", "shared_rel_pos."
OFFSETS = "relative_position_bias_table"
SIDE = 224


def table(config: ViTConfig) -> Table:
    """Return the rules: those of timm's ViT, and relative positions."""
    rules = list(vit.table(config))
    places = (("relative", "shared_rel_pos"), ("blocks.{i}.attention.relative", "blocks.{i}.attn.rel_pos"))
    for ours, theirs in places:
        rules.append(Rule(f"{ours}.table", (f"{theirs}.{OFFSETS}",)))
        rules += [
            *dense_rules(f"{ours}.expand", f"{theirs}.mlp.fc1"),
            *dense_rules(f"{ours}.contract", f"{theirs}.mlp.fc2"),
        ]
    return rules


def find_root(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the prefix of the names of relative positions; None if there are none."""
    ends = (OFFSETS, "mlp.fc1.weight")
    return next((root for root in (OWN, SHARED) if any(root + end in tensors for end in ends)), None)


def recognise(weights: Weights) -> float:
    """timm's names with relative positions; certain if a config.json names an architecture."""
    tensors = dict(weights.tensors)
    if not all(name in tensors for name in vit.MARKS) or find_root(tensors) is None:
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes; relative positions give the number of heads."""
    tensors, where = dict(weights.tensors), str(weights.path)
    root = find_root(tensors)
    if root is None:
        raise CheckpointError(
            f"{where} has no relative positions ({OWN}{OFFSETS}, ...), so it isn't timm's ViT of that kind; leave out --as"
        )
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    architecture, given = name_architecture(weights, name), read_arguments(weights)
    details, images = vit.parse_architecture(architecture)
    details |= read_details(given, where)
    token = "cls_token" in tensors
    positions, found, hidden = find_kind(tensors, root, where)
    heads, assumed = find_heads(weights, width, found or details.get("heads"))
    size, told = read_size(given.get("img_size")) or read_images(weights), weights.stated.grid
    if positions == "bias":
        offsets, prefix = tensors[root + OFFSETS].shape[0], CLASS_OFFSETS * token
        said = read_grid(weights, (rows, cols), (offsets - prefix,), table=True)
        _, grid, squared = find_grid(weights, offsets, (prefix,), said, table=True)
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
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=vit.get_size(tensors, "head.weight", 0),
        pool=find_pool(tensors, weights),
        class_token=token,
        positions=positions,
        position_placement="shared" if root == SHARED else "layers",
        position_mlp_width=hidden,
        final_norm=vit.find_norm(tensors),
        norm_eps=details.get("eps", 1e-6),
        block=vit.read_block(tensors, details, width),
    )
    assumed += check_arguments(config, given, where) + explain_pooling(config, weights)
    assumed += () if architecture else (vit.PRE_NORM,)
    labels = read_classes(weights, config.classes)
    return ForeignModel(
        config, read_vit_transform(weights, config, images or HALF), "geometric", tensors, assumed, labels
    )


def find_kind(tensors: Mapping[str, Tensor], root: str, where: str) -> tuple[Positions, int, int]:
    """Return the kind of positions, their heads, and the hidden width of their MLP (128 if there is none)."""
    if root + OFFSETS in tensors:
        return "bias", tensors[root + OFFSETS].shape[1], 128
    heads, hidden = get_shape(tensors, f"{root}mlp.fc2.weight", where)
    swin: Any = f"{root}mlp.fc2.bias" not in tensors
    return ("bias-log-swin" if swin else "bias-log"), heads, hidden


FAMILY = Family("timm-relpos", "timm (vision_transformer_relpos)", recognise, interpret, table)
