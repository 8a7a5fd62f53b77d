"""Hugging Face's BEiT and data2vec-vision (transformers/models/beit, data2vec): one encoder under two names.

Files on the Hub have the names of transformers 4; version 5 writes them too, although its modules have other names.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.positions.relative import resize_table_matrix
from vitreous.shapes import Size
from vitreous.weights.families.base import CLASS_OFFSETS, HALF, Family, ForeignModel, get_shape, has_tensor
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
from vitreous.weights.mapping import Layout, Rule, Table, build_leading_layout, convolution_rules, dense_rules

KINDS = ("beit", "data2vec-vision")
ROOTS = ("beit.", "data2vec_vision.")
DEFAULTS = BASE | {"layer_norm_eps": 1e-12}
PATCHES = "embeddings.patch_embeddings.projection.weight"
BLOCK = "layer.{i}"
OWN, SHARED = "layer.0.relative_position_bias_table", "relative_position_bias_table"
IGNORED = (r"mask_token$", r"relative_position_index$", r"^lm_head\.")


def table(config: ViTConfig) -> Table:
    """Return the rules, for names as `simplify_names` makes them."""
    apart = tuple(f"{BLOCK}.attention.{part}" for part in ("query", "key", "value"))
    newer = tuple(f"{BLOCK}.attention.{part}_proj" for part in "qkv")
    norm = "pooler.layernorm" if config.final_norm == "pooled" else "layernorm"
    return [
        Rule("patches.embed.weight", (PATCHES,), convolution_rules(config)),
        Rule("patches.embed.bias", ("embeddings.patch_embeddings.projection.bias",)),
        Rule("class_token", ("embeddings.cls_token",), build_leading_layout(2)),
        Rule("positions.embedding", ("embeddings.position_embeddings",), build_leading_layout(1)),
        Rule("relative.table", (SHARED,), offsets_layout(config)),
        Rule("blocks.{i}.attention.relative.table", (f"{BLOCK}.{SHARED}",), offsets_layout(config)),
        *dense_rules("blocks.{i}.attention_norm", f"{BLOCK}.layernorm_before"),
        *join_rules("blocks.{i}.attention.qkv", apart, newer, suffixes=("weight",)),
        *(
            Rule(f"blocks.{{i}}.attention.{ours}_bias", (f"{names[place]}.bias",))
            for names in (apart, newer)
            for ours, place in (("q", 0), ("v", 2))
        ),
        *either_rules("blocks.{i}.attention.out", f"{BLOCK}.attention.output.dense", f"{BLOCK}.attention.o_proj"),
        Rule("blocks.{i}.attention_scale.scale", (f"{BLOCK}.lambda_1",)),
        *dense_rules("blocks.{i}.mlp_norm", f"{BLOCK}.layernorm_after"),
        *either_rules("blocks.{i}.mlp.expand", f"{BLOCK}.intermediate.dense", f"{BLOCK}.mlp.fc1"),
        *either_rules("blocks.{i}.mlp.contract", f"{BLOCK}.output.dense", f"{BLOCK}.mlp.fc2"),
        Rule("blocks.{i}.mlp_scale.scale", (f"{BLOCK}.lambda_2",)),
        *dense_rules("norm", norm),
        *dense_rules("head", "classifier"),
    ]


def offsets_layout(config: ViTConfig) -> Layout:
    """The layout of a table over offsets: the same as ours, unless the grid isn't square.

    In that case transformers treats the table as one of (cols, rows) whenever it runs, and stretches it to (rows,
    cols).
    """
    grid = config.grid
    if grid.rows == grid.cols:
        return Layout(lambda tensor: tensor, lambda tensor: tensor)
    stretch = resize_table_matrix("bias", Size(grid.cols, grid.rows), grid, config.prefix, "bilinear")
    return Layout(
        lambda tensor: (stretch @ tensor.double()).float(),
        lambda tensor: (stretch.pinverse() @ tensor.double()).float(),
    )


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix of the encoder's names, from any class and version that saved the file."""
    found = {}
    for name, tensor in tensors.items():
        bare = next((name.removeprefix(root) for root in ROOTS if name.startswith(root)), name)
        bare = bare.removeprefix("encoder.")
        bare = bare.replace("layers.", "layer.", 1) if bare.startswith("layers.") else bare
        bare = bare.replace("attention.attention.", "attention.", 1)
        if bare.endswith("relative_position_bias_table"):
            block = bare.split(".")[1] if bare.startswith("layer.") else ""
            bare = f"layer.{block}.{SHARED}" if block else SHARED
        found[bare] = tensor
    return found


