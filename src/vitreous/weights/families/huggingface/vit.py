"""Hugging Face's ViT, DeiT, ViT-MAE, ViT-MSN and I-JEPA (transformers/models/vit, deit, vit_mae, vit_msn, ijepa): one encoder.

Files on the Hub have the names of transformers 4; version 5 writes them too, although its modules have other names.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import HALF, IMAGENET, Family, ForeignModel, get_shape, has_tensor
from vitreous.weights.families.huggingface.config_json import (
    BASE,
    Said,
    count_encoder_blocks,
    either_rules,
    join_rules,
    read_activation,
    read_heads,
    read_image,
    read_labels,
    score_kind,
)
from vitreous.weights.families.huggingface.preprocessor import read_preprocess
from vitreous.weights.families.huggingface.write import explain_unwritable, sidecars
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, build_leading_layout, convolution_rules, dense_rules

KINDS = ("vit", "deit", "vit_mae", "vit_msn", "ijepa")
ROOTS = ("vit.", "deit.", "vit_mae.", "ijepa.")
IMAGENETS = ("deit", "vit_mae", "vit_msn", "ijepa")
"""Types whose published models normalise images by ImageNet's mean and deviation."""
INSIDE = ("embeddings.", "encoder.", "layers.", "layernorm.", "pooler.")
DEFAULTS = BASE | {"layer_norm_eps": 1e-12, "pooler_act": "tanh"}
EPSILONS = {"vit_msn": 1e-6}
"""Types whose default differs from the others'."""
PATCHES = "embeddings.patch_embeddings.projection"
QKV = ("query", "key", "value")


def get_root(distilled: bool) -> str:
    """Return the prefix of the encoder's names."""
    return "deit" if distilled else "vit"


