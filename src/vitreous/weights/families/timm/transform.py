"""The transform of images that timm's config.json states (`pretrained_cfg`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.weights.families.base import IMAGENET
from vitreous.weights.families.timm.arguments import read_pretrained
from vitreous.weights.files import Weights

KERNELS = ("bicubic", "bilinear", "nearest", "lanczos")
"""Kernels of theirs that are supported."""
RESIZES: dict[Any, Literal["squash", "border"]] = {"squash": "squash", "border": "border"}
"""Names of their crop_mode; anything else means center, as in timm."""
DEFAULTS: dict[str, Any] = {"crop_pct": 0.875, "interpolation": "bicubic", **IMAGENET}
"""What timm's PretrainedCfg has where a file leaves it out."""
SETTINGS = (*DEFAULTS, "crop_mode", "input_size")


def has_transform(weights: Weights) -> bool:
    """Return whether config.json says anything about images; an older one may give the architecture alone."""
    return "pretrained_cfg" in weights.config or any(name in read_pretrained(weights) for name in SETTINGS)


def read_transform(weights: Weights, usual: PreprocessConfig) -> PreprocessConfig:
    """Return the evaluation transform in config.json, else the usual one; of an unsupported kernel the usual one takes the place."""
    if not has_transform(weights):
        return usual
    given = DEFAULTS | {name: value for name, value in read_pretrained(weights).items() if value}
    kernel = given["interpolation"]
    return replace(
        usual,
        resize=RESIZES.get(given.get("crop_mode"), "short"),
        rounding="timm",
        crop=float(given["crop_pct"]),
        interpolation=kernel if kernel in KERNELS else usual.interpolation,
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
    )


def read_vit_transform(weights: Weights, config: ViTConfig, usual: Mapping[str, Any]) -> PreprocessConfig:
    """Return a ViT's evaluation transform: from config.json, else mean, deviation and crop (0.9 if it isn't there) of its name."""
    whole = {"crop": 0.9} | dict(usual)
    return read_transform(
        weights, PreprocessConfig(size=tuple(config.image), rounding="timm", interpolation="bicubic", **whole)
    )
