"""From the encoder's outputs to the image's representation, and to logits (2010.11929, equation 4, section 3.2)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.attention import Heads
from vitreous.model.config import ViTConfig
from vitreous.model.encoder import MLP
from vitreous.model.layers import build_norm
from vitreous.model.parameters import FILTER, HEAD, TABLE, Dense, declare


class Pool(nn.Module):
    """Represent the image by the [class] token's output, by the patches' outputs, or by both.

    If [class] tokens of earlier blocks are used, they are at the end of the sequence, the earliest first.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind, self.prefix = config.pool, config.prefix
        self.front, self.earlier = (0 if config.pool_prefix else config.prefix), config.pool_layers - 1
        self.attention = AttentionPool(config) if config.pool == "map" else None

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch features"]:
        """Pool a normalised sequence."""
        if self.attention is not None:
            return self.attention(tokens[:, self.front :])
        if self.kind == "class":
            return tokens[:, 0]
        if self.kind == "class+mean":
            end = tokens.shape[1] - self.earlier
            mean = tokens[:, self.prefix : end].mean(dim=1)
            return torch.cat([tokens[:, end:].flatten(1), tokens[:, 0], mean], dim=1)
        pooled = tokens[:, self.front :]
        return pooled.amax(dim=1) if self.kind == "max" else pooled.mean(dim=1)


class AttentionPool(nn.Module):
    """Multi-head attention pooling by one learned query, then an MLP with a residual (2106.04560, section 3.2).

    Plain (AIM, 2401.08541): the query is used as it is, and no MLP follows.
    """

    roles: ClassVar = {"probe": TABLE}

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.pool_heads or config.heads
        plain = config.pool_plain
        self.probe = nn.Parameter(torch.empty(width))
        self.q = nn.Identity() if plain else Dense(width, width, in_block=False)
        biased = not plain or config.block.qkv_bias == "all"
        self.kv = Dense(width, 2 * width, bias=biased, stacked=2, in_block=False)
        self.out = Dense(width, width, in_block=False)
        self.norm = nn.Identity() if plain else build_norm(config)
        self.mlp = None if plain else MLP(config, config.pool_mlp_width or None, in_block=False)

    def forward(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch dim"]:
        """Attend to all patches."""
        q, k, v, _ = self.heads_of(patches)
        return self.mixed(F.scaled_dot_product_attention(q, k, v))

    def heads_of(self, patches: Float[Tensor, "batch patch dim"]) -> Heads:
        """Return the kernel's input."""
        q = self.q(self.probe.to(patches.dtype).expand(patches.shape[0], 1, -1))
        k, v = self.kv(patches).chunk(2, dim=2)
        return Heads(*(part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)), None)

    def mixed(self, gathered: Float[Tensor, "batch head 1 head_dim"]) -> Float[Tensor, "batch dim"]:
        """Mix the heads' outputs, and add the output of the MLP."""
        pooled = self.out(gathered.transpose(1, 2).flatten(2))[:, 0]
        return pooled if self.mlp is None else pooled + self.mlp(self.norm(pooled))


class PreLogits(nn.Sequential):
    """The hidden tanh layer of the paper's pre-training head."""

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__(declare(nn.Linear(width, hidden or width), weight=FILTER), nn.Tanh())


def build_head(config: ViTConfig) -> nn.Module:
    """Return the linear layer from features to logits; the identity for a model without classes."""
    if not config.classes:
        return nn.Identity()
    return declare(nn.Linear(config.head_inputs, config.classes, bias=config.head_bias), weight=HEAD)
