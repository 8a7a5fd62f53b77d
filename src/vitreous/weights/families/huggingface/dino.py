"""Hugging Face's DINOv2, with and without registers, and DINOv3 (transformers/models/dinov2*, dinov3_vit)."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel, get_shape, has_tensor
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
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, build_leading_layout, convolution_rules, dense_rules

KINDS2, KINDS3 = ("dinov2", "dinov2_with_registers"), ("dinov3_vit",)
DEFAULTS2 = BASE | {"layer_norm_eps": 1e-6}
DEFAULTS3 = BASE | {"layer_norm_eps": 1e-5, "num_attention_heads": 6, "rope_theta": 100.0}
ROOTS = ("dinov2.", "dinov2_with_registers.")
PATCHES = "embeddings.patch_embeddings.projection.weight"
QKV = ("query", "key", "value")


def table2(config: ViTConfig) -> Table:
    """Return the rules of DINOv2; for each block the names of transformers 4 first, then those of 5."""
    block = "encoder.layer.{i}"
    apart = tuple(f"{block}.attention.attention.{part}" for part in QKV)
    gated = (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj")
    return [
        *dense_rules("patches.embed", "embeddings.patch_embeddings.projection")[1:],
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        *tokens(),
        Rule("positions.embedding", ("embeddings.position_embeddings",), build_leading_layout(1)),
        *branches(block),
        *join_rules("blocks.{i}.attention.qkv", apart, tuple(f"{block}.attention.{part}_proj" for part in "qkv")),
        *either_rules("blocks.{i}.attention.out", f"{block}.attention.output.dense", f"{block}.attention.o_proj"),
        *either_rules("blocks.{i}.mlp.expand", f"{block}.mlp.fc1", f"{block}.mlp.weights_in"),
        *join_rules("blocks.{i}.mlp.expand", gated),
        *either_rules(
            "blocks.{i}.mlp.contract", f"{block}.mlp.fc2", f"{block}.mlp.weights_out", f"{block}.mlp.down_proj"
        ),
        *dense_rules("norm", "layernorm"),
        *dense_rules("head", "classifier"),
    ]


def table3(config: ViTConfig) -> Table:
    """Return the rules of DINOv3."""
    block = "layer.{i}"
    parts = tuple(f"{block}.attention.{part}_proj" for part in "qkv")
    gated = config.block.mlp == "swiglu"
    expand = (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj") if gated else (f"{block}.mlp.up_proj",)
    return [
        Rule("patches.embed.weight", ("embeddings.patch_embeddings.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", ("embeddings.patch_embeddings.bias",)),
        *tokens(),
        *branches(block),
        *join_rules("blocks.{i}.attention.qkv", parts),
        Rule("blocks.{i}.attention.q_bias", (f"{parts[0]}.bias",)),
        Rule("blocks.{i}.attention.v_bias", (f"{parts[2]}.bias",)),
        *dense_rules("blocks.{i}.attention.out", f"{block}.attention.o_proj"),
        *join_rules("blocks.{i}.mlp.expand", expand),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.mlp.down_proj"),
        *dense_rules("norm", "norm"),
    ]


def tokens() -> list[Rule]:
    """Return the rules of [class] and the registers."""
    return [
        Rule("class_token", ("embeddings.cls_token",), build_leading_layout(2)),
        Rule("registers", ("embeddings.register_tokens",), build_leading_layout(1)),
    ]


def branches(block: str) -> list[Rule]:
    """Return the rules of norms and scales, which DINOv2 and DINOv3 share."""
    rules = [
        *dense_rules("blocks.{i}.attention_norm", f"{block}.norm1"),
        *dense_rules("blocks.{i}.mlp_norm", f"{block}.norm2"),
    ]
    scales = (("attention_scale", "layer_scale1"), ("mlp_scale", "layer_scale2"))
    return rules + [Rule(f"blocks.{{i}}.{ours}.scale", (f"{block}.{theirs}.lambda1",)) for ours, theirs in scales]


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the encoder's prefix, for any class that saved the file."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("register_tokens") and not tensor.numel():
            continue
        bare = next((name.removeprefix(prefix) for prefix in ROOTS if name.startswith(prefix)), name)
        found["layer." + bare.removeprefix("model.layer.") if bare.startswith("model.layer.") else bare] = tensor
    return found


def recognise2(weights: Weights) -> float:
    """DINOv2's names, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = PATCHES in tensors and "encoder.layer.0.layer_scale1.lambda1" in tensors
    return score_kind(weights, KINDS2) if named else 0.0


