"""Hugging Face's EfficientNet (transformers/models/efficientnet), as ported from Keras."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import HALF, PreprocessConfig
from vitreous.model.efficientnet_config import LAST, ROOT, EfficientNetConfig, plan_efficientnet
from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.weights.families.base import Family, ForeignModel
from vitreous.weights.families.efficientnet import (
    COUNTED,
    STRIDES,
    Names,
    UnitNames,
    build_table,
    explain_unlike,
    read_shape,
)
from vitreous.weights.families.huggingface.config_json import Said, read_labels, read_pair, score_kind
from vitreous.weights.families.huggingface.preprocessor import read_preprocess
from vitreous.weights.families.huggingface.write import build_processor, describe_labels, format_side
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table, count_blocks
from vitreous.weights.model_folder import ModelFolder

ROOM = "efficientnet."
DEFAULTS = {
    "image_size": 600, "depth_coefficient": 3.1, "num_block_repeats": (1, 2, 2, 3, 3, 4, 1), "strides": STRIDES,
    "depthwise_padding": (), "squeeze_expansion_ratio": 0.25, "hidden_act": "swish", "pooling_type": "mean",
    "batch_norm_eps": 1e-3, "batch_norm_momentum": 0.99,
}  # fmt: skip


def name_unit(stage: int, unit: int, number: int, expands: bool) -> UnitNames:
    """Return the names of a unit's layers; units are counted over all stages."""
    at = f"{ROOM}encoder.blocks.{number}"
    return UnitNames(
        (f"{at}.expansion.expand_conv", f"{at}.expansion.expand_bn"),
        (f"{at}.depthwise_conv.depthwise_conv", f"{at}.depthwise_conv.depthwise_norm"),
        f"{at}.squeeze_excite.reduce",
        f"{at}.squeeze_excite.expand",
        (f"{at}.projection.project_conv", f"{at}.projection.project_bn"),
    )


NAMES = Names(
    (f"{ROOM}embeddings.convolution", f"{ROOM}embeddings.batchnorm"),
    (f"{ROOM}encoder.top_conv", f"{ROOM}encoder.top_bn"),
    "classifier",
    name_unit,
)


def table(config: EfficientNetConfig) -> Table:
    """Return the rules."""
    return build_table(config, NAMES)


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the names the prefix that the classifier's class saves, for any class that saved the file."""
    return {
        f"{ROOM}{name}" if name.startswith(("embeddings.", "encoder.")) else name: one for name, one in tensors.items()
    }


