"""Google's npz files: vision_transformer (ViT, AugReg) and big_vision (ViT, FlexiViT, SigLIP's image tower).

Both are flax: dense kernels lie (in, out), attention kernels carry their heads as an axis, and GELU is flax's default, the
tanh approximation. (timm reads the same files into a model with the exact GELU: --as timm does the same.)
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.checkpoints.family import HALF, Family, Reading, shape_of, square
from vitreous.checkpoints.mapping import SAME, TRANSPOSED, Layout, Rule, Table, depth_of, leading
from vitreous.checkpoints.weights import Weights
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig

PREFIXES = ("opt/target/", "params/img/", "params/", "img/")
LINEN = ("MultiHeadDotProductAttention_1", "LayerNorm_0", "LayerNorm_2", "MlpBlock_3")
BIG_VISION = ("MultiHeadDotProductAttention_0", "LayerNorm_0", "LayerNorm_1", "MlpBlock_0")
VARIANTS = {"timm": "exact GELU, as timm computes the same files", "flax": "GELU by its tanh approximation, as trained"}


def table(config: ViTConfig, big_vision: bool = False) -> Table:
    """Return the rules of either naming."""
    attention, first, second, mlp = BIG_VISION if big_vision else LINEN
    block = "Transformer/encoderblock_{i}"
    rules = [
        Rule("patches.embed.weight", ("embedding/kernel",), flax_convolution(config)),
        Rule("patches.embed.bias", ("embedding/bias",)),
        Rule("class_token", ("cls",), leading(2)),
        Rule(
            "positions.embedding",
            ("pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding",),
            leading(1),
        ),
        *flax_norm("blocks.{i}.attention_norm", f"{block}/{first}"),
        *flax_attention("blocks.{i}.attention", f"{block}/{attention}", config.heads),
        *flax_norm("blocks.{i}.mlp_norm", f"{block}/{second}"),
        *flax_mlp("blocks.{i}.mlp", f"{block}/{mlp}"),
        *flax_norm("norm", "Transformer/encoder_norm"),
        *flax_dense("pre_logits.0", "pre_logits"),
        *flax_dense("head", "head"),
    ]
    if big_vision:
        pool = "MAPHead_0"
        rules += [
            Rule("pool.attention.probe", (f"{pool}/probe",), leading(2)),
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


def heads_in(heads: int) -> Layout:
    """(dim, head, head_dim) for our (head x head_dim, dim)."""
    return Layout(lambda tensor: tensor.flatten(1).mT, lambda tensor: tensor.mT.unflatten(1, (heads, -1)))


def heads_bias(heads: int) -> Layout:
    """(head, head_dim) for our (head x head_dim)."""
    return Layout(lambda tensor: tensor.flatten(), lambda tensor: tensor.unflatten(0, (heads, -1)))


def heads_out(heads: int) -> Layout:
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
        Rule(f"{ours}.qkv.weight", tuple(f"{theirs}/{part}/kernel" for part in parts), heads_in(heads)),
        Rule(f"{ours}.qkv.bias", tuple(f"{theirs}/{part}/bias" for part in parts), heads_bias(heads)),
        Rule(f"{ours}.out.weight", (f"{theirs}/out/kernel",), heads_out(heads)),
        Rule(f"{ours}.out.bias", (f"{theirs}/out/bias",)),
    ]


def pool_attention(theirs: str, heads: int) -> list[Rule]:
    """Return the rules of attention pooling."""
    ours, pair = "pool.attention", ("key", "value")
    return [
        Rule(f"{ours}.q.weight", (f"{theirs}/query/kernel",), heads_in(heads)),
        Rule(f"{ours}.q.bias", (f"{theirs}/query/bias",), heads_bias(heads)),
        Rule(f"{ours}.kv.weight", tuple(f"{theirs}/{part}/kernel" for part in pair), heads_in(heads)),
        Rule(f"{ours}.kv.bias", tuple(f"{theirs}/{part}/bias" for part in pair), heads_bias(heads)),
        Rule(f"{ours}.out.weight", (f"{theirs}/out/kernel",), heads_out(heads)),
        Rule(f"{ours}.out.bias", (f"{theirs}/out/bias",)),
    ]


def plain_names(weights: Weights) -> dict[str, Tensor]:
    """Take off the optimizer's prefix, and take blocks apart that a scan stacked."""
    names = weights.tensors
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): tensor for name, tensor in names.items() if name.startswith(prefix)}
        if "embedding/kernel" in inside:
            names = inside
            break
    found = {}
    for name, tensor in names.items():
        if name.startswith("Transformer/encoderblock/"):
            rest = name.removeprefix("Transformer/encoderblock/")
            found |= {f"Transformer/encoderblock_{index}/{rest}": part for index, part in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def interpret(weights: Weights, name: str | None) -> Reading:
    """Read the architecture: npz files tell their heads, only GELU and the images' normalisation are defaults."""
    tensors, where = plain_names(weights), str(weights.path)
    rows, cols, channels, width = shape_of(tensors, "embedding/kernel", where)
    big_vision = is_big_vision(tensors)
    attention, _, _, mlp = BIG_VISION if big_vision else LINEN
    block = "Transformer/encoderblock_0"
    _, heads, _ = shape_of(tensors, f"{block}/{attention}/query/kernel", where)
    act = "gelu" if name == "timm" else "gelu-tanh"
    positions = next(tensor for key, tensor in tensors.items() if key.endswith("pos_embedding"))
    token = "cls" in tensors
    grid = square(positions.shape[1] - token, where) if positions.ndim == 3 else None
    image = (grid.rows * rows, grid.cols * cols) if grid else (rows, cols)
    config = ViTConfig(
        image=image,
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=depth_of(tensors, r"Transformer/encoderblock_(\d+)/"),
        heads=heads,
        mlp=shape_of(tensors, f"{block}/{mlp}/Dense_0/kernel", where)[1],
        classes=tensors["head/kernel"].shape[1] if "head/kernel" in tensors else 0,
        pool="map" if "MAPHead_0/probe" in tensors else ("class" if token else "mean"),
        class_token=token,
        pre_logits="pre_logits/kernel" in tensors,
        block=BlockConfig(act=act),
    )
    assumed = (f"activation {act} ({VARIANTS['timm' if name == 'timm' else 'flax']})", "mean and deviation 0.5")
    preprocess = PreprocessConfig(size=config.image, resize="squash", crop=1.0, interpolation="bilinear", **HALF)
    return Reading(config, preprocess, "linear-corners", tensors, assumed, ignored=(r"^opt/", r"^txt/"))


def is_big_vision(tensors: Mapping[str, Tensor]) -> bool:
    """Tell the two namings apart."""
    return any(re.match(r"Transformer/encoderblock_0/MlpBlock_0/", name) for name in tensors)


def recognise_linen(weights: Weights) -> float:
    """vision_transformer's names."""
    tensors = plain_names(weights)
    plain = "embedding/kernel" in tensors and "Transformer/posembed_input/pos_embedding" in tensors
    return 1.0 if plain and not is_big_vision(tensors) else 0.0


def recognise_big_vision(weights: Weights) -> float:
    """big_vision's names."""
    tensors = plain_names(weights)
    return 1.0 if "embedding/kernel" in tensors and is_big_vision(tensors) else 0.0


def unwritable(config: ViTConfig) -> str | None:
    """Say what the authors' format can't express, if anything."""
    plain = replace(ViTConfig(), block=BlockConfig(act=config.block.act, drop_path=config.block.drop_path))
    fixed = (
        "distillation",
        "registers",
        "positions",
        "positions_at",
        "rotary",
        "patch_bias",
        "embed_norm",
        "head_bias",
        "norm_at",
    )
    for field in fixed:
        if getattr(config, field) != getattr(plain, field):
            return f"{field} is {getattr(config, field)!r}; the format knows only {getattr(plain, field)!r}"
    if config.block != plain.block:
        return "its blocks are not the paper's (norms, biases, gates or scales differ)"
    if config.pool not in ("class", "mean"):
        return f"it pools by {config.pool!r}"
    return None


FAMILY = Family(
    "google",
    "google-research/vision_transformer npz",
    recognise_linen,
    interpret,
    table,
    VARIANTS,
    unwritable,
    container="npz",
)
BIG_VISION_FAMILY = Family(
    "big_vision",
    "google-research/big_vision npz",
    recognise_big_vision,
    interpret,
    lambda config: table(config, big_vision=True),
    VARIANTS,
)