def table(config: ViTConfig) -> Table:
    """Return the rules; each layer of a block has its name of transformers 4 first, then that of 5."""
    root = get_root(config.distillation_token)
    old, new = f"{root}.encoder.layer.{{i}}", f"{root}.layers.{{i}}"
    apart = tuple(f"{old}.attention.attention.{part}" for part in QKV)
    attention = join_rules("blocks.{i}.attention.qkv", apart, tuple(f"{new}.attention.{part}_proj" for part in "qkv"))
    classifier = "cls_classifier" if config.distillation_token else "classifier"
    return [
        Rule("patches.embed.weight", (f"{root}.{PATCHES}.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", (f"{root}.{PATCHES}.bias",)),
        Rule("class_token", (f"{root}.embeddings.cls_token",), build_leading_layout(2)),
        Rule("distillation_token", (f"{root}.embeddings.distillation_token",), build_leading_layout(2)),
        Rule("registers", (f"{root}.embeddings.distillation_token",), build_leading_layout(1)),
        Rule("positions.embedding", (f"{root}.embeddings.position_embeddings",), build_leading_layout(1)),
        *either_rules("blocks.{i}.attention_norm", f"{old}.layernorm_before", f"{new}.layernorm_before"),
        *attention,
        *either_rules("blocks.{i}.attention.out", f"{old}.attention.output.dense", f"{new}.attention.o_proj"),
        *either_rules("blocks.{i}.mlp_norm", f"{old}.layernorm_after", f"{new}.layernorm_after"),
        *either_rules("blocks.{i}.mlp.expand", f"{old}.intermediate.dense", f"{new}.mlp.fc1"),
        *either_rules("blocks.{i}.mlp.contract", f"{old}.output.dense", f"{new}.mlp.fc2"),
        *dense_rules("norm", f"{root}.layernorm"),
        *dense_rules("pre_logits.0", f"{root}.pooler.dense"),
        *dense_rules("head", classifier),
        *dense_rules("distillation_head", "distillation_classifier"),
    ]


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the encoder's names one prefix, for any class that saved the file."""
    root = get_root("distillation_classifier.weight" in tensors)
    found = {}
    for name, tensor in tensors.items():
        bare = next((name.removeprefix(prefix) for prefix in ROOTS if name.startswith(prefix)), name)
        found[f"{root}.{bare}" if bare.startswith(INSIDE) else name] = tensor
    return found


def recognise(weights: Weights) -> float:
    """Their names for patches and norms, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = has_tensor(tensors, rf"^(vit|deit)\.{PATCHES}\.weight$") and has_tensor(
        tensors, r"\.0\.layernorm_before\.weight$"
    )
    if not named or has_tensor(tensors, r"lambda|relative_position"):
        return 0.0
    return score_kind(weights, KINDS)


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture: config.json over transformers' defaults, widths from shapes."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    kind = str(weights.config.get("model_type"))
    said = Said(weights.config, DEFAULTS | {"layer_norm_eps": EPSILONS.get(kind, DEFAULTS["layer_norm_eps"])})
    distilled = "distillation_classifier.weight" in tensors
    root = get_root(distilled)
    width, channels, rows, cols = get_shape(tensors, f"{root}.{PATCHES}.weight", where)
    token = f"{root}.embeddings.cls_token" in tensors  # I-JEPA has none, and its classifiers see the mean
    head = "cls_classifier.weight" if distilled else "classifier.weight"
    classes = tensors[head].shape[0] if head in tensors else 0
    positions = get_shape(tensors, f"{root}.embeddings.position_embeddings", where)[1]
    pooled = read_pooler(tensors, f"{root}.pooler.dense.weight", said, where) if token and not classes else None
    hidden = (f"{root}.encoder.layer.0.intermediate.dense.weight", f"{root}.layers.0.mlp.fc1.weight")
    config = ViTConfig(
        image=read_image(
            weights, said, (rows, cols), positions, token + (f"{root}.embeddings.distillation_token" in tensors)
        ),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_encoder_blocks(tensors, rf"{root}\.(?:encoder\.layer|layers)\.(\d+)\.", where),
        heads=read_heads(weights, said, width),
        mlp_width=next(tensors[key] for key in hidden if key in tensors).shape[0],
        classes=classes,
        pool="class" if token else "mean",
        class_token=token,
        distillation_token=distilled,
        registers=int(f"{root}.embeddings.distillation_token" in tensors and not distilled),
        norm_eps=float(said("layer_norm_eps")),
        pre_logits=pooled is not None,
        pre_logits_width=0 if pooled in (None, width) else pooled,
        block=read_block(tensors, said, where),
    )
    ignored = (r"mask_token$", r"^decoder\.") + ((r"\.pooler\.",) if classes or not token else ())
    images = read_preprocess(weights, config.image, default_images(weights.config, config), said.assumed)
    if not weights.preprocessor:
        said.assumed.append("mean, deviation and crop (no preprocessor_config.json)")
    return ForeignModel(
        config, images, "bicubic", tensors, tuple(said.assumed), read_labels(weights.config, classes), ignored
    )


def read_pooler(tensors: Mapping[str, Tensor], name: str, said: Said, where: str) -> int | None:
    """Return the width of the layer after [class], of this name; None if there is none. Raises CheckpointError if no tanh follows it."""
    if name in tensors and said("pooler_act") != "tanh":
        raise CheckpointError(
            f"the configuration next to {where} says pooler_act {str(said('pooler_act'))[:40]}; vitreous builds the pooler with tanh alone"
        )
    return tensors[name].shape[0] if name in tensors else None


def read_block(tensors: Mapping[str, Tensor], said: Said, where: str) -> BlockConfig:
    """Return the design of the blocks."""
    bias = has_tensor(tensors, r"\.0\.attention\.(attention\.query|q_proj)\.bias$")
    return BlockConfig(activation=read_activation(said("hidden_act"), where), qkv_bias="all" if bias else "none")


def default_images(document: Mapping[str, Any], config: ViTConfig) -> PreprocessConfig:
    """Return the default transform of the image processors: ViT's squashes to 0.5 +- 0.5; the others' are
    ImageNet's."""
    if document.get("model_type") in IMAGENETS or config.distillation_token:
        return PreprocessConfig(
            size=config.image, rounding="transformers", crop=0.875, interpolation="bicubic", **IMAGENET
        )
    return PreprocessConfig(
        size=config.image, rounding="transformers", resize="squash", crop=1.0, interpolation="bilinear", **HALF
    )


FAMILY = Family(
    "huggingface",
    "Hugging Face transformers (ViT, DeiT, ViT-MAE, ViT-MSN, I-JEPA)",
    recognise,
    interpret,
    table,
    unwritable=explain_unwritable,
    sidecars=sidecars,
)