def recognise(weights: Weights) -> float:
    """Their names of the first and last convolution, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    marks = (f"{NAMES.root[1]}.running_mean", f"{NAMES.last[1]}.running_mean")
    return score_kind(weights, ("efficientnet",)) if all(name in tensors for name in marks) else 0.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture: sizes and epsilon from config.json over transformers' defaults, the rest from shapes."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    said = Said(weights.config, DEFAULTS)
    refuse_others(said, where)
    units = [math.ceil(said("depth_coefficient") * count) for count in said("num_block_repeats")]
    held = count_blocks(tensors, rf"{ROOM}encoder\.blocks\.(\d+)\.")
    if sum(units) != held:
        raise CheckpointError(
            f"the configuration next to {where} says {sum(units)} units, but the weights have {held}; they don't belong together"
        )
    stated = EfficientNetConfig(
        image=read_pair(said("image_size")),
        norm_eps=float(said("batch_norm_eps")),
        norm_momentum=round(1 - float(said("batch_norm_momentum")), 10),
    )
    config = read_shape(tensors, NAMES, units, stated, where)
    listed = sorted(int(index) for index in said("depthwise_padding"))
    if said.document and listed != list_odd_units(config):
        raise CheckpointError(
            f"the configuration next to {where} pads units {listed} on all sides (depthwise_padding), but of images of {config.image} the maps "
            f"are odd before {list_odd_units(config)}; vitreous pads by the map, as the authors' code does"
        )
    if unlike := explain_skip(config):
        raise CheckpointError(f"{where}: {unlike}")
    assumed: list[str] = []
    default = PreprocessConfig(
        size=config.image,
        rounding="transformers",
        resize="squash",
        crop=1.0,
        interpolation="bicubic",
        mean=HALF,
        std=HALF,
    )
    images = read_normalisation(read_preprocess(weights, config.image, default, assumed), weights.preprocessor)
    if not weights.preprocessor:
        assumed.append("mean, deviation and crop (no preprocessor_config.json)")
    labels = read_labels(weights.config, config.classes)
    return ForeignModel(config, images, DEFAULT_RULE, tensors, (*said.assumed, *assumed), labels, COUNTED)


def refuse_others(said: Said, where: str) -> None:
    """Refuse settings that are of no published EfficientNet; raises CheckpointError."""
    for key, known in (
        ("hidden_act", ("swish", "silu")),
        ("pooling_type", ("mean",)),
        ("squeeze_expansion_ratio", (0.25,)),
        ("strides", (STRIDES,)),
    ):
        value = tuple(said(key)) if isinstance(said(key), list) else said(key)
        if value not in known:
            raise CheckpointError(f"{where}: its {key} is {value}; vitreous reads EfficientNets of {known[0]}")


def list_odd_units(config: EfficientNetConfig) -> list[int]:
    """Return the units of stride 2, counted over all stages, whose input has an odd number of rows, as Keras sees it when the model
    is built."""
    rows, number, found = -(-config.image[0] // 2), 0, []
    for stage in plan_efficientnet(config):
        for unit in stage:
            if unit.stride == 2:
                found += [number] if rows % 2 else []
                rows = -(-rows // 2)
            number += 1
    return found


def read_normalisation(images: PreprocessConfig, given: Mapping[str, Any]) -> PreprocessConfig:
    """Complete what EfficientNetImageProcessor does besides others': it may subtract 1 first (rescale_offset), and divides by the
    deviation once more at the end (include_top)."""
    if "EfficientNet" not in str(given.get("image_processor_type", "")):
        return images
    scale = 255 * float(given.get("rescale_factor", 1 / 255))
    mean, std = images.mean, images.std
    if given.get("rescale_offset", False):
        mean = tuple(one + 1 / scale for one in mean)
    if given.get("include_top", True):
        again = given.get("image_std") or HALF
        wide = max(len(std), len(again))
        std = tuple(
            one * two for one, two in zip(std * (wide // len(std)), tuple(again) * (wide // len(again)), strict=True)
        )
    return replace(images, mean=mean, std=std)


def explain_skip(config: EfficientNetConfig) -> str | None:
    """Say where transformers leaves out a skip that EfficientNet has, if anywhere: never in a published size."""
    for place, stage in enumerate(plan_efficientnet(config)):
        if stage[0].skips:
            return f"the first unit of stage {place} adds its input to its output, which transformers leaves out in first units"
    return None


def find_coefficients(config: EfficientNetConfig) -> tuple[float, list[int]] | None:
    """Return the factor on all channels, and each stage's channels before it, that make this model's; None if there are none."""
    factor = config.last_channels / LAST
    whole = [round(width / factor) for width in config.widths]
    made = [scale_channels(one, factor) for one in (ROOT, *whole)]
    return (factor, whole) if made == [config.root_channels, *config.widths] and min(whole) > 0 else None


def scale_channels(channels: int, factor: float) -> int:
    """Return scaled channels as transformers rounds them, for a depth_divisor of 1."""
    return max(1, int(channels * factor + 0.5))


def explain_unwritable(config: EfficientNetConfig) -> str | None:
    """Say what transformers' EfficientNet can't express, if anything."""
    if config.padding != "same":
        return "its padding is symmetric; transformers' EfficientNet pads as TensorFlow does"
    if find_coefficients(config) is None:
        return (
            f"transformers scales {ROOT} and {LAST} channels of the first and last convolution by one factor, which doesn't give "
            f"{config.root_channels} and {config.last_channels}"
        )
    if config.image[0] % 2 or config.image[1] % 2 or len({side % 2**5 for side in config.image}) > 1:
        return f"transformers pads the first convolution for even images, and rows like columns, which doesn't suit {config.image}"
    return explain_skip(config) or explain_unlike(config)


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return the JSON files, as `AutoModel...from_pretrained` and `AutoImageProcessor.from_pretrained` read them."""
    config = folder.model.config
    assert isinstance(config, EfficientNetConfig)
    coefficients = find_coefficients(config)
    assert coefficients is not None
    factor, widths = coefficients
    document: dict[str, Any] = {
        "architectures": [f"EfficientNet{'ForImageClassification' if config.classes else 'Model'}"],
        "model_type": "efficientnet",
        "num_channels": config.channels,
        "image_size": format_side(config.image),
        "width_coefficient": factor,
        "depth_coefficient": 1.0,
        "depth_divisor": 1,
        "kernel_sizes": list(config.kernels),
        "in_channels": [ROOT, *widths[:-1]],
        "out_channels": widths,
        "depthwise_padding": list_odd_units(config),
        "strides": list(config.strides),
        "num_block_repeats": list(config.units),
        "expand_ratios": list(config.expansions),
        "squeeze_expansion_ratio": 1 / config.squeeze,
        "hidden_act": "swish",
        "hidden_dim": config.last_channels,
        "batch_norm_eps": config.norm_eps,
        "batch_norm_momentum": round(1 - config.norm_momentum, 10),
        **describe_labels(folder),
    }
    return {"config.json": document, "preprocessor_config.json": build_processor(folder.preprocess, config.channels)}


FAMILY = Family(
    "huggingface-efficientnet",
    "Hugging Face transformers (EfficientNet)",
    recognise,
    interpret,
    table,
    unwritable=explain_unwritable,
    sidecars=sidecars,
    kind="efficientnet",
)
