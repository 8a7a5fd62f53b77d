"""timm's `swin_*` and `swinv2_*` (timm/models/swin_transformer.py, swin_transformer_v2.py)."""

import re
from dataclasses import replace
from typing import Any

from vitreous.images.config import PreprocessConfig
from vitreous.model.swin_config import SHAPES, SwinConfig, Windows
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel
from vitreous.weights.families.swin import (
    AUTHORS,
    CONSTANTS,
    RESIZE,
    StatedShape,
    build_table,
    cut_windows,
    is_swin,
    read_config,
)
from vitreous.weights.families.timm.arguments import (
    read_arguments,
    read_classes,
    read_images,
    read_size,
    refuse_others,
)
from vitreous.weights.families.timm.transform import has_transform, read_transform
from vitreous.weights.families.timm.vit import name_architecture
from vitreous.weights.families.timm.write import build_document, build_transform
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table
from vitreous.weights.model_folder import ModelFolder

NAMES = replace(AUTHORS, merge=lambda stage: f"layers.{stage}.downsample", head="head.fc")
NAME = re.compile(r"swin(?:v2)?_\w+?_window(?P<trained>\d+)(?:to(?P<window>\d+))?_(?P<image>\d+)(?:to(?P<later>\d+))?")
"""A name says windows and images, and those of an earlier training: swinv2_base_window12to16_192to256."""
READ = ("img_size", "patch_size", "in_chans", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio")
READ += ("num_classes", "global_pool", "pretrained_window_sizes", "qkv_bias", "strict_img_size", "dynamic_img_size")
LETTERS = {"T": "tiny", "S": "small", "B": "base", "L": "large"}


def table(config: SwinConfig) -> Table:
    """Return timm's rules."""
    return build_table(config, NAMES)


def recognise(weights: Weights) -> float:
    """The authors' names, with merging at the start of a stage; certain if a config.json names an architecture."""
    tensors = weights.tensors
    if not is_swin(tensors) or "layers.0.downsample.reduction.weight" in tensors:
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def read_windows(value: Any) -> Windows:
    """Return windows of one number, two for all stages, or one of either kind for each stage."""
    if isinstance(value, int):
        return ((value, value),)
    if len(value) == 2 and all(isinstance(one, int) for one in value):
        return ((value[0], value[1]),)
    return tuple((one, one) if isinstance(one, int) else (one[0], one[1]) for one in value)


def state_shape(weights: Weights, architecture: str) -> StatedShape:
    """Return what config.json says about sizes, else what an architecture's name does."""
    given, match = read_arguments(weights), NAME.match(architecture)
    image = read_size(given.get("img_size")) or read_images(weights)
    windows: Windows = ()
    trained: Windows = ()
    if match is not None:
        earlier, side = int(match["trained"]), int(match["later"] or match["image"])
        image = image or (side, side)
        windows = read_windows(int(match["window"] or earlier))
        if match["window"]:  # the last map of the earlier images was smaller than their window
            trained = tuple(read_windows(min(earlier, int(match["image"]) // (4 * 2**stage)))[0] for stage in range(4))
    if "window_size" in given:
        windows = read_windows(given["window_size"])
    if given.get("pretrained_window_sizes"):
        trained = read_windows(given["pretrained_window_sizes"])
    return StatedShape(image, windows, trained)


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, sizes and preprocessing from config.json or the architecture's name."""
    architecture = name_architecture(weights, name)
    refuse_others(weights, READ, "a Swin Transformer")
    stated = state_shape(weights, architecture)
    if len(stated.windows) == 1 and stated.image is not None:  # cut to each stage's map, as timm does
        windows = cut_windows(weights.tensors, NAMES, stated.image, stated.windows[0])
        stated = replace(stated, windows=windows)
    config, assumed = read_config(weights, NAMES, stated)
    crop = 1.0 if min(config.image) >= 384 else 0.9
    usual = PreprocessConfig(size=config.image, rounding="timm", crop=crop, interpolation="bicubic", **IMAGENET)
    if not has_transform(weights):
        assumed.append(f"timm's usual transform: bicubic, crop {crop:g}, ImageNet's mean and deviation")
    labels = read_classes(weights, config.classes)
    return ForeignModel(
        config, read_transform(weights, usual), RESIZE, weights.tensors, tuple(assumed), labels, CONSTANTS
    )


def explain_unwritable(config: SwinConfig) -> str | None:
    """Say what timm can't express, if anything."""
    if config.norm_eps != 1e-5:
        return f"its norms have epsilon {config.norm_eps:g}, and a config.json can't say so"
    for window, grid in zip(config.windows, config.maps, strict=True):
        if any(count % side for count, side in zip(grid, window, strict=True)):
            return (
                f"windows of {window} don't divide a map of {grid}: timm pads after it has shifted windows, the authors' code "
                "before, and vitreous does as the authors"
            )
    return None


def find_name(config: SwinConfig) -> str:
    """Return an architecture of timm's that config.json can turn into this model."""
    shape = (config.width, config.depths, config.heads)
    size = LETTERS[next((letter for letter, known in SHAPES.items() if known == shape), "T")]
    if config.version == "v1":
        return f"swin_{size}_patch4_window7_224"
    return f"swinv2_{size}_window8_256" if size != "large" else "swinv2_large_window12_192"


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return config.json, as `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it."""
    config = folder.model.config
    assert isinstance(config, SwinConfig)
    arguments: dict[str, Any] = {
        "img_size": list(config.image),
        "patch_size": list(config.patch) if config.patch[0] != config.patch[1] else config.patch[0],
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depths": list(config.depths),
        "num_heads": list(config.heads),
        "window_size": [list(window) for window in config.windows],
        "mlp_ratio": float(config.mlp_factor),
    }
    if config.trained_windows:
        arguments["pretrained_window_sizes"] = [list(window) for window in config.trained_windows]
    transform = build_transform(config, folder.preprocess, "patch_embed.proj", "head.fc")
    how = {"global_pool": "avg", "model_args": arguments}
    return build_document(folder, find_name(config), config.features, transform, how)


FAMILY = Family(
    "timm-swin",
    "timm (swin_*, swinv2_*)",
    recognise,
    interpret,
    table,
    unwritable=explain_unwritable,
    sidecars=sidecars,
    kind="swin",
)
