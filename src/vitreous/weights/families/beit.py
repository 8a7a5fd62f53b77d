"""BEiT, BEiT v2 and data2vec-vision: microsoft/unilm's own files, facebookresearch's, and timm's (timm/models/beit.py).

All have timm's names. The tables of relative positions distinguish them from timm's plain ViT: one per block, or one
that all share (before fine-tuning).
"""

import re
from collections.abc import Mapping

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.weights.families.base import CLASS_OFFSETS, HALF, IMAGENET, Family, ForeignModel, find_grid, get_shape
from vitreous.weights.families.timm.arguments import (
    check_arguments,
    read_arguments,
    read_classes,
    read_grid,
)
from vitreous.weights.families.timm.eva import read_block
from vitreous.weights.families.timm.eva import table as eva_table
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import explain_pooling, find_pool, name_architecture
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, count_blocks

TABLE = "relative_position_bias_table"
OWN, SHARED = f"blocks.0.attn.{TABLE}", f"rel_pos_bias.{TABLE}"
IGNORED = (r"^mask_token$", r"relative_position_index$", r"^lm_head\.", r"^cls_pt_layers\.")
"""Tensors for pre-training, and numbers that follow from the grid."""
VARIANTS = {"beitv2": "BEiT v2: images by ImageNet's mean and deviation, where BEiT's are by 0.5"}


def table(config: ViTConfig) -> Table:
    """Return the rules: EVA's, which came from BEiT, and the tables of relative positions."""
    return [
        *eva_table(config),
        Rule("blocks.{i}.attention.relative.table", (f"blocks.{{i}}.attn.{TABLE}",)),
        Rule("relative.table", (SHARED,)),
    ]


def recognise(weights: Weights) -> float:
    """timm's names with tables of relative positions; certain if a config.json names an architecture."""
    tensors = weights.tensors
    named = "patch_embed.proj.weight" in tensors and "blocks.0.mlp.fc2.weight" in tensors
    if not named or not (OWN in tensors or SHARED in tensors):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def check(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse two kinds of positions at once, which nobody publishes and can't be built."""
    if OWN in tensors and SHARED in tensors:
        raise CheckpointError(
            f"{where} has tables of relative positions in each block and a shared one; no model here has both"
        )
    if "pos_embed" in tensors:
        raise CheckpointError(f"{where} has relative positions and added ones (pos_embed); no model here has both")


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes; the tables give the number of heads."""
    tensors, where = weights.tensors, str(weights.path)
    check(tensors, where)
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    offsets, heads = get_shape(tensors, OWN if OWN in tensors else SHARED, where)
    said = read_grid(weights, (rows, cols), (offsets - CLASS_OFFSETS,), table=True)
    _, grid, squared = find_grid(weights, offsets, (CLASS_OFFSETS,), said, table=True)
    config = ViTConfig(
        image=(grid.rows * rows, grid.cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        pool=find_pool(tensors, weights),
        positions="bias",
        position_placement="layers" if OWN in tensors else "shared",
        final_norm="pooled" if "fc_norm.weight" in tensors else "tokens" if "norm.weight" in tensors else "none",
        block=read_block(tensors),
    )
    architecture = name_architecture(weights, name)
    images = IMAGENET if re.search(r"beitv2|data2vec", architecture) else HALF
    assumed = () if architecture else ("mean and deviation 0.5, as BEiT has them (--as beitv2 takes ImageNet's)",)
    assumed = (
        *squared,
        *check_arguments(config, read_arguments(weights), where),
        *explain_pooling(config, weights),
        *assumed,
    )
    preprocessing = read_vit_transform(weights, config, images)
    return ForeignModel(
        config, preprocessing, "geometric", tensors, assumed, read_classes(weights, config.classes), IGNORED
    )


FAMILY = Family("beit", "BEiT, BEiT v2, data2vec-vision (microsoft/unilm, timm)", recognise, interpret, table, VARIANTS)
