"""Google's npz files: vision_transformer (ViT, hybrids, AugReg) and big_vision (ViT, FlexiViT, SigLIP's image tower).

Both are flax: dense kernels are stored as (in, out), attention kernels have their heads as an axis, and GELU is flax's
default, the tanh approximation. (timm reads the same files into a model with the exact GELU and other epsilons, and
resizes their grids by another rule: --as google:timm or big_vision:timm does the same.) Before its Linen, flax numbered
the layers of a block in one count, and since then each kind separately; the published ViT and AugReg files have the
older numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import HALF, Family, ForeignModel, Notes, explain_not_plain, find_grid, get_shape
from vitreous.weights.families.google.stem import read_patch, read_stem, stem_rules
from vitreous.weights.files import Weights
from vitreous.weights.mapping import SAME, TRANSPOSED, Layout, Rule, Table, build_leading_layout, count_blocks

PREFIXES = ("opt/target/", "ema_params/", "params_ema/", "params/img/", "params/", "img/")
PRE_LINEN = ("MultiHeadDotProductAttention_1", "LayerNorm_0", "LayerNorm_2", "MlpBlock_3")
LINEN = ("MultiHeadDotProductAttention_0", "LayerNorm_0", "LayerNorm_1", "MlpBlock_0")
PLACES = ("pos_embedding", "Transformer/posembed_input/pos_embedding", "Transformer/pos_embedding")
"""The names of the positions: big_vision today, vision_transformer, big_vision before 2022."""
IGNORED = (
    r"^(opt(imizer)?(_state)?|state|extra|params|txt)/",
    r"^(t|b|(opt/|optimizer/|state/)?step|chrono.*|rng.*)$",
)
"""The state of the optimizer and of the training, the text tower, temperature and bias of a contrastive loss."""
VARIANTS = {
    "timm": "exact GELU, as timm computes the same files, with timm's epsilons in a hybrid's stem",
    "flax": "GELU by its tanh approximation, as trained, with the authors' epsilons in a hybrid's stem",
}


def table(config: ViTConfig, linen: bool = False) -> Table:
    """Return the rules of either numbering."""
    attention, first, second, mlp = LINEN if linen else PRE_LINEN
    block = "Transformer/encoderblock_{i}"
    rules = [
        *stem_rules(config),
        Rule("patches.embed.weight", ("embedding/kernel",), flax_convolution(config)),
        Rule("patches.embed.bias", ("embedding/bias",)),
        Rule("class_token", ("cls",), build_leading_layout(2)),
        *(
            Rule("positions.embedding", (place,), build_leading_layout(1))
            for place in (PLACES if linen else PLACES[1:])
        ),
        *flax_norm("blocks.{i}.attention_norm", f"{block}/{first}"),
        *flax_attention("blocks.{i}.attention", f"{block}/{attention}", config.heads),
        *flax_norm("blocks.{i}.mlp_norm", f"{block}/{second}"),
        *flax_mlp("blocks.{i}.mlp", f"{block}/{mlp}"),
        *flax_norm("norm", "Transformer/encoder_norm"),
        *flax_dense("pre_logits.0", "pre_logits"),
        *flax_dense("head", "head"),
    ]
    if linen:
        pool = "MAPHead_0"
        rules += [
            Rule("pool.attention.probe", (f"{pool}/probe",), build_leading_layout(2)),
            *pool_attention(f"{pool}/MultiHeadDotProductAttention_0", config.heads),
            *flax_norm("pool.attention.norm", f"{pool}/LayerNorm_0"),
            *flax_mlp("pool.attention.mlp", f"{pool}/MlpBlock_0"),
        ]
    return rules


def flax_convolution(config: ViTConfig) -> Layout:
    """(row, col, channel, dim) for our (dim, channel x row x col)."""
    return Layout(
        lambda tensor: tensor.permute(3, 2, 0, 1).flatten(1),
        lambda tensor: tensor.unflatten(1, config.patch_shape).permute(2, 3, 1, 0),
    )


def input_heads_layout(heads: int) -> Layout:
    """(dim, head, head_dim) for our (head x head_dim, dim)."""
    return Layout(lambda tensor: tensor.flatten(1).mT, lambda tensor: tensor.mT.unflatten(1, (heads, -1)))


def bias_heads_layout(heads: int) -> Layout:
    """(head, head_dim) for our (head x head_dim)."""
    return Layout(lambda tensor: tensor.flatten(), lambda tensor: tensor.unflatten(0, (heads, -1)))


def output_heads_layout(heads: int) -> Layout:
    """(head, head_dim, dim) for our (dim, head x head_dim)."""
    return Layout(lambda tensor: tensor.flatten(0, 1).mT, lambda tensor: tensor.mT.unflatten(0, (heads, -1)))


def flax_dense(ours: str, theirs: str) -> list[Rule]:
    """Return the rules of a dense layer."""
    return [
        Rule(f"{ours}.weight", (f"{theirs}/kernel",), TRANSPOSED),
        Rule(f"{ours}.bias", (f"{theirs}/bias",), SAME),
    ]


def flax_norm(ours: str, theirs: str) -> list[Rule]:
    """Return the rules of a layer norm."""
    return [Rule(f"{ours}.weight", (f"{theirs}/scale",)), Rule(f"{ours}.bias", (f"{theirs}/bias",))]


def flax_mlp(ours: str, theirs: str) -> list[Rule]:
    """Return the rules of an MLP block."""
    return [*flax_dense(f"{ours}.expand", f"{theirs}/Dense_0"), *flax_dense(f"{ours}.contract", f"{theirs}/Dense_1")]


def flax_attention(ours: str, theirs: str, heads: int) -> list[Rule]:
    """Return the rules of self-attention."""
    parts = ("query", "key", "value")
    return [
        Rule(f"{ours}.qkv.weight", tuple(f"{theirs}/{part}/kernel" for part in parts), input_heads_layout(heads)),
        Rule(f"{ours}.qkv.bias", tuple(f"{theirs}/{part}/bias" for part in parts), bias_heads_layout(heads)),
        Rule(f"{ours}.out.weight", (f"{theirs}/out/kernel",), output_heads_layout(heads)),
        Rule(f"{ours}.out.bias", (f"{theirs}/out/bias",)),
    ]


def pool_attention(theirs: str, heads: int) -> list[Rule]:
    """Return the rules of attention pooling."""
    ours, pair = "pool.attention", ("key", "value")
    return [
        Rule(f"{ours}.q.weight", (f"{theirs}/query/kernel",), input_heads_layout(heads)),
        Rule(f"{ours}.q.bias", (f"{theirs}/query/bias",), bias_heads_layout(heads)),
        Rule(f"{ours}.kv.weight", tuple(f"{theirs}/{part}/kernel" for part in pair), input_heads_layout(heads)),
        Rule(f"{ours}.kv.bias", tuple(f"{theirs}/{part}/bias" for part in pair), bias_heads_layout(heads)),
        Rule(f"{ours}.out.weight", (f"{theirs}/out/kernel",), output_heads_layout(heads)),
        Rule(f"{ours}.out.bias", (f"{theirs}/out/bias",)),
    ]


def simplify_names(weights: Weights) -> dict[str, Tensor]:
    """Remove the optimizer's or the tower's prefix, and split blocks that a scan stacked."""
    names = weights.tensors
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" in names:
            names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
            break
    found = {}
    for name, tensor in names.items():
        if name.startswith("Transformer/encoderblock/"):
            rest = name.removeprefix("Transformer/encoderblock/")
            found |= {f"Transformer/encoderblock_{index}/{rest}": part for index, part in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture: npz files state their heads; GELU and the images' normalisation are defaults."""
    tensors, where = simplify_names(weights), str(weights.path)
    rows, cols, channels, width = get_shape(tensors, "embedding/kernel", where)
    stem = read_stem(tensors, name == "timm")
    rows, cols, channels = read_patch(tensors, stem, rows, cols, channels)
    attention, _, _, mlp = LINEN if is_linen(tensors) else PRE_LINEN
    block, timm = "Transformer/encoderblock_0", name == "timm"
    _, heads, _ = get_shape(tensors, f"{block}/{attention}/query/kernel", where)
    token = "cls" in tensors
    config = ViTConfig(
        image=(rows, cols),
        patch=(rows, cols),
        channels=channels,
        stem=stem,
        width=width,
        depth=count_blocks(tensors, r"Transformer/encoderblock_(\d+)/"),
        heads=heads,
        mlp_width=get_shape(tensors, f"{block}/{mlp}/Dense_0/kernel", where)[1],
        classes=tensors["head/kernel"].shape[1] if "head/kernel" in tensors else 0,
        pool="map" if "MAPHead_0/probe" in tensors else ("class" if token else "mean"),
        class_token=token,
        pre_logits="pre_logits/kernel" in tensors,
        pre_logits_width=read_rep_size(tensors, width),
        block=BlockConfig(activation="gelu" if timm else "gelu-tanh"),
    )
    config, assumed = settle_positions(config, tensors, weights)
    assumed = (
        f"activation {config.block.activation} ({VARIANTS['timm' if timm else 'flax'].rpartition(', with')[0]})",
        "mean and deviation 0.5",
        *assumed,
    )
    assumed += (f"stem's epsilons: {stem.epsilons}",) if stem.kind == "resnet" else ()
    preprocess = PreprocessConfig(
        size=config.image,
        resize="squash",
        rounding="tensorflow",
        crop=1.0,
        interpolation="bilinear",
        antialias=False,
        **HALF,
    )
    return ForeignModel(config, preprocess, "bilinear" if timm else "linear-corners", tensors, assumed, (), IGNORED)


