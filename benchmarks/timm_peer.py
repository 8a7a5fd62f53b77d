"""timm's Vision Transformer of the same architecture as a ViTConfig: the peer of the benchmarks."""

import functools
import sys
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # a peer's environment may lack vitreous
    from vitreous.model.config import ViTConfig

PAIRS = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
OPERATORS = (*PAIRS, *(f"_{name}_backward" for name in PAIRS), "nms", "qnms", "qroi_align")


@functools.cache
def let_torchvision_load() -> None:
    """Declare torchvision's compiled operators where they don't load, as beside the CPU build of torch.

    Operators of those names let it import; timm and transformers call none of them, so any schema serves.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in OPERATORS:
            LIBRARY.define(f"{name}(Tensor input) -> Tensor")


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


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
