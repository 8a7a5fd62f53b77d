"""From the encoder's outputs to the image's representation, and to logits (2010.11929, equation 4, section 3.2)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.attention import Heads
from vitreous.model.config import ViTConfig
from vitreous.model.encoder import MLP
from vitreous.model.norms import norm
from vitreous.model.parameters import TABLE, Dense


class Pool(nn.Module):
    """Represent the image by the [class] token's output, by the patches' outputs, or by both."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind, self.prefix = config.pool, config.prefix
        self.attention = AttentionPool(config) if config.pool == "map" else None

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch features"]:
        """Pool a normalised sequence."""
        if self.attention is not None:
            return self.attention(tokens[:, self.prefix :])
        if self.kind == "class":
            return tokens[:, 0]
        patches = tokens[:, self.prefix :]
        if self.kind == "max":
            return patches.amax(dim=1)
        mean = patches.mean(dim=1)
        return torch.cat([tokens[:, 0], mean], dim=1) if self.kind == "class+mean" else mean


class AttentionPool(nn.Module):
    """Multi-head attention pooling by one learned query, then an MLP with a residual (2106.04560, section 3.2)."""

    roles: ClassVar = {"probe": TABLE}

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.probe = nn.Parameter(torch.empty(width))
        self.q, self.kv = Dense(width, width, in_block=False), Dense(width, 2 * width, stacked=2, in_block=False)
        self.out = Dense(width, width, in_block=False)
        self.norm = norm(config)
        self.mlp = MLP(config, config.pool_mlp or None, in_block=False)

    def forward(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch dim"]:
        """Gather from all patches."""
        q, k, v, _ = self.heads_of(patches)
        return self.mixed(F.scaled_dot_product_attention(q, k, v))

    def heads_of(self, patches: Float[Tensor, "batch patch dim"]) -> Heads:
        """Return what enters the kernel."""
        q = self.q(self.probe.to(patches.dtype).expand(patches.shape[0], 1, -1))
        k, v = self.kv(patches).chunk(2, dim=2)
        return Heads(*(part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)), None)

    def mixed(self, gathered: Float[Tensor, "batch head 1 head_dim"]) -> Float[Tensor, "batch dim"]:
        """Mix what the heads gathered, and add what the MLP makes of it."""
        pooled = self.out(gathered.transpose(1, 2).flatten(2))[:, 0]
        return pooled + self.mlp(self.norm(pooled))


class PreLogits(nn.Sequential):
    """The hidden tanh layer of the paper's pre-training head."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.Tanh())


def head(config: ViTConfig) -> nn.Module:
    """Return the linear layer from features to logits; a model without classes has none."""
    return nn.Linear(config.features, config.classes, bias=config.head_bias) if config.classes else nn.Identity()
