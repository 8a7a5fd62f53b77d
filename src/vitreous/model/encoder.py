"""The Transformer encoder (2010.11929, equations 2 and 3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitreous.model.attention import Attention
from vitreous.model.config import ViTConfig


class MLP(nn.Module):
    """Two dense layers with a GELU between, dropout after each."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Transform every token by itself."""
        return self.dropout(self.contract(self.dropout(self.act(self.expand(tokens)))))


class DropPath(nn.Module):
    """Stochastic depth (1603.09382): drop a branch for whole examples, and scale the others up by 1 / kept share."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Return the branch, or zeros in its place."""
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        return branch * torch.empty_like(branch[:, :1, :1]).bernoulli_(kept) / kept


class Block(nn.Module):
    """One encoder block, pre-norm: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config.width, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.mlp_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.mlp, config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, z: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """z' = MSA(LN(z)) + z, then z = MLP(LN(z')) + z'."""
        z = z + self.drop_path(self.dropout(self.attention(self.attention_norm(z))))
        return z + self.drop_path(self.mlp(self.mlp_norm(z)))


def blocks(config: ViTConfig) -> nn.ModuleList:
    """Build the stack; the drop-path rate rises linearly from 0 at the first block to the configured one at the last."""
    last = max(1, config.depth - 1)
    return nn.ModuleList(Block(config, config.drop_path * index / last) for index in range(config.depth))
