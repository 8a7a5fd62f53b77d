"""Multi-head self-attention (2010.11929, appendix A), with the fused kernel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SHORT = 256
"""Tokens up to which plain products beat torch's fused kernel in bfloat16 on a CPU; see `attend`."""


class Attention(nn.Module):
    """Self-attention over a sequence; q, k and v come from one linear map, in that order.

    Args:
        width: width of the residual stream (the paper's D); a multiple of `heads`.
        heads: attention heads (the paper's k).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Let every token gather from all tokens (equations 5 to 8)."""
        q, k, v = self.queries_keys_values(self.qkv(tokens))
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))

    def queries_keys_values(
        self, projected: Float[Tensor, "batch token dim3"]
    ) -> tuple[
        Float[Tensor, "batch head token head_dim"],
        Float[Tensor, "batch head token head_dim"],
        Float[Tensor, "batch head token head_dim"],
    ]:
        """Split the output of `qkv` into the q, k and v that enter the kernel."""
        q, k, v = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v


def attend(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    v: Float[Tensor, "batch head key head_dim"],
) -> Float[Tensor, "batch head query head_dim"]:
    """Return softmax(q k' / sqrt(head_dim)) v (equations 6 and 7), by the fused kernel.

    Except for short sequences in bfloat16 on a CPU: there the fused kernel's backward pass takes 2.4 to 9 times as long
    as plain products (benchmarks/attention.py), and a matrix of token x token weights is small.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= SHORT:
        with torch.autocast("cpu", enabled=False):  # which would widen the weights to float32 and back, to no gain
            return attention_weights(q, k) @ v
    return F.scaled_dot_product_attention(q, k, v)


def attention_weights(
    q: Float[Tensor, "batch head query head_dim"], k: Float[Tensor, "batch head key head_dim"]
) -> Float[Tensor, "batch head query key"]:
    """Return softmax(q k' / sqrt(head_dim)): what the fused kernel never shows. For looking inside; rows sum to 1."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)
