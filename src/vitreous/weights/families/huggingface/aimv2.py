"""AIMv2 (2411.14402): Apple's own files, timm's `aimv2_*` and transformers' (transformers/models/aimv2).

Patches are normalised before their positions are added, blocks have RMS norms, gated MLPs and no biases, and there is
no [class] token: the mean over patches represents the image, or one query that pools them (transformers' head).
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import CLIP, Family, ForeignModel, find_heads, get_shape
from vitreous.weights.families.huggingface.config_json import (
    BASE,
    Said,
    count_encoder_blocks,
    read_activation,
    read_labels,
    read_pair,
    score_kind,
)
from vitreous.weights.families.huggingface.preprocessor import read_preprocess
from vitreous.weights.families.timm.arguments import check_arguments, read_arguments, read_classes
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import find_pool, get_size, name_architecture, settle_positions
from vitreous.weights.files import Weights
from vitreous.weights.mapping import (
    Rule,
    Table,
    build_leading_layout,
    convolution_rules,
    count_blocks,
    dense_rules,
    stack_rule,
)

HEAD_WIDTH = 128
"""Values of a head in every published model."""
APPLES = (
    ("preprocessor.patchifier.", "patch_embed."),
    ("preprocessor.pos_embed", "pos_embed"),
    ("trunk.post_trunk_norm.", "norm."),
    ("trunk.", ""),
    ("norm_1.", "norm1."),
    ("norm_2.", "norm2."),
    ("mlp.fc1.", "mlp.fc1_g."),
    ("mlp.fc3.", "mlp.fc1_x."),
)
"""Apple's own names, and timm's."""
KINDS = ("aimv2", "aimv2_vision_model")
DEFAULTS = BASE | {
    "num_attention_heads": 8,
    "patch_size": 14,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "is_native": False,
}
ROOT = "vision_model."
PATCHES, PLACES = "embeddings.patch_embed.weight", "embeddings.position_embedding.weight"
OTHERS = (r"^text_model\.", r"^text_projection\.", r"^logit_scale$", r"position_ids$")


def read_block(tensors: Mapping[str, Tensor], block: str, out: str, down: str, where: str) -> BlockConfig:
    """Return the design of the blocks; `block`, `out` and `down` are the names of one block and of two layers in it.

    Raises:
        CheckpointError: biases in some of the layers only.
    """
    outer = {f"{block}{name}.bias" in tensors for name in (out, down)}
    if len(outer) > 1:
        raise CheckpointError(f"{where}: an AIMv2 with biases in attention or in the MLP alone can't be built here")
    inner = any(name.startswith(block) and name.endswith(("qkv.bias", "q_proj.bias")) for name in tensors)
    return BlockConfig(
        norm="rms", activation="silu", mlp="swiglu", qkv_bias="all" if inner else "none", biases=outer.pop()
    )


def table(config: ViTConfig) -> Table:
    """Return the rules of timm's names."""
    block = "blocks.{i}"
    gated = (f"{block}.mlp.fc1_g", f"{block}.mlp.fc1_x")
    return [
        Rule("patches.embed.weight", ("patch_embed.proj.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", ("patch_embed.proj.bias",)),
        *dense_rules("patches.norm", "patch_embed.norm"),
        Rule("positions.embedding", ("pos_embed",), build_leading_layout(1)),
        *dense_rules(f"{block}.attention_norm", f"{block}.norm1"),
        *dense_rules(f"{block}.attention.qkv", f"{block}.attn.qkv"),
        *dense_rules(f"{block}.attention.out", f"{block}.attn.proj"),
        *dense_rules(f"{block}.mlp_norm", f"{block}.norm2"),
        *(stack_rule(f"{block}.mlp.expand", gated, suffix) for suffix in ("weight", "bias")),
        *dense_rules(f"{block}.mlp.contract", f"{block}.mlp.fc2"),
        *dense_rules("norm", "norm"),
        *dense_rules("head", "head"),
    ]


def timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Apple's own tensors to timm's names; timm's keep theirs."""
    if "preprocessor.patchifier.proj.weight" not in tensors:
        return dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        for theirs, timms in APPLES:
            name = name.replace(theirs, timms)
        found[name] = tensor
    return found


def recognise(weights: Weights) -> float:
    """timm's names or Apple's with a norm of patches and gated MLPs; certain if config.json names the architecture."""
    tensors = timm_names(weights.tensors)
    named = "patch_embed.norm.weight" in tensors and "blocks.0.mlp.fc1_x.weight" in tensors
    return (2.0 if "architecture" in weights.config else 1.0) if named else 0.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read timm's or Apple's files. Without learned positions they are MAE's sines and cosines (`native`)."""
    tensors, where = timm_names(weights.tensors), str(weights.path)
    width, channels, rows, cols = get_shape(tensors, "patch_embed.proj.weight", where)
    given = read_arguments(weights)
    heads, usual = find_heads(weights, width, given.get("num_heads"), max(1, width // HEAD_WIDTH))
    config = ViTConfig(
        image=(224 // rows * rows, 224 // cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp.fc2.weight", where)[1],
        classes=get_size(tensors, "head.weight", 0),
        pool=find_pool(tensors, weights),
        class_token=False,
        patch_norm="after",
        norm_eps=1e-5,
        block=read_block(tensors, "blocks.0.", "attn.proj", "mlp.fc2", where),
    )
    config, squared = settle_positions(config, tensors, weights)
    if config.positions == "none":
        config = replace(config, positions="sincos2d-mae")
    assumed = usual + squared + check_arguments(config, given, where)
    assumed += () if name_architecture(weights, name) else ("epsilon 1e-5, CLIP's normalisation",)
    images = read_vit_transform(weights, config, {**CLIP, "crop": 1.0})
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, read_classes(weights, config.classes))


def hf_table(config: ViTConfig) -> Table:
    """Return the rules of transformers' names."""
    block, pool = "encoder.layers.{i}", "pool.attention"
    parts = tuple(f"{block}.attention.{part}_proj" for part in "qkv")
    gated = (f"{block}.ffn.gate_proj", f"{block}.ffn.up_proj")
    pair_of = ("head.k_proj", "head.v_proj")
    return [
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        Rule("patches.embed.bias", ("embeddings.patch_embed.bias",)),
        *dense_rules("patches.norm", "embeddings.rms_norm"),
        Rule("positions.embedding", (PLACES,)),
        *dense_rules("blocks.{i}.attention_norm", f"{block}.rms_norm1"),
        *(stack_rule("blocks.{i}.attention.qkv", parts, suffix) for suffix in ("weight", "bias")),
        *dense_rules("blocks.{i}.attention.out", f"{block}.attention.out_proj"),
        *dense_rules("blocks.{i}.mlp_norm", f"{block}.rms_norm2"),
        *(stack_rule("blocks.{i}.mlp.expand", gated, suffix) for suffix in ("weight", "bias")),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.ffn.down_proj"),
        *dense_rules("norm", "rms_norm"),
        Rule(f"{pool}.probe", ("head.cls_token",), build_leading_layout(2)),
        *(stack_rule(f"{pool}.kv", pair_of, suffix) for suffix in ("weight", "bias")),
        *dense_rules(f"{pool}.out", "head.output_proj"),
        Rule("head.weight", ("visual_projection.weight",)),
    ]


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the image tower's prefix."""
    return {name.removeprefix(ROOT): tensor for name, tensor in tensors.items()}


def recognise_hf(weights: Weights) -> float:
    """transformers' names, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = PATCHES in tensors and "embeddings.rms_norm.weight" in tensors
    return score_kind(weights, KINDS) if named else 0.0


def interpret_hf(weights: Weights, name: str | None) -> ForeignModel:
    """Read transformers' files; the projection of a whole model becomes the head."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    document = weights.config.get("vision_config") or weights.config
    said = Said(document, DEFAULTS)
    width, channels, rows, cols = get_shape(tensors, PATCHES, where)
    size = read_pair(said("image_size"))
    if read_activation(said("hidden_act"), where) != "silu":
        raise CheckpointError(f"{where}: an AIMv2 whose gate is {said('hidden_act')!r} can't be built here; only silu")
    pooled = "head.cls_token" in tensors
    config = ViTConfig(
        image=(size[0] // rows * rows, size[1] // cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_encoder_blocks(tensors, r"encoder\.layers\.(\d+)\.", where),
        heads=int(said("num_attention_heads")) if document else max(1, width // HEAD_WIDTH),
        mlp_width=get_shape(tensors, "encoder.layers.0.ffn.down_proj.weight", where)[1],
        classes=get_size(tensors, "visual_projection.weight", 0),
        head_bias="visual_projection.weight" not in tensors,
        pool="map" if pooled else "mean",
        pool_plain=pooled,
        class_token=False,
        positions="learned" if PLACES in tensors else "sincos2d-mae",
        patch_norm="after",
        norm_eps=float(said("rms_norm_eps")),
        block=read_block(tensors, "encoder.layers.0.", "attention.out_proj", "ffn.down_proj", where),
    )
    default = PreprocessConfig(size=config.image, rounding="transformers", crop=1.0, interpolation="bicubic", **CLIP)
    images = read_preprocess(weights, config.image, default, said.assumed)
    labels = read_labels(weights.config, config.classes) or tuple(
        f"embedding {number}" for number in range(config.classes)
    )
    assumed = tuple(said.assumed) if pooled else (*said.assumed, "the mean over patches represents the image (no head)")
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, labels, OTHERS)


FAMILY = Family("aimv2", "apple/ml-aim (AIMv2), timm's aimv2_*", recognise, interpret, table)
HF_FAMILY = Family("hf-aimv2", "Hugging Face transformers (AIMv2)", recognise_hf, interpret_hf, hf_table)
