"""The sequence of tokens in a ViT: which tokens there are, and which of them represent the image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.insight.attention_weights import compute_weights
from vitreous.model.convnet import ConvNet
from vitreous.model.kinds import name_kind
from vitreous.model.swin import Swin
from vitreous.model.token_merging import Merging
from vitreous.model.vit import ViT
from vitreous.shapes import Float


def require_vit(model: nn.Module, what: str = "attention") -> ViT:
    """Return the model if it is a ViT whose tokens keep their positions.

    Raises:
        ConfigError: it is something else; the message suggests what can be shown instead.
    """
    if isinstance(model, ViT):
        return model
    if isinstance(model, Merging):
        raise ConfigError(f"merged tokens have no place in the image, so {what} can't be shown; look into its .model")
    if isinstance(model, ConvNet):
        raise ConfigError(f"{name_kind(model.config.KIND)} has no {what}; use grad-cam or activation")
    if isinstance(model, Swin):
        raise ConfigError(
            f"a Swin Transformer attends within windows and merges patches between stages, so it has no {what} over all "
            "patches and layers; see vitreous.insight.windows, or use attention, gradient, relevance, grad-cam or activation"
        )
    raise ConfigError(f"{what} needs a Vision Transformer, but this is a {type(model).__name__}")


def count_tokens(model: ViT) -> int:
    """Return the number of tokens at the model's current resolution."""
    rows, cols = model.grid
    return rows * cols + model.config.prefix


def compute_readout(model: ViT, tokens: Float[Tensor, "batch token2 dim"]) -> Float[Tensor, "batch token"]:
    """Return each token's share in the image's representation, 0 to 1, adding up to 1; `tokens` are the pooled ones.

    class: all of it is [class]'s, or half and half with the distillation token, whose heads are averaged. mean: equal
    shares for all patches. class+mean: half and half; [class] of several blocks counts as often as it occurs. max: the
    share of the features whose maximum a patch holds. map: the pooling's own attention, mean over its heads.
    """
    prefix, kind, earlier = model.config.prefix, model.config.pool, model.config.pool_layers - 1
    tokens = tokens[:, : tokens.shape[1] - earlier]
    count = tokens.shape[1]
    first = F.one_hot(torch.zeros(len(tokens), dtype=torch.long, device=tokens.device), count).to(tokens.dtype)
    if kind == "class":
        return (first + first.roll(1, dims=1)) / 2 if model.config.distillation_token else first
    front = 0 if model.config.pool_prefix and kind != "class+mean" else prefix
    patches = tokens[:, front:]
    if kind == "max":
        share = F.one_hot(patches.argmax(dim=1), count - front).to(tokens.dtype).mean(dim=1)
    elif model.pool.attention is not None:
        share = compute_weights(model.pool.attention.compute_heads(patches)).mean(dim=1)[:, 0]
    else:
        share = torch.full_like(patches[..., 0], 1 / (count - front))
    share = F.pad(share, (front, 0))
    return ((1 + earlier) * first + share) / (2 + earlier) if kind == "class+mean" else share
