"""Parameters, operations and memory of Vision Transformers in closed form: no torch, no model."""

import math
from itertools import pairwise

from vitreous.model.config import ViTConfig
from vitreous.model.count_resnet import count_convolved_values, count_stem_flops, count_stem_parameters
from vitreous.shapes import Size


def count_vit_parameters(config: ViTConfig) -> int:
    """Return the exact number of learned values."""
    width, made = config.width, config.block
    embed = (math.prod(config.patch_shape) + config.patch_bias + config.prefix) * width
    embed += {"none": 0, "after": 1, "both": 1}[config.patch_norm] * count_norm(config, width)
    embed += (config.patch_norm == "both") * count_norm(config, math.prod(config.patch_shape))
    embed += count_stem_parameters(config.stem, config.channels) + config.embed_norm * count_norm(config, width)
    last = {"tokens": width, "pooled": config.features, "none": 0}[config.final_norm]
    features = config.features
    pre_logits = (features + 1) * config.head_inputs if config.pre_logits else 0
    head = (config.head_inputs + config.head_bias) * config.classes * (1 + config.distillation_token)
    pool = _count_pool(config) if config.pool == "map" else 0
    norms = (1 if made.parallel else 2) * count_norm(config, width)
    block = count_attention(config) + count_mlp(config, config.mlp_width) + norms + 2 * width * bool(made.layer_scale)
    return embed + count_positions(config) + config.depth * block + count_norm(config, last) + pool + pre_logits + head


def count_norm(config: ViTConfig, width: int) -> int:
    """Return the learned values of a norm over vectors of this width."""
    return width * (2 if config.block.norm == "layer" else 1)


def count_attention(config: ViTConfig) -> int:
    """Return the learned values of a block's attention, without its positions."""
    width, made, inner = config.width, config.block, config.attention_width
    biases = {"all": 3, "no-key": 2, "none": 0}[made.qkv_bias] * inner + made.biases * width
    norms = 2 * made.qk_norm * count_norm(config, config.per_head) + made.attention_inner_norm * count_norm(
        config, inner
    )
    return 4 * width * inner + biases + norms


def count_mlp(config: ViTConfig, hidden: int) -> int:
    """Return the learned values of an MLP with this hidden width."""
    width, made = config.width, config.block
    expand = hidden * (2 if made.mlp == "swiglu" else 1)
    return (
        (width + made.biases) * expand
        + (hidden + made.biases) * width
        + made.mlp_inner_norm * count_norm(config, hidden)
    )


def _count_pool(config: ViTConfig) -> int:
    width = config.width
    if config.pool_plain:
        return width + (3 * width + 1) * width + 2 * width * (config.block.qkv_bias == "all")
    return (
        width
        + 4 * (width + 1) * width
        + count_norm(config, width)
        + count_mlp(config, config.pool_mlp_width or config.mlp_width)
    )


def count_positions(config: ViTConfig) -> int:
    """Return the learned values of all positions."""
    rows, cols = config.grid
    layers = config.depth if config.position_placement == "layers" else 1
    added = {
        "learned": (rows * cols + config.placed_prefix) * config.width,
        "learned2d": config.placed_prefix * config.width + (rows + cols) * (config.width // 2),
    }
    if config.positions in added:
        mixed = config.depth * config.attention_width if config.rotary.kind == "mixed" else 0
        return layers * added[config.positions] + mixed
    layers = 1 if config.position_placement == "shared" else config.depth
    offsets = {
        "relative": (2 * config.tokens - 1) * config.per_head,
        "bias": ((2 * rows - 1) * (2 * cols - 1) + (3 if config.prefix else 0)) * config.heads,
        "bias-log": 3 * config.position_mlp_width + (config.position_mlp_width + 1) * config.heads,
        "bias-log-swin": (3 + config.heads) * config.position_mlp_width,
    }
    mixed = config.depth * config.attention_width if config.rotary.kind == "mixed" else 0
    return layers * offsets.get(config.positions, 0) + mixed


def count_merged_patches(patches: int, each: int, blocks: int) -> int:
    """Return how many patches are left of so many after blocks that merge `each` pairs, or half of what there is.

    >>> [count_merged_patches(196, each, 12) for each in (0, 8, 16, 98)]
    [196, 100, 10, 1]
    """
    for _ in range(blocks):
        patches -= min(each, patches // 2)
    return patches


def count_vit_flops(config: ViTConfig, merge: int = 0, seen: int | None = None) -> int:
    """Return the operations of one image's forward pass; `merge` pairs of patches are merged in each block, of which the first
    sees only `seen` patches, if that is given."""
    width = config.width
    cells = config.grid.rows * config.grid.cols
    patch = math.prod(config.patch_shape)
    mlp = (3 if config.block.mlp == "swiglu" else 2) * width
    left = [count_merged_patches(cells if seen is None else seen, merge, index) for index in range(config.depth + 1)]
    blocks = sum(_count_block(config, *pair) for pair in pairwise(count + config.prefix for count in left))
    pooled = left[-1] + (config.prefix if config.pool_prefix else 0)
    pool = 2 * width * width * (1 + pooled) + 2 * pooled * width + mlp * (config.pool_mlp_width or config.mlp_width)
    if config.pool_plain:
        pool -= width * width + mlp * (config.pool_mlp_width or config.mlp_width)
    head = config.head_inputs * config.classes * (1 + config.distillation_token)
    pre_logits = config.features * config.head_inputs if config.pre_logits else 0
    stem = count_stem_flops(config.stem, config.channels, Size(*config.image))
    pool *= config.pool == "map"
    rows, cols = config.grid
    offsets = (2 * rows - 1) * (2 * cols - 1) * config.position_mlp_width * (2 + config.heads)
    positions = config.depth * offsets * config.positions.startswith("bias-log")
    return stem + 2 * (cells * patch * width + blocks + positions + pool + pre_logits + head)


def _count_block(config: ViTConfig, tokens: int, left: int) -> int:
    """Return the multiply-adds of a block whose attention sees `tokens`, and whose MLP sees those that are `left`."""
    width, inner = config.width, config.attention_width
    mlp = (3 if config.block.mlp == "swiglu" else 2) * width * config.mlp_width
    relative = tokens * (2 * tokens - 1) * inner if config.positions == "relative" else 0
    # Tokens that a query attends to in two blocks: axial ones alternate between rows and columns.
    seen, count = (sum(config.grid), 1) if config.block.attention == "axial" else (tokens, 2)
    patches = tokens - config.prefix
    likeness = patches // 2 * ((patches + 1) // 2) * config.per_head if left < tokens else 0
    return tokens * 4 * width * inner + left * mlp + count * tokens * seen * inner + relative + likeness


def count_kept_values(config: ViTConfig, *, training: bool, recompute: bool = False) -> int:
    """Estimate the values that are held at once for one image: see `count.estimate_activation_bytes`."""
    block = config.tokens * (10 * config.width + 2 * config.mlp_width)
    stream = config.tokens * config.width
    kept = config.depth * (stream if recompute else block) + block if training else 2 * block
    whole, largest = count_convolved_values(config.stem, Size(*config.image))
    return kept + 2 * stream + 2 * (whole if training else largest)