def recognise(weights: Weights) -> float:
    """BEiT's names, and no other model type in config.json."""
    tensors = simplify_names(weights.tensors)
    named = PATCHES in tensors and "layer.0.layernorm_before.weight" in tensors
    rooted = has_tensor(weights.tensors, rf"^({'|'.join(ROOTS)})".replace(".", r"\."))
    marked = has_tensor(tensors, r"relative_position_bias_table$|^layer\.0\.lambda_1$")
    return score_kind(weights, KINDS) if named and (rooted or marked) else 0.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture: config.json over transformers' defaults, widths from shapes."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    said = Said(weights.config, DEFAULTS)
    width, channels, rows, cols = get_shape(tensors, PATCHES, where)
    hidden = next(key for key in ("layer.0.intermediate.dense.weight", "layer.0.mlp.fc1.weight") if key in tensors)
    offsets_of = tensors.get(OWN, tensors.get(SHARED))
    config = ViTConfig(
        image=read_image(weights, said, (rows, cols), *list_positions(tensors)),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_encoder_blocks(tensors, r"layer\.(\d+)\.", where),
        heads=offsets_of.shape[1] if offsets_of is not None else read_heads(weights, said, width),
        mlp_width=tensors[hidden].shape[0],
        classes=tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0,
        norm_eps=float(said("layer_norm_eps")),
        block=BlockConfig(
            activation=read_activation(said("hidden_act"), where),
            qkv_bias="no-key",
            layer_scale=0.1 if "layer.0.lambda_1" in tensors else 0.0,
        ),
    )
    config = settle_norm(settle_positions(config, tensors, where), tensors)
    labels = read_labels(weights.config, config.classes)
    default = PreprocessConfig(
        size=config.image, rounding="transformers", resize="squash", crop=1.0, interpolation="bicubic", **HALF
    )
    images = read_preprocess(weights, config.image, default, said.assumed)
    rule = "bicubic" if config.positions == "learned" else "bilinear"
    return ForeignModel(config, images, rule, tensors, tuple(said.assumed), labels, IGNORED)


def settle_positions(config: ViTConfig, tensors: Mapping[str, Tensor], where: str) -> ViTConfig:
    """Settle the positions: a table per block, one for all, added ones, or none.

    Raises:
        CheckpointError: several of these.
    """
    kinds = [key for key in (OWN, SHARED, "embeddings.position_embeddings") if key in tensors]
    if len(kinds) > 1:
        raise CheckpointError(
            f"{where} has several kinds of positions at once ({', '.join(kinds)}); no model here has both"
        )
    if not kinds or kinds[0] == "embeddings.position_embeddings":
        return replace(config, positions="learned" if kinds else "none")
    return replace(config, positions="bias", position_placement="layers" if kinds[0] == OWN else "shared")


def list_positions(tensors: Mapping[str, Tensor]) -> tuple[int, int, bool]:
    """Return the number of positions, the number of those for [class], and whether it is a table over offsets."""
    added = tensors.get("embeddings.position_embeddings")
    if added is not None:
        return added.shape[1], 1, False
    offsets = tensors.get(OWN, tensors.get(SHARED))
    return (0 if offsets is None else offsets.shape[0]), CLASS_OFFSETS, True


def settle_norm(config: ViTConfig, tensors: Mapping[str, Tensor]) -> ViTConfig:
    """Settle the final norm: over the mean of the patches, or over the sequence, whose [class] then represents the
    image."""
    if "pooler.layernorm.weight" in tensors:
        return replace(config, pool="mean", final_norm="pooled")
    return replace(config, final_norm="tokens" if "layernorm.weight" in tensors else "none")


FAMILY = Family("hf-beit", "Hugging Face transformers (BEiT, data2vec-vision)", recognise, interpret, table)
