"""timm's `efficientnet_*` and `tf_efficientnet_*` (timm/models/efficientnet.py), sizes b0 to b8 and l2."""

import re
from typing import Any

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.efficientnet_config import SCALINGS, EfficientNetConfig, find_efficientnet_name
from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel
from vitreous.weights.families.efficientnet import COUNTED, Names, UnitNames, build_table, explain_unlike, read_shape
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
from vitreous.weights.mapping import Table, count_units
from vitreous.weights.model_folder import ModelFolder

NORMS = {"same": (1e-3, 0.1), "symmetric": (1e-5, 0.1)}
"""Epsilon and momentum of batch norms, by padding."""
ARCHITECTURE = re.compile(r"(?P<tensorflow>tf_)?efficientnet_(?P<size>b[0-8]|l2)(?:\.|_(?!gn|g\d|pruned)|$)")
VARIANTS = {
    "tf": "padding as in TensorFlow and an epsilon of 1e-3 (tf_efficientnet_*)",
    "torch": "symmetric padding and an epsilon of 1e-5 (efficientnet_*)",
}
MARKS = (
    *("conv_stem.weight", "bn1.running_mean", "conv_head.weight", "bn2.running_mean"),
    *("blocks.0.0.conv_dw.weight", "blocks.0.0.se.conv_reduce.weight", "blocks.1.0.conv_pwl.weight"),
)
READ = ("in_chans", "num_classes", "global_pool")
"""Arguments that tensors show, or no output depends on."""


def name_unit(stage: int, unit: int, number: int, expands: bool) -> UnitNames:
    """Return the names of a unit's layers: one without an expanding convolution counts its norms from the next."""
    at = f"blocks.{stage}.{unit}"
    bn = [f"{at}.bn{place}" for place in (1, 2, 3)]
    depthwise, contract = (bn[1], bn[2]) if expands else (bn[0], bn[1])
    return UnitNames(
        (f"{at}.conv_pw", bn[0]),
        (f"{at}.conv_dw", depthwise),
        f"{at}.se.conv_reduce",
        f"{at}.se.conv_expand",
        (f"{at}.conv_pwl" if expands else f"{at}.conv_pw", contract),
    )


NAMES = Names(("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier", name_unit)


def table(config: EfficientNetConfig) -> Table:
    """Return timm's rules."""
    return build_table(config, NAMES)


def recognise(weights: Weights) -> float:
    """timm's names, with excitation and batch norm everywhere; certain if a config.json names an architecture."""
    tensors = weights.tensors
    if not all(name in tensors for name in MARKS) or tensors["blocks.0.0.conv_dw.weight"].ndim != 4:
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, padding and epsilon from its name, images from config.json."""
    tensors, where = weights.tensors, str(weights.path)
    architecture = name_architecture(weights, None if name in VARIANTS else name)
    match = ARCHITECTURE.match(architecture)
    if architecture and match is None:
        raise CheckpointError(
            f"{where}: {architecture} is not one of timm's EfficientNets that vitreous builds: efficientnet_b0 to b8 and l2, and the "
            "same with tf_"
        )
    if match is None and name not in VARIANTS:
        raise CheckpointError(
            f"nothing beside {where} says whether it is one of timm's tf_efficientnet_* or efficientnet_*, which pad images differently; "
            "say --as timm-efficientnet:tf or --as timm-efficientnet:torch"
        )
    refuse_others(weights, READ, "an EfficientNet")
    tensorflow = name == "tf" if name in VARIANTS else match is not None and bool(match["tensorflow"])
    padding = "same" if tensorflow else "symmetric"
    side = SCALINGS[match["size"].upper()].image if match is not None and match["size"].upper() in SCALINGS else 224
    image = read_size(read_arguments(weights).get("img_size")) or read_images(weights) or (side, side)
    units = count_units(tensors, r"blocks\.{stage}\.{unit}\.")
    eps, momentum = NORMS[padding]
    stated = EfficientNetConfig(image=image, padding=padding, norm_eps=eps, norm_momentum=momentum)
    config = read_shape(tensors, NAMES, units, stated, where)
    usual = PreprocessConfig(size=config.image, rounding="timm", crop=0.875, interpolation="bicubic", **IMAGENET)
    assumed = (
        ()
        if has_transform(weights)
        else ("timm's usual transform: bicubic, crop 0.875, ImageNet's mean and deviation",)
    )
    labels = read_classes(weights, config.classes)
    return ForeignModel(config, read_transform(weights, usual), DEFAULT_RULE, tensors, assumed, labels, COUNTED)


def explain_unwritable(config: EfficientNetConfig) -> str | None:
    """Say what timm can't express, if anything."""
    if find_efficientnet_name(config) is None:
        return f"timm builds the sizes {', '.join(SCALINGS)} alone, and this one has other layers"
    if config.norm_eps != NORMS[config.padding][0]:
        return (
            f"its norms have epsilon {config.norm_eps:g}, but timm's have {NORMS[config.padding][0]:g} with {config.padding} padding, and a "
            "config.json can't say otherwise"
        )
    return explain_unlike(config)


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return config.json, as `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it."""
    config = folder.model.config
    assert isinstance(config, EfficientNetConfig)
    architecture = f"{'tf_' * (config.padding == 'same')}efficientnet_{str(find_efficientnet_name(config)).lower()}"
    transform = build_transform(config, folder.preprocess, "conv_stem", "classifier")
    how = {"global_pool": "avg", "model_args": {"in_chans": config.channels}}
    return build_document(folder, architecture, config.features, transform, how)


FAMILY = Family(
    "timm-efficientnet",
    "timm (efficientnet_*, tf_efficientnet_*)",
    recognise,
    interpret,
    table,
    VARIANTS,
    explain_unwritable,
    sidecars=sidecars,
    kind="efficientnet",
)
