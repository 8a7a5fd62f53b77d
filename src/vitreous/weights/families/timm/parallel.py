"""timm's ViTs with attention and MLP side by side (timm's ParallelScalingBlock): `vit_*_xp_*`, `vit_pwee_*`.

One layer computes the MLP's hidden values, q, k and v; one scale applies to both branches.
"""

from vitreous.errors import CheckpointError
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import Family, ForeignModel, find_heads, get_shape
from vitreous.weights.families.timm import vit
from vitreous.weights.families.timm.arguments import check_arguments, read_arguments, read_classes, read_details
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.families.timm.vit import explain_pooling, find_pool, name_architecture, settle_positions
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, count_blocks, dense_rules

BLOCK = "blocks.{i}"
MARKS = ("patch_embed.proj.weight", "blocks.0.in_norm.weight", "blocks.0.in_proj.weight")


def table(config: ViTConfig) -> Table:
    """Return the rules: in_proj is the MLP's first layer above q, k and v."""
    whole, mlp = config.mlp_width + 3 * config.attention_width, config.mlp_width
    rules = [rule for rule in vit.table(config) if not rule.ours.startswith("blocks.")]
    for suffix in ("weight", "bias"):
        entry = (f"{BLOCK}.in_proj.{suffix}",)
        rules += [
            Rule(f"{BLOCK}.mlp.expand.{suffix}", entry, part=(0, mlp, whole)),
            Rule(f"{BLOCK}.attention.qkv.{suffix}", entry, part=(mlp, whole, whole)),
        ]
    return [
        *rules,
        Rule(f"{BLOCK}.mlp.expand.bias", (f"{BLOCK}.mlp_bias",)),
        *dense_rules(f"{BLOCK}.attention_norm", f"{BLOCK}.in_norm"),
        *dense_rules(f"{BLOCK}.attention.q_norm", f"{BLOCK}.q_norm"),
        *dense_rules(f"{BLOCK}.attention.k_norm", f"{BLOCK}.k_norm"),
        *dense_rules(f"{BLOCK}.attention.out", f"{BLOCK}.attn_out_proj"),
        *dense_rules(f"{BLOCK}.mlp.contract", f"{BLOCK}.mlp_out_proj"),
        Rule(f"{BLOCK}.attention_scale.scale", (f"{BLOCK}.ls.gamma",)),
        Rule(f"{BLOCK}.mlp_scale.scale", (f"{BLOCK}.ls.gamma",)),
    ]


def recognise(weights: Weights) -> float:
    """timm's names with the joint layer; certain if a config.json names an architecture."""
    tensors = dict(weights.tensors)
    if not all(name in tensors for name in MARKS):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, the rest from config.json or from the name."""
    tensors, where = dict(weights.tensors), str(weights.path)
    if "blocks.0.out_proj.weight" in tensors or "blocks.0.lambda_q1" in tensors:
        raise CheckpointError(
            f"{where}: timm's parallel blocks with one output layer or differential attention aren't supported"
        )
    width, channels, rows, cols = get_shape(tensors, MARKS[0], where)
    architecture = name_architecture(weights, name)
    details, images = vit.parse_architecture(architecture)
    given = read_arguments(weights)
    details |= read_details(given, where)
    told = "blocks.0.q_norm.weight" in tensors
    said = width // tensors["blocks.0.q_norm.weight"].shape[0] if told else details.get("heads")
    heads, usual = find_heads(weights, width, said)
    config = ViTConfig(
        image=(224 // rows * rows, 224 // cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, "blocks.0.mlp_out_proj.weight", where)[1],
        classes=vit.get_size(tensors, "head.weight", 0),
        pool=find_pool(tensors, weights),
        pool_prefix=vit.find_pool_prefix(tensors, weights, details),
        pool_mlp_width=vit.get_size(tensors, "attn_pool.mlp.fc2.weight", 1),
        class_token="cls_token" in tensors,
        registers=vit.get_size(tensors, "reg_token", 1),
        patch_bias="patch_embed.proj.bias" in tensors,
        embed_norm="norm_pre.weight" in tensors,
        final_norm=vit.find_norm(tensors),
        norm_eps=details.get("eps", 1e-6),
        block=BlockConfig(
            norm="layer" if "blocks.0.in_norm.bias" in tensors else "rms",
            activation=details.get("act", "gelu"),
            qkv_bias="all" if "blocks.0.in_proj.bias" in tensors else "none",
            biases="blocks.0.attn_out_proj.bias" in tensors,
            qk_norm=told,
            layer_scale=1e-5 if "blocks.0.ls.gamma" in tensors else 0.0,
            parallel=True,
        ),
    )
    config, squared = settle_positions(config, tensors, weights)
    assumed = (*usual, *squared, *check_arguments(config, given, where), *explain_pooling(config, weights))
    assumed += () if architecture else ("activation gelu, epsilon 1e-6, mean and deviation 0.5",)
    images = read_vit_transform(weights, config, images)
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, read_classes(weights, config.classes))


FAMILY = Family("timm-parallel", "timm (vision_transformer with parallel blocks)", recognise, interpret, table)
