"""timm and transformers import torchvision, which may not load by itself: see `let_torchvision_load`."""

from benchmarks.timm_peer import let_torchvision_load

let_torchvision_load()
