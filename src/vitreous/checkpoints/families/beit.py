"""BEiT, BEiT v2 and data2vec-vision: microsoft/unilm's own files, facebookresearch's, and timm's (timm/models/beit.py).

All have timm's names. Told from timm's plain ViT by the tables of relative positions: one a block, or one that all share
(before fine-tuning).
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from vitreous.checkpoints.families.timm import architecture_of, classes_of, pool_of, preprocess
from vitreous.checkpoints.families.timm_eva import block_of
from vitreous.checkpoints.families.timm_eva import table as eva_table
from vitreous.checkpoints.family import HALF, IMAGENET, Family, Reading, shape_of
from vitreous.checkpoints.mapping import Rule, Table, depth_of
from vitreous.checkpoints.weights import Weights
from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.shapes import Size

TABLE = "relative_position_bias_table"
OWN, SHARED = f"blocks.0.attn.{TABLE}", f"rel_pos_bias.{TABLE}"
IGNORED = (r"^mask_token$", r"relative_position_index$", r"^lm_head\.", r"^cls_pt_layers\.")
"""What pre-training needs, and numbers that follow from the grid."""
VARIANTS = {"beitv2": "BEiT v2: images by ImageNet's mean and deviation, where BEiT's are by 0.5"}
CLASS_OFFSETS = 3
"""Entries of a table for [class] to patch, patch to [class], and [class] to itself."""


def table(config: ViTConfig) -> Table:
    """Return the rules: EVA's, which came from BEiT, and the tables of relative positions."""
    return [
        *eva_table(config),
        Rule("blocks.{i}.attention.relative.table", (f"blocks.{{i}}.attn.{TABLE}",)),
        Rule("relative.table", (SHARED,)),
    ]


def recognise(weights: Weights) -> float:
    """timm's names with tables of relative positions; a config.json that names an architecture makes it sure."""
    tensors = weights.tensors
    named = "patch_embed.proj.weight" in tensors and "blocks.0.mlp.fc2.weight" in tensors
    if not named or not (OWN in tensors or SHARED in tensors):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def grid_of(entries: int, image: tuple[int, int] | None, patch: tuple[int, int], where: str) -> Size:
    """Return the grid of a table over 2-D offsets, of (2 rows - 1)(2 cols - 1) entries.

    Args:
        entries: of the table, those of [class] not counted.
        image: what a configuration says of the images' rows and columns, if it does.
        patch: rows and columns of a patch.
        where: for the error.

    Raises:
        CheckpointError: the configuration doesn't fit, and the table is that of no square grid.
    """
    if image is not None:
        grid = Size(image[0] // patch[0], image[1] // patch[1])
        if (2 * grid.rows - 1) * (2 * grid.cols - 1) == entries:
            return grid
    side = math.isqrt(max(entries, 0))
    if side * side != entries or side % 2 == 0:
        raise CheckpointError(
            f"{where} has tables of {entries} offsets between patches, which no square grid has, and nothing beside the "
            "weights says how many rows and columns there are; put a config.json beside them that names the image size, as "
            "their library writes it"
        )
    return Size((side + 1) // 2, (side + 1) // 2)


def said_size(config: Mapping[str, object]) -> tuple[int, int] | None:
    """Return the images' rows and columns, where timm's config.json says them."""
    for holder, key in (("model_args", "img_size"), ("pretrained_cfg", "input_size")):
        given = config.get(holder)
        size = given.get(key) if isinstance(given, Mapping) else None
        if isinstance(size, int):
            return size, size
        if isinstance(size, (list, tuple)) and len(size) >= 2:
            return int(size[-2]), int(size[-1])
    return None


def check(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse what nobody publishes and can't be built: two kinds of positions at once."""
    if OWN in tensors and SHARED in tensors:
        raise CheckpointError(
            f"{where} has tables of relative positions in each block and a shared one; no model here has both"
        )
    if "pos_embed" in tensors:
        raise CheckpointError(f"{where} has relative positions and added ones (pos_embed); no model here has both")


def interpret(weights: Weights, name: str | None) -> Reading:
    """Read the architecture from shapes: the tables tell the heads."""
    tensors, where = weights.tensors, str(weights.path)
    check(tensors, where)
    width, channels, rows, cols = shape_of(tensors, "patch_embed.proj.weight", where)
    offsets, heads = shape_of(tensors, OWN if OWN in tensors else SHARED, where)
    grid = grid_of(offsets - CLASS_OFFSETS, said_size(weights.config), (rows, cols), where)
    config = ViTConfig(
        image=(grid.rows * rows, grid.cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=depth_of(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp=shape_of(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        pool=pool_of(tensors, weights.config),
        positions="bias",
        positions_at="layers" if OWN in tensors else "shared",
        norm_at="pooled" if "fc_norm.weight" in tensors else "tokens" if "norm.weight" in tensors else "none",
        block=block_of(tensors),
    )
    architecture = architecture_of(weights, name)
    images = IMAGENET if re.search(r"beitv2|data2vec", architecture) else HALF
    assumed = () if architecture else ("mean and deviation 0.5, as BEiT has them (--as beitv2 takes ImageNet's)",)
    preprocessing = preprocess(config, weights.config.get("pretrained_cfg") or {}, images)
    return Reading(config, preprocessing, "geometric", tensors, assumed, classes_of(weights, config.classes), IGNORED)


FAMILY = Family("beit", "BEiT, BEiT v2, data2vec-vision (microsoft/unilm, timm)", recognise, interpret, table, VARIANTS)
