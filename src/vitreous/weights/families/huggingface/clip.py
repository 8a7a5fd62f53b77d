"""Hugging Face's image towers of CLIP, MetaCLIP 2, SigLIP and SigLIP 2 (transformers/models/clip, metaclip_2, siglip, siglip2): alone, with a
head, or in the whole model. SigLIP 2 at fixed sizes is saved as SigLIP; siglip2 is NaFlex, whose patches are cut
beforehand.

CLIP's projection becomes the head: its outputs are the values of the space that images and texts share.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import CLIP, HALF, Family, ForeignModel, find_grid, get_shape
from vitreous.weights.families.huggingface.config_json import (
    BASE,
    Said,
    count_encoder_blocks,
    join_rules,
    read_activation,
    read_heads,
    read_image,
    read_labels,
    read_pair,
    score_kind,
)
from vitreous.weights.families.huggingface.preprocessor import read_preprocess
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Layout, Rule, Table, build_leading_layout, convolution_rules, dense_rules

CLIP_KINDS = ("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model")
SIGLIP_KINDS = ("siglip", "siglip_vision_model")
NAFLEX_KINDS = ("siglip2", "siglip2_vision_model")
CLIP_DEFAULTS = BASE | {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"}
SIGLIP_DEFAULTS = BASE | {"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
NAFLEX_DEFAULTS = SIGLIP_DEFAULTS | {"num_patches": 256}
NAFLEX = "images of one size, squashed; their processor keeps the aspect, within as many patches as there are positions"
ROOT = "vision_model."
INSIDE = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "head.")
PATCHES = f"{ROOT}embeddings.patch_embedding.weight"
PLACES = f"{ROOT}embeddings.position_embedding.weight"
PROBE, PROJECTION, CLASSIFIER = f"{ROOT}head.probe", "visual_projection.weight", "classifier.weight"
IGNORED = (r"^text_model\.", r"^text_projection\.", r"^logit_(scale|bias)$", r"position_ids$")


def cut_patches(config: ViTConfig) -> Layout:
    """NaFlex's patch embedding: (dim, row x col x channel) for our (dim, channel x row x col)."""
    channels, rows, cols = config.patch_shape
    return Layout(
        lambda tensor: tensor.unflatten(1, (rows, cols, channels)).permute(0, 3, 1, 2).flatten(1),
        lambda tensor: tensor.unflatten(1, (channels, rows, cols)).permute(0, 2, 3, 1).flatten(1),
    )


def encoder(config: ViTConfig) -> list[Rule]:
    """Return the rules that CLIP and SigLIP share."""
    block = f"{ROOT}encoder.layers.{{i}}"
    parts = tuple(f"{block}.self_attn.{part}_proj" for part in "qkv")
    return [
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        Rule("patches.embed.bias", (f"{ROOT}embeddings.patch_embedding.bias",)),
        Rule("class_token", (f"{ROOT}embeddings.class_embedding",)),
        Rule("positions.embedding", (f"{ROOT}embeddings.position_embedding.weight",)),
        *dense_rules("embed_norm", f"{ROOT}pre_layrnorm"),
        *dense_rules("blocks.{i}.attention_norm", f"{block}.layer_norm1"),
        *join_rules("blocks.{i}.attention.qkv", parts),
        *dense_rules("blocks.{i}.attention.out", f"{block}.self_attn.out_proj"),
        *dense_rules("blocks.{i}.mlp_norm", f"{block}.layer_norm2"),
        *dense_rules("blocks.{i}.mlp.expand", f"{block}.mlp.fc1"),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.mlp.fc2"),
        *dense_rules("norm", f"{ROOT}post_layernorm"),
    ]


def clip_table(config: ViTConfig) -> Table:
    """Return CLIP's rules."""
    head = dense_rules("head", "classifier") if config.head_bias else [Rule("head.weight", (PROJECTION,))]
    return [*encoder(config), *head]


