"""From the encoder's outputs to the image's representation, and to logits (2010.11929, equation 4, section 3.2)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.attention import Heads, attention_weights
from vitreous.model.config import ViTConfig
from vitreous.model.encoder import MLP
from vitreous.model.layers import build_norm
from vitreous.model.parameters import FILTER, HEAD, TABLE, Dense, declare
from vitreous.shapes import Float


class Pool(nn.Module):
    """Represent the image by the [class] token's output, by the patches' outputs, or by both.

    If [class] tokens of earlier blocks are used, they are at the end of the sequence, the earliest first.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind, self.prefix = config.pool, config.prefix
        self.front, self.earlier = (0 if config.pool_prefix else config.prefix), config.pool_layers - 1
        self.attention = AttentionPool(config) if config.pool == "map" else None

    def forward(
        self, tokens: Float[Tensor, "batch token dim"], sizes: Float[Tensor, "batch token 1"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Pool a normalised sequence; a token of several merged patches counts as often as `sizes` says."""
        if self.kind == "class":
            return tokens[:, 0]
        if self.kind == "class+mean":
            end = tokens.shape[1] - self.earlier
            mean = average(tokens[:, self.prefix : end], None if sizes is None else sizes[:, self.prefix : end])
            return torch.cat([tokens[:, end:].flatten(1), tokens[:, 0], mean], dim=1)
        pooled, sizes = tokens[:, self.front :], None if sizes is None else sizes[:, self.front :]
        if self.attention is not None:
            return self.attention(pooled) if sizes is None else self.attention(pooled, sizes)
        return pooled.amax(dim=1) if self.kind == "max" else average(pooled, sizes)


def average(
    tokens: Float[Tensor, "batch token dim"], sizes: Float[Tensor, "batch token 1"] | None
) -> Float[Tensor, "batch dim"]:
    """Return the mean of tokens, each counted as often as its size says."""
    return tokens.mean(dim=1) if sizes is None else (tokens * sizes).sum(dim=1) / sizes.sum(dim=1)


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

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], sizes: Float[Tensor, "batch patch 1"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Attend to all patches, to one of several merged ones as often as `sizes` says."""
        q, k, v, _ = self.compute_heads(patches)
        if sizes is None:
            return self.mix(F.scaled_dot_product_attention(q, k, v))
        return self.mix(attention_weights(q, k, sizes.log().mT[:, None]) @ v)

    def compute_heads(self, patches: Float[Tensor, "batch patch dim"]) -> Heads:
        """Return the kernel's input."""
        q = self.q(self.probe.to(patches.dtype).expand(patches.shape[0], 1, -1))
        k, v = self.kv(patches).chunk(2, dim=2)
        return Heads(*(part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)), None)

    def mix(self, gathered: Float[Tensor, "batch head 1 head_dim"]) -> Float[Tensor, "batch dim"]:
        """Mix the heads' outputs, and add the output of the MLP."""
        pooled = self.out(gathered.transpose(1, 2).flatten(2))[:, 0]
        return pooled if self.mlp is None else pooled + self.mlp(self.norm(pooled))


class PreLogits(nn.Sequential):
    """The hidden tanh layer of the paper's pre-training head."""

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__(declare(nn.Linear(width, hidden or width), weight=FILTER), nn.Tanh())


def build_head(config: ViTConfig) -> nn.Module:
    """Return the linear layer from features to logits; the identity for a model without classes."""
    return build_classifier(config.head_inputs, config.classes, config.head_bias)


def build_classifier(features: int, classes: int, bias: bool = True) -> nn.Module:
    """Return a linear layer from features to logits; the identity for no classes."""
    return declare(nn.Linear(features, classes, bias=bias), weight=HEAD) if classes else nn.Identity()
