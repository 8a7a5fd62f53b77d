"""timm's Vision Transformer of the same architecture as a ViTConfig: the peer of the benchmarks."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # a peer's environment may lack vitreous
    from vitreous.model.config import ViTConfig

TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")


def let_torchvision_load() -> None:
    """Declare torchvision's compiled operators, which don't load beside the CPU build of torch.

    Operators of those names let it import; timm and transformers call none of them, so any schema serves.
    """
    pairs = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
    for name in (*pairs, *(f"_{name}_backward" for name in pairs), "nms", "qnms", "qroi_align"):
        if not hasattr(torch.ops.torchvision, name):
            TORCHVISION.define(f"{name}(Tensor input) -> Tensor")


def timm_model(shape: "ViTConfig") -> nn.Module:
    """Return timm's model, freshly initialised."""
    let_torchvision_load()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=shape.image,
        patch_size=shape.patch,
        in_chans=shape.channels,
        num_classes=shape.classes,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_width / shape.width,
        class_token=shape.class_token,
        global_pool="token" if shape.pool == "class" else "avg",
    )