def siglip_table(config: ViTConfig) -> Table:
    """Return SigLIP's rules: q, k and v of the pooling are one matrix there, of which q is the first third."""
    theirs, ours = f"{ROOT}head", "pool.attention"
    rules = [
        *encoder(config),
        Rule(f"{ours}.probe", (PROBE,), build_leading_layout(2)),
        *dense_rules("head", "classifier"),
    ]
    for suffix in ("weight", "bias"):
        whole = (f"{theirs}.attention.in_proj_{suffix}",)
        rules += [Rule(f"{ours}.q.{suffix}", whole, part=(0, 1, 3)), Rule(f"{ours}.kv.{suffix}", whole, part=(1, 3, 3))]
    return [
        *rules,
        *dense_rules(f"{ours}.out", f"{theirs}.attention.out_proj"),
        *dense_rules(f"{ours}.norm", f"{theirs}.layernorm"),
        *dense_rules(f"{ours}.mlp.expand", f"{theirs}.mlp.fc1"),
        *dense_rules(f"{ours}.mlp.contract", f"{theirs}.mlp.fc2"),
    ]


def naflex_table(config: ViTConfig) -> Table:
    """Return NaFlex's rules."""
    return [Rule("patches.embed.weight", (PATCHES,), cut_patches(config)), *siglip_table(config)]


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tower's names one prefix, for any class that saved the file."""
    return {ROOT + name if name.startswith(INSIDE) else name: tensor for name, tensor in tensors.items()}


def recognise_clip(weights: Weights) -> float:
    """CLIP's names (its norm before the blocks), and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    return score_kind(weights, CLIP_KINDS) if PATCHES in tensors and f"{ROOT}pre_layrnorm.weight" in tensors else 0.0


def recognise_siglip(weights: Weights) -> float:
    """SigLIP's names (no norm before the blocks, no class token), and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = PATCHES in tensors and tensors[PATCHES].ndim == 4
    clip = f"{ROOT}pre_layrnorm.weight" in tensors or f"{ROOT}embeddings.class_embedding" in tensors
    return score_kind(weights, SIGLIP_KINDS) if named and not clip else 0.0


def recognise_naflex(weights: Weights) -> float:
    """SigLIP's names with a patch embedding that is a matrix, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = PATCHES in tensors and tensors[PATCHES].ndim == 2 and PLACES in tensors
    return score_kind(weights, NAFLEX_KINDS) if named else 0.0


def read_vision(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the image tower's part of a config.json."""
    inner = config.get("vision_config")
    return inner if isinstance(inner, Mapping) and inner else config


def read_config(weights: Weights, tensors: Mapping[str, Tensor], said: Said) -> ViTConfig:
    """Return the common settings of the two towers."""
    where = str(weights.path)
    positions = get_shape(tensors, f"{ROOT}embeddings.position_embedding.weight", where)[0]
    width, channels, rows, cols = get_shape(tensors, PATCHES, where)
    return ViTConfig(
        image=read_image(weights, said, (rows, cols), positions, int(f"{ROOT}embeddings.class_embedding" in tensors)),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_encoder_blocks(tensors, r"vision_model\.encoder\.layers\.(\d+)\.", where),
        heads=read_heads(weights, said, width),
        mlp_width=get_shape(tensors, f"{ROOT}encoder.layers.0.mlp.fc1.weight", where)[0],
        classes=0,
        norm_eps=float(said("layer_norm_eps")),
        patch_bias=f"{ROOT}embeddings.patch_embedding.bias" in tensors,
        block=BlockConfig(activation=read_activation(said("hidden_act"), where)),
    )


