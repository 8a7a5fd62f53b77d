"""timm and transformers import torchvision, whose compiled operators don't load beside the CPU build of torch.

Defining operators of those names first lets it import; nothing here calls them, so any schema serves.
"""

import torch

FORWARD = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
OTHERS = ("nms", "qnms", "qroi_align")
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")

for name in (*FORWARD, *(f"_{name}_backward" for name in FORWARD), *OTHERS):
    if not hasattr(torch.ops.torchvision, name):
        LIBRARY.define(f"{name}(Tensor input) -> Tensor")
