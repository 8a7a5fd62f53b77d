"""timm's class lists are what ours are held against."""

from benchmarks.timm_peer import let_torchvision_load

let_torchvision_load()