def interpret_clip(weights: Weights, name: str | None) -> ForeignModel:
    """Read CLIP: [class], normalised, then projected; a classifier sees the mean over patches, not normalised."""
    tensors = simplify_names(weights.tensors)
    said = Said(read_vision(weights.config), CLIP_DEFAULTS)
    config = replace(read_config(weights, tensors, said), embed_norm=True, final_norm="pooled")
    ignored, labels = IGNORED, ()
    if CLASSIFIER in tensors:
        config = replace(config, classes=tensors[CLASSIFIER].shape[0], pool="mean", final_norm="none")
        ignored, labels = (
            (*IGNORED, r"post_layernorm\.", r"^visual_projection\."),
            read_labels(weights.config, config.classes),
        )
    elif PROJECTION in tensors:
        config = replace(config, classes=tensors[PROJECTION].shape[0], head_bias=False)
        labels = tuple(f"embedding {number}" for number in range(config.classes))
    default = PreprocessConfig(size=config.image, rounding="transformers", crop=1.0, interpolation="bicubic", **CLIP)
    images = read_preprocess(weights, config.image, default, said.assumed)
    return ForeignModel(config, images, "bicubic", tensors, tuple(said.assumed), labels, ignored)


def interpret_siglip(weights: Weights, name: str | None) -> ForeignModel:
    """Read SigLIP: attention pooling, or the mean over patches under a classifier."""
    tensors = simplify_names(weights.tensors)
    said = Said(read_vision(weights.config), SIGLIP_DEFAULTS)
    classes = tensors[CLASSIFIER].shape[0] if CLASSIFIER in tensors else 0
    pool = "map" if PROBE in tensors and not classes else "mean"
    config = replace(read_config(weights, tensors, said), class_token=False, pool=pool, classes=classes)
    ignored = (*IGNORED, rf"^{ROOT}head\.") if classes else IGNORED
    default = PreprocessConfig(
        size=config.image, rounding="transformers", resize="squash", crop=1.0, interpolation="bicubic", **HALF
    )
    images = read_preprocess(weights, config.image, default, said.assumed)
    return ForeignModel(
        config, images, "bicubic", tensors, tuple(said.assumed), read_labels(weights.config, classes), ignored
    )


def interpret_naflex(weights: Weights, name: str | None) -> ForeignModel:
    """Read SigLIP 2 NaFlex at the grid of its positions, which it resizes to each image's own."""
    where, said = str(weights.path), Said(read_vision(weights.config), NAFLEX_DEFAULTS)
    tensors = simplify_names(weights.tensors)
    width, values = get_shape(tensors, PATCHES, where)
    patch = read_pair(said("patch_size"))
    channels, rest = divmod(values, patch[0] * patch[1])
    if rest or not channels:
        raise CheckpointError(
            f"{where} embeds patches of {values} values, which is no multiple of {patch[0]}x{patch[1]} pixels"
        )
    _, grid, squared = find_grid(weights, get_shape(tensors, PLACES, where)[0], (0,))
    kernel = tensors[PATCHES].view(width, channels, *patch)  # of its shape alone, for what SigLIP's reader asks
    like = replace(
        weights,
        tensors=tensors | {PATCHES: kernel},
        config=read_vision(weights.config) | {"image_size": (grid.rows * patch[0], grid.cols * patch[1])},
    )
    found = interpret_siglip(like, name)
    images = read_preprocess(
        weights, found.model.image, replace(found.preprocess, interpolation="bilinear"), said.assumed
    )
    labels = read_labels(weights.config, found.model.classes)
    assumed = (*squared, *found.assumed, *said.assumed, NAFLEX)
    return replace(
        found, preprocess=images, resize="bilinear-antialias", tensors=tensors, assumed=assumed, classes=labels
    )


CLIP_FAMILY = Family(
    "hf-clip", "Hugging Face transformers (CLIP, MetaCLIP 2)", recognise_clip, interpret_clip, clip_table
)
SIGLIP_FAMILY = Family(
    "hf-siglip", "Hugging Face transformers (SigLIP, SigLIP 2)", recognise_siglip, interpret_siglip, siglip_table
)
NAFLEX_FAMILY = Family(
    "hf-siglip2", "Hugging Face transformers (SigLIP 2 NaFlex)", recognise_naflex, interpret_naflex, naflex_table
)
