"""Parameters, operations and memory of a ViT in closed form: no torch, no model."""

from vitreous.model.config import ViTConfig


def parameters(config: ViTConfig) -> int:
    """Return the exact number of learned values."""
    width, hidden = config.width, config.mlp
    patch = config.channels * config.patch[0] * config.patch[1]
    embed = (patch + 1) * width + (width if config.class_token else 0)
    positions = config.tokens * width if config.positions == "learned" else 0
    attention = 4 * (width + 1) * width
    mlp = (width + 1) * hidden + (hidden + 1) * width
    block = attention + mlp + 2 * 2 * width
    pre_logits = (width + 1) * width if config.pre_logits else 0
    head = (width + 1) * config.classes
    return embed + positions + config.depth * block + 2 * width + pre_logits + head


def flops(config: ViTConfig) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a matrix product."""
    tokens, width = config.tokens, config.width
    patch = config.channels * config.patch[0] * config.patch[1]
    embed = config.grid.rows * config.grid.cols * patch * width
    block = tokens * (4 * width * width + 2 * width * config.mlp) + 2 * tokens * tokens * width
    head = width * config.classes + (width * width if config.pre_logits else 0)
    return 2 * (embed + config.depth * block + head)


def activation_bytes(config: ViTConfig, batch: int, *, training: bool, bytes_each: int = 4) -> int:
    """Estimate the peak of the activations, in bytes; fused attention keeps no token x token matrix.

    Kept for the backward pass of a block: two norms' inputs and outputs, qkv, attention's output, the two branches and
    the MLP's hidden layer before and after the GELU.
    """
    block = config.tokens * (10 * config.width + 2 * config.mlp) * bytes_each
    stream = config.tokens * config.width * bytes_each
    kept = config.depth * (stream if config.recompute else block) + block if training else 2 * block
    image = config.channels * config.image[0] * config.image[1] * 4
    return batch * (kept + 2 * stream + 2 * image)
