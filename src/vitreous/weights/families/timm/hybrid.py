"""The ResNet below timm's hybrids (timm/models/vision_transformer_hybrid.py): `vit_tiny_r_*`, `vit_*_r26_*`,
`vit_*_r50_*`."""

from collections.abc import Mapping

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ROOT, StemConfig
from vitreous.weights.families.base import get_shape, has_tensor
from vitreous.weights.mapping import Rule, count_units, dense_rules

BACKBONE = "patch_embed.backbone."
UNIT = (
    ("conv1", "conv1"),
    ("norm1", "norm1"),
    ("conv2", "conv2"),
    ("norm2", "norm2"),
    ("conv3", "conv3"),
    ("last_norm", "norm3"),
    ("project", "downsample.conv"),
    ("project_norm", "downsample.norm"),
)
"""Parts of a unit: ours and theirs."""
ENTRIES = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
"""The architecture whose stem has these units; everything else can be set in a config.json."""


def read_stem(tensors: Mapping[str, Tensor], where: str) -> StemConfig:
    """Return the stem before the patch embedding; raises CheckpointError for a backbone that we can't build."""
    if not has_tensor(tensors, r"^patch_embed\.backbone\."):
        return StemConfig()
    alone = f"{BACKBONE}conv.weight" in tensors  # timm's backbone is the root itself where no stages follow
    root = f"{BACKBONE}{'' if alone else 'stem.'}"
    units = count_units(tensors, r"patch_embed\.backbone\.stages\.{stage}\.blocks\.{unit}\.")
    if f"{root}norm.weight" not in tensors or (units and f"{BACKBONE}stages.0.blocks.0.norm3.weight" not in tensors):
        raise CheckpointError(
            f"{where} is a hybrid on another network than the paper's ResNet with group norm, which vitreous can't build"
        )
    outputs = get_shape(tensors, f"{root}conv.weight", where)[0]
    return StemConfig("resnet", units, max(1, outputs // ROOT))


def find_first_conv(stem: StemConfig) -> str:
    """Return the name of the convolution applied to the image."""
    if stem.kind == "none":
        return "patch_embed.proj"
    return f"{BACKBONE}{'stem.' if stem.units else ''}conv"


def read_channels(tensors: Mapping[str, Tensor], stem: StemConfig, where: str) -> int:
    """Return the colour channels of a hybrid's images."""
    return get_shape(tensors, f"{find_first_conv(stem)}.weight", where)[1]


def stem_rules(config: ViTConfig) -> list[Rule]:
    """Return the rules of the stem."""
    root = find_first_conv(config.stem)
    if config.stem.kind == "none":
        return []
    rules = [
        *dense_rules("patches.stem.conv", root),
        *dense_rules("patches.stem.norm", f"{root.removesuffix('conv')}norm"),
    ]
    for stage, count in enumerate(config.stem.units):
        for unit in range(count):
            for ours, theirs in UNIT:
                there = f"{BACKBONE}stages.{stage}.blocks.{unit}.{theirs}"
                rules += dense_rules(f"patches.stem.stages.{stage}.{unit}.{ours}", there)
    return rules


def explain_unwritable_stem(config: ViTConfig) -> str | None:
    """Say why timm has no such hybrid, if it doesn't."""
    stem = config.stem
    if stem.kind == "none":
        return None
    if stem.kind != "resnet" or stem.units not in ENTRIES or stem.width != 1:
        return "timm has no architecture with this stem"
    return "timm has no hybrid with a distillation token" if config.distillation_token else None
