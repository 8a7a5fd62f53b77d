"""The names of Vision Transformers, and their configurations: no torch.

Sizes Ti and S are from DeiT (2012.12877) and AugReg (2106.10270), B, L and H from the paper (2010.11929, table 1),
g and G from "Scaling Vision Transformers" (2106.04560, table 2), mu from big_vision (for tests).
"""

import re
from dataclasses import replace
from typing import Any, NamedTuple

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import plan_hybrid
from vitreous.shapes import Size


class Shape(NamedTuple):
    """The shape for a size's letter."""

    width: int
    depth: int
    heads: int
    mlp_width: int


SIZES = {
    "mu": Shape(width=32, depth=1, heads=2, mlp_width=128),
    "Ti": Shape(width=192, depth=12, heads=3, mlp_width=768),
    "S": Shape(width=384, depth=12, heads=6, mlp_width=1536),
    "B": Shape(width=768, depth=12, heads=12, mlp_width=3072),
    "L": Shape(width=1024, depth=24, heads=16, mlp_width=4096),
    "H": Shape(width=1280, depth=32, heads=16, mlp_width=5120),
    "g": Shape(width=1408, depth=40, heads=16, mlp_width=6144),
    "G": Shape(width=1664, depth=48, heads=16, mlp_width=8192),
}
OTHERS = ("R50+B/16", "R50x1", "EfficientNet-B0", "Axial-B/16", "Swin-T", "SwinV2-T")
"""A hybrid, a ResNet, an EfficientNet, an Axial-ViT and Swin Transformers, listed with the sizes when a name is unknown."""


AXIAL = r"(?:R\d*\+)?Axial-"
"""The start of an Axial-ViT's name."""


def parse_name(name: str) -> tuple[Shape, Size]:
    """Read "S/16", "B/16x8" (rows x cols of a patch), "R50+B/16" or "Axial-B/16" as (shape, patch size in pixels)."""
    match = re.fullmatch(
        r"(?:R\d{0,6}\+)?(?:Axial-)?(?:ViT-)?(?P<size>\w+)/(?P<rows>\d{1,6})(?:x(?P<cols>\d{1,6}))?", name
    )
    if match is None:
        known = [f"{size}/16" for size in SIZES]
        raise UnknownName("model", name, [*known, *OTHERS], translate_name(name))
    if match["size"] not in SIZES:
        raise UnknownName("model", name, [*(f"{size}/{name.split('/', 1)[1]}" for size in SIZES), *OTHERS])
    rows = int(match["rows"])
    patch = Size(rows, int(match["cols"] or rows))
    if min(patch) < 1:
        raise ConfigError(f"model {name!r} has patches of {patch} pixels; they must have at least one, as in S/16")
    return SIZES[match["size"]], plan_hybrid(name, patch)[1]


WORDS = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H", "giant": "g", "gigantic": "G"}
"""Other code bases' words for the sizes."""


def translate_name(name: str) -> str | None:
    """Return our name of the shape that a name from timm, torchvision, OpenCLIP or Hugging Face has, if there is one.

    >>> translate_name("vit_small_patch16_224"), translate_name("ViT-B-32"), translate_name("resnet50")
    ('S/16', 'B/32', 'R50x1')
    """
    last = name.rsplit("/", 1)[-1].lower()
    swin = re.match(r"swin_?(?P<version>v2|transformer_v2)?[_-]?(?P<size>tiny|small|base|large|[tsbl])(?:$|[_-])", last)
    if swin is not None:
        return f"Swin{'V2' if swin['version'] else ''}-{WORDS.get(swin['size'], swin['size'].upper())[0]}"
    efficient = re.match(r"(?:tf_)?efficientnet[_-]?(?P<size>b[0-7]|l2)(?:$|[_.-])", last)
    if efficient is not None:
        return f"EfficientNet-{efficient['size'].upper()}"
    vit = re.match(r"(?:vit|deit3?|dinov?\d?|beit)[_-]?(?P<size>[a-z]+)[_-]?(?:patch)?[_-]?(?P<patch>\d+)", last)
    if vit is not None:
        size = WORDS.get(vit["size"]) or next((known for known in SIZES if known.lower() == vit["size"]), None)
        return f"{size}/{vit['patch']}" if size else None
    resnet = re.match(r"resnet(?:v2)?[_-]?(?P<layers>\d+)", last)
    return f"R{resnet['layers']}x1" if resnet is not None else None


def build_vit_config(name: str, **overrides: Any) -> ViTConfig:
    """Return the configuration called e.g. "S/16", "R50+B/16" or "Axial-B/16", with any field overridden."""
    shape, patch = parse_name(name)
    config = {"patch": tuple(patch), "stem": plan_hybrid(name, patch)[0], **shape._asdict()}
    if not re.match(AXIAL, name):
        return ViTConfig(**(config | overrides))
    # Two axial blocks count as one block of full attention.
    config |= {"depth": 2 * shape.depth, "class_token": False, "pool": "mean"}
    made = ViTConfig(**(config | overrides))
    return replace(made, block=replace(made.block, attention="axial"))
