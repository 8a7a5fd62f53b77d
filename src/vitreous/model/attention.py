"""Multi-head self-attention (2010.11929, appendix A), with the fused kernel."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.config import ViTConfig
from vitreous.model.layers import build_norm
from vitreous.model.parameters import ZEROS, Dense
from vitreous.model.positions.offset_bias import OffsetBias, build_relative
from vitreous.model.positions.relative import Relative
from vitreous.model.positions.rotary import Angles, MixedRotary, rotate
from vitreous.shapes import Bool, Float, Size

SHORT = {torch.bfloat16: 256, torch.float32: 600}
"""Tokens up to which plain products are faster than torch's fused kernel on a CPU, by precision; see `attend`."""


class Places(NamedTuple):
    """An attention layer's information about the tokens' positions."""

    angles: Angles | None = None
    """Angles of rotary positions."""
    relative: Relative | OffsetBias | None = None
    """Relative positions shared by all layers."""
    bias: Float[Tensor, "#batch 1 query key"] | None = None
    """What is added to the logits of every layer, if a query may not attend to all tokens; see `build_bias`."""
    grid: Size | None = None
    """Rows and columns of the patches."""


NOWHERE = Places()


class Heads(NamedTuple):
    """The input of the kernel: q, k and v after norms and rotation, and the bias that is added to the logits."""

    q: Float[Tensor, "batch head query head_dim"]
    k: Float[Tensor, "batch head key head_dim"]
    v: Float[Tensor, "batch head key head_dim"]
    bias: Float[Tensor, "#batch #head query key"] | None


class Attention(nn.Module):
    """Self-attention over a sequence; one linear map produces q, k and v, in that order."""

    roles: ClassVar = {"q_bias": ZEROS, "v_bias": ZEROS}

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, inner, made = config.width, config.attention_width, config.block
        self.heads, self.rotary_kind = config.heads, config.rotary.kind
        self.qkv = Dense(width, 3 * inner, bias=made.qkv_bias == "all", stacked=3)
        if made.qkv_bias == "no-key":
            self.q_bias, self.v_bias = nn.Parameter(torch.empty(inner)), nn.Parameter(torch.empty(inner))
        self.no_key_bias = made.qkv_bias == "no-key"
        self.q_norm = build_norm(config, config.per_head) if made.qk_norm else nn.Identity()
        self.k_norm = build_norm(config, config.per_head) if made.qk_norm else nn.Identity()
        self.relative = build_relative(config) if config.position_placement != "shared" else None
        self.rotary = MixedRotary(config) if config.rotary.kind == "mixed" else None
        self.norm = build_norm(config, inner) if made.attention_inner_norm else nn.Identity()
        self.out = Dense(inner, width, bias=made.biases)

    def forward(
        self, tokens: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token dim"]:
        """Let every token attend to all tokens (equations 5 to 8)."""
        return self.out(self.gather(tokens, places))

    def gather(
        self, tokens: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token inner"]:
        """Return the heads' outputs side by side, which `out` mixes (equation 8)."""
        return self.concatenate(self.attend(self.compute_heads(self.project(tokens), places)))

    def attend(self, heads: Heads) -> Float[Tensor, "batch head query head_dim"]:
        """As `attend`; an engine puts its own way here."""
        return attend(heads)

    def mix(self, gathered: Float[Tensor, "batch head token head_dim"]) -> Float[Tensor, "batch token dim"]:
        """Mix the heads' outputs (equation 8)."""
        return self.out(self.concatenate(gathered))

    def concatenate(self, gathered: Float[Tensor, "batch head token head_dim"]) -> Float[Tensor, "batch token inner"]:
        """Put the heads' outputs side by side."""
        return self.norm(gathered.transpose(1, 2).flatten(2))

    def project(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim3"]:
        """Map tokens to q, k and v side by side."""
        if not self.no_key_bias:
            return self.qkv(tokens)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return self.qkv(tokens) + bias.to(tokens.dtype)

    def compute_heads(self, projected: Float[Tensor, "batch token dim3"], places: Places) -> Heads:
        """Return the kernel's input: q and k normalised and rotated, and the bias of relative positions."""
        q, k, v = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        biases, bias = self.relative or places.relative, places.bias
        if bias is None and biases is not None:
            bias = biases(q)
        angles = places.angles if self.rotary is None else self.rotary()
        if angles is not None:
            q, k = (rotate(part, angles, self.rotary_kind) for part in (q, k))
        return Heads(q, k, v, bias)


def build_bias(allowed: Bool[Tensor, "*batch query key"]) -> Float[Tensor, "#batch 1 query key"]:
    """Return minus infinity where a query may not attend to a token, of each sequence its own or one for all; else zero."""
    allowed = allowed.view(-1, 1, *allowed.shape[-2:])
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -torch.inf)


def attend(heads: Heads) -> Float[Tensor, "batch head query head_dim"]:
    """Return softmax(q k' / sqrt(head_dim) + bias) v (equations 6 and 7), by the fused kernel.

    There are two exceptions. Short sequences on a CPU where `prefers_products` says so, since a matrix of token x token
    weights is small. And a bias while the model is exported: torch's choice of kernel, and so the layout of its output, depends on whether the
    bias is learned, which the ONNX exporter finds out too late.
    """
    q, k, v, bias = heads
    if bias is not None and torch.compiler.is_exporting():
        return attention_weights(q, k, bias) @ v
    if q.device.type == "cpu" and prefers_products(q, q.shape[2]):
        with torch.autocast("cpu", enabled=False):  # it would widen the weights to float32 and back, for no gain
            return attention_weights(q, k, bias) @ v
    return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))


def prefers_products(q: Float[Tensor, "..."], tokens: int) -> bool:
    """Return whether attention to so many tokens takes less time on a CPU by plain products than by torch's fused kernel.

    In bfloat16, and in float32 where its products go to oneDNN (`tune_cpu`), the kernel prepares each of its small products anew, so that
    its backward pass takes 2 to 25 times as long as plain products. With AMX its forward pass alone is the faster one in bfloat16,
    1.2 to 2.5 times (benchmarks/attention.py). During compilation neither is asked for: the tracer can't follow the question.
    """
    if tokens > SHORT.get(q.dtype, 0):
        return False
    if torch.compiler.is_compiling():
        return q.dtype == torch.bfloat16
    if q.dtype == torch.float32:
        return torch.get_float32_matmul_precision() == "medium"
    return q.requires_grad or not torch.cpu.get_capabilities().get("amx_bf16", False)


def attention_weights(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    bias: Float[Tensor, "#batch #head query key"] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """Return softmax(q k' / sqrt(head_dim) + bias), which the fused kernel doesn't return; rows sum to 1."""
    logits = (q * q.shape[-1] ** -0.5) @ k.mT
    return torch.softmax(logits if bias is None else logits + bias.to(logits.dtype), dim=-1)
