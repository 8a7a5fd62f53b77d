"""Hugging Face's Swin and Swin v2 (transformers/models/swin, swinv2)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.swin_config import SwinConfig, fit_windows
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel
from vitreous.weights.families.huggingface.config_json import Said, read_labels, read_pair, score_kind
from vitreous.weights.families.huggingface.preprocessor import read_preprocess
from vitreous.weights.families.huggingface.write import build_processor, describe_labels, format_side
from vitreous.weights.families.swin import CONSTANTS, RESIZE, Names, StatedShape, build_table, cut_windows, read_config
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table
from vitreous.weights.model_folder import ModelFolder

KINDS = ("swin", "swinv2")
INSIDE = ("embeddings.", "encoder.", "layernorm.", "pooler.")
DEFAULTS = {
    "image_size": 224, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "qkv_bias": True, "use_absolute_embeddings": False,
}  # fmt: skip
EPSILON = ", as transformers has it in its patches' and merging norms whatever is said"
WINDOW = {"swin": 7, "swinv2": 7}
"""The default of either configuration class."""


def build_names(root: str) -> Names:
    """Return the names in files: those of transformers 4, which version 5 writes as well."""
    return Names(
        f"{root}.embeddings.patch_embeddings.projection",
        f"{root}.embeddings.norm",
        lambda stage, block: f"{root}.encoder.layers.{stage}.blocks.{block}",
        lambda stage: f"{root}.encoder.layers.{stage - 1}.downsample",
        norm=f"{root}.layernorm",
        head="classifier",
        attention_norm="layernorm_before",
        mlp_norm="layernorm_after",
        qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
        out="attention.output.dense",
        expand="intermediate.dense",
        contract="output.dense",
        table="attention.self.relative_position_bias_table",
        scale="attention.self.logit_scale",
        biases="attention.self.continuous_position_bias_mlp",
    )


NEW = (
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("attention.self.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
"""Names of transformers 4, and those of version 5's modules."""


def find_root(version: str) -> str:
    """Return the prefix of the encoder's names."""
    return "swin" if version == "v1" else "swinv2"


def table(config: SwinConfig) -> Table:
    """Return the rules."""
    return build_table(config, build_names(find_root(config.version)))


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the encoder's names the prefix of their version, for any class that saved the file, and those of version 4."""
    root = "swinv2" if any(name.endswith("logit_scale") for name in tensors) else "swin"
    found = {}
    for name, tensor in tensors.items():
        bare = next((name.removeprefix(f"{one}.") for one in KINDS if name.startswith(f"{one}.")), name)
        for old, new in NEW:
            bare = bare.replace(f".{new}", f".{old}")
        found[f"{root}.{bare}" if bare.startswith(INSIDE) else bare] = tensor
    return found


def recognise(weights: Weights) -> float:
    """Their names for patches and blocks, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    for root in KINDS:
        names = build_names(root)
        if f"{names.patches}.weight" in tensors and f"{names.block(0, 0)}.{names.attention_norm}.weight" in tensors:
            return score_kind(weights, KINDS)
    return 0.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture: sizes from config.json over transformers' defaults, the rest from shapes."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    root = "swinv2" if any(key.endswith("logit_scale") for key in tensors) else "swin"
    said, names, stated = (
        Said(weights.config, DEFAULTS | {"window_size": WINDOW[root]}),
        build_names(root),
        StatedShape(),
    )
    for key in ("hidden_act", "layer_norm_eps"):
        if said(key) != DEFAULTS[key]:
            raise CheckpointError(
                f"the configuration next to {where} says {key} {str(said(key))[:40]}; vitreous builds transformers' Swin Transformers with "
                f"{DEFAULTS[key]} alone{EPSILON * (key == 'layer_norm_eps')}"
            )
    if said.document:
        image, window = read_pair(said("image_size")), read_pair(said("window_size"))
        windows = cut_windows(tensors, names, image, window)
        trained = weights.config.get("pretrained_window_sizes") or () if root == "swinv2" else ()
        stated = StatedShape(
            image,
            windows,
            tuple((int(side), int(side)) for side in trained[: len(windows)]) if any(trained) else (),
        )  # fmt: skip
    config, assumed = read_config(replace(weights, tensors=tensors), names, stated)
    default = PreprocessConfig(
        size=config.image, rounding="transformers", resize="squash", crop=1.0, interpolation="bicubic", **IMAGENET
    )
    images = read_preprocess(weights, config.image, default, assumed)
    if not weights.preprocessor:
        assumed.append("mean, deviation and crop (no preprocessor_config.json)")
    ignored = (*CONSTANTS, r"^decoder\.")
    labels = read_labels(weights.config, config.classes)
    return ForeignModel(config, images, RESIZE, tensors, (*said.assumed, *assumed), labels, ignored)


def explain_unwritable(config: SwinConfig) -> str | None:
    """Say what transformers' Swin Transformers can't express, if anything."""
    if config.norm_eps != DEFAULTS["layer_norm_eps"]:
        return f"its norms have epsilon {config.norm_eps:g}, and some of transformers' have 1e-05 whatever config.json says"
    first = config.windows[0]
    if first[0] != first[1] or config.windows != fit_windows(config, first):
        return f"transformers' windows are squares, the same in every stage unless its map is smaller, not {config.windows}"
    if config.version == "v1" and len(set(config.windows)) > 1:
        return f"transformers' tables are for the same windows in every stage, not {config.windows}"
    if any(rows != cols for rows, cols in config.trained_windows):
        return f"transformers' windows of training are squares, not {config.trained_windows}"
    return None


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return the JSON files, as `AutoModel...from_pretrained` and `AutoImageProcessor.from_pretrained` read them."""
    config = folder.model.config
    assert isinstance(config, SwinConfig)
    kind, class_name = find_root(config.version), "Swin" if config.version == "v1" else "Swinv2"
    document: dict[str, Any] = {
        "architectures": [f"{class_name}{'ForImageClassification' if config.classes else 'Model'}"],
        "model_type": kind,
        "image_size": format_side(config.image),
        "patch_size": format_side(config.patch),
        "num_channels": config.channels,
        "embed_dim": config.width,
        "depths": list(config.depths),
        "num_heads": list(config.heads),
        "window_size": config.windows[0][0],
        "mlp_ratio": float(config.mlp_factor),
        "qkv_bias": True,
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "use_absolute_embeddings": False,
    }
    if config.version == "v2":
        document["pretrained_window_sizes"] = [side for side, _ in config.trained_windows] or [0] * len(config.depths)
    document |= describe_labels(folder)
    return {"config.json": document, "preprocessor_config.json": build_processor(folder.preprocess, config.channels)}


FAMILY = Family(
    "huggingface-swin",
    "Hugging Face transformers (Swin, Swin v2)",
    recognise,
    interpret,
    table,
    unwritable=explain_unwritable,
    sidecars=sidecars,
    kind="swin",
)