def recognise3(weights: Weights) -> float:
    """DINOv3's names, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = "embeddings.patch_embeddings.weight" in tensors and "layer.0.layer_scale1.lambda1" in tensors
    return score_kind(weights, KINDS3) if named else 0.0


def interpret2(weights: Weights, name: str | None) -> ForeignModel:
    """Read DINOv2. Its classifiers see [class] and the mean over patches; registers determine the resize rule."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    said = Said(weights.config, DEFAULTS2)
    gated = has_tensor(tensors, r"^encoder\.layer\.0\.mlp\.(weights_in|gate_proj)\.")
    config = read_config(weights, tensors, said, PATCHES)
    registers, classes = config.registers, config.classes
    block = BlockConfig(
        activation="gelu" if gated else read_activation(said("hidden_act"), where),
        mlp="swiglu" if gated else "plain",
        qkv_bias="all" if has_tensor(tensors, r"layer\.0\.attention\.(attention\.query|q_proj)\.bias$") else "none",
        layer_scale=1.0,
    )
    config = replace(config, positions="learned", positioned_tokens="class" if registers else "all", block=block)
    rule = "bicubic-antialias" if registers else "bicubic"
    images = read_preprocess(weights, config.image, default_images(config), said.assumed)
    labels = read_labels(weights.config, classes)
    return ForeignModel(config, images, rule, tensors, tuple(said.assumed), labels, (r"mask_token$",))


def interpret3(weights: Weights, name: str | None) -> ForeignModel:
    """Read DINOv3, which has rotary positions: no grid is resized."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    said = Said(weights.config, DEFAULTS3)
    gated = has_tensor(tensors, r"^layer\.0\.mlp\.gate_proj\.")
    act = read_activation(said("hidden_act"), where) if weights.config else "gelu"
    biases = tuple(f"layer.0.attention.{part}_proj.bias" in tensors for part in "qkv")
    kinds = {(True, True, True): "all", (True, False, True): "no-key", (False, False, False): "none"}
    outer = {f"layer.0.{part}.bias" in tensors for part in ("attention.o_proj", "mlp.up_proj", "mlp.down_proj")}
    if biases not in kinds or len(outer) > 1 or (gated and weights.config and act != "silu"):
        raise CheckpointError(f"{where}: a DINOv3 with these biases or this activation can't be built here")
    config = read_config(weights, tensors, said, "embeddings.patch_embeddings.weight")
    block = BlockConfig(
        activation="gelu" if gated else act,
        mlp="swiglu" if gated else "plain",
        qkv_bias=kinds[biases],
        biases=outer.pop(),
        layer_scale=1.0,
    )
    rotary = RotaryConfig("centred", float(said("rope_theta")))
    config = replace(config, positions="none", rotary=rotary, block=block)
    images = read_preprocess(weights, config.image, default_images(config), said.assumed)
    ignored = (r"mask_token$", r"^rope_embeddings\.")
    return ForeignModel(config, images, "bicubic-antialias", tensors, tuple(said.assumed), (), ignored)


def read_config(weights: Weights, tensors: Mapping[str, Tensor], said: Said, patches: str) -> ViTConfig:
    """Return the common settings of DINOv2 and DINOv3."""
    where, positions = str(weights.path), tensors.get("embeddings.position_embeddings")
    width, channels, rows, cols = get_shape(tensors, patches, where)
    ends = ("layer.0.mlp.fc2.weight", "layer.0.mlp.weights_out.weight", "layer.0.mlp.down_proj.weight")
    contract = next(key for key in tensors if key.endswith(ends))
    classes = tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0
    found = "embeddings.register_tokens"
    registers = tensors[found].shape[1] if found in tensors else 0
    if said.document.get("num_register_tokens", registers) != registers:
        raise CheckpointError(f"{where} has {registers} register tokens, but its config.json another number")
    return ViTConfig(
        image=read_image(weights, said, (rows, cols), positions.shape[1] if positions is not None else 0),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_encoder_blocks(tensors, r"(?:encoder\.)?layer\.(\d+)\.", where),
        heads=read_heads(weights, said, width),
        mlp_width=tensors[contract].shape[1],
        classes=classes,
        pool="class+mean" if classes else "class",
        registers=registers,
        norm_eps=float(said("layer_norm_eps")),
    )


def default_images(config: ViTConfig) -> PreprocessConfig:
    """Return the default transform of their image processor."""
    return PreprocessConfig(size=config.image, rounding="transformers", crop=0.875, interpolation="bicubic", **IMAGENET)


DINOV2 = Family("hf-dinov2", "Hugging Face transformers (DINOv2)", recognise2, interpret2, table2)
DINOV3 = Family("hf-dinov3", "Hugging Face transformers (DINOv3)", recognise3, interpret3, table3)