def read_rep_size(tensors: Mapping[str, Tensor], width: int) -> int:
    """Return the width of the layer before the head; 0 if it equals the model's, or there is none."""
    size = tensors["pre_logits/kernel"].shape[1] if "pre_logits/kernel" in tensors else width
    return 0 if size == width else size


def settle_positions(config: ViTConfig, tensors: Mapping[str, Tensor], weights: Weights) -> tuple[ViTConfig, Notes]:
    """Settle the grid, and whether [class] has a position; without positions in the file they are sines and cosines."""
    rows, cols = config.patch
    positions = next((tensors[place] for place in PLACES if place in tensors), None)
    if positions is None:
        grid = weights.stated.grid or (224 // rows, 224 // cols)
        size = "" if weights.stated.grid else ", of images of 224 pixels"
        config = replace(
            config, image=(grid[0] * rows, grid[1] * cols), positions="sincos2d", positioned_tokens="patches"
        )
        return config, (f"positions are fixed sines and cosines{size}",)
    prefix, grid, assumed = find_grid(weights, positions.shape[1], (0, 1) if config.class_token else (0,))
    tokens = "all" if prefix == config.class_token else "patches"
    return replace(config, image=(grid.rows * rows, grid.cols * cols), positioned_tokens=tokens), assumed


def is_linen(tensors: Mapping[str, Tensor]) -> bool:
    """Tell the two numberings apart."""
    return any(re.match(r"Transformer/encoderblock_0/MlpBlock_0/", name) for name in tensors)


def recognise_pre_linen(weights: Weights) -> float:
    """vision_transformer's published names, from before Linen."""
    tensors = simplify_names(weights)
    plain = "embedding/kernel" in tensors and "Transformer/posembed_input/pos_embedding" in tensors
    return 1.0 if plain and not is_linen(tensors) else 0.0


def recognise_big_vision(weights: Weights) -> float:
    """big_vision's names, and vision_transformer's since Linen."""
    tensors = simplify_names(weights)
    return 1.0 if "embedding/kernel" in tensors and is_linen(tensors) else 0.0


FIXED = (
    "distillation_token",
    "registers",
    "positions",
    "position_placement",
    "patch_norm",
    "rotary",
    "patch_bias",
    "embed_norm",
    "head_bias",
    "final_norm",
)
"""Settings with only one possible value in the authors' format."""


def explain_unwritable(config: ViTConfig) -> str | None:
    """Say what the authors' format can't express, if anything."""
    unlike = explain_not_plain(config, FIXED, "the format")
    if unlike:
        return unlike
    if config.block != BlockConfig(activation=config.block.activation):
        return "its blocks are not the paper's (norms, biases, gates or scales differ)"
    if config.stem.kind == "conv":
        return "its stem is of another kind"
    if config.class_token and config.positioned_tokens != "all":
        return "its [class] token has no position"
    if config.pool not in ("class", "mean"):
        return f"it pools by {config.pool!r}"
    return None


FAMILY = Family(
    "google",
    "google-research/vision_transformer npz",
    recognise_pre_linen,
    interpret,
    table,
    VARIANTS,
    explain_unwritable,
    container="npz",
)
BIG_VISION_FAMILY = Family(
    "big_vision",
    "google-research/big_vision npz, vision_transformer since Linen",
    recognise_big_vision,
    interpret,
    lambda config: table(config, linen=True),
    VARIANTS,
)
