"""How far and how widely each head looks (2010.11929, figure 7, right, and figure 11)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.insight.attention import watch_kernels
from vitreous.insight.attention_weights import iterate_chunks, iterate_rows
from vitreous.insight.tokens import require_vit
from vitreous.model.attention import Heads
from vitreous.model.vit import ViT
from vitreous.shapes import Float, Float64


@dataclass(frozen=True)
class AttentionDistance:
    """Means over all querying patches of all images; layers and heads counted from 0."""

    distance: Float64[Tensor, "layer head"]
    """Pixels between the centres of a querying patch and the patches that it attends to, weighted by attention.
    Prefix tokens ([class], distillation, registers) have no position: the weights on the patches are rescaled to sum
    to 1."""
    entropy: Float64[Tensor, "layer head"]
    """Entropy of a patch's weights, prefix tokens included, in nats: 0 for a single token, log(tokens) for uniform
    attention."""
    prefix: Float64[Tensor, "layer head"]
    """Share of a patch's attention that goes to the prefix tokens, 0 to 1."""
    images: int
    """Number of images averaged."""


def measure_attention_distance(
    model: nn.Module,
    images: Float[Tensor, "batch channel row col"] | Iterable[Float[Tensor, "_ channel row col"]],
) -> AttentionDistance:
    """Return attention distance and entropy by layer and head, averaged over any number of images.

    Args:
        model: any ViT.
        images: one batch or a stream of batches, as `model` takes them; only sums of a batch are kept.

    Raises:
        ConfigError: not a ViT, no images, or images of another size.
    """
    model = require_vit(model)
    away = compute_distances(model).float().to(next(model.parameters()).device)
    shape = (3, model.config.depth, model.config.heads)
    sums, count = torch.zeros(shape, dtype=torch.float64), 0

    def see(layer: int, heads: Heads) -> None:
        prefix = model.config.prefix
        for rows, weights in iterate_rows(heads, prefix):
            places = away[rows.start - prefix : rows.stop - prefix]
            sums[:, layer] += torch.stack(_sum_heads(weights, places, prefix))

    with torch.no_grad(), watch_kernels(model, range(model.config.depth), see):
        for batch in [images] if isinstance(images, Tensor) else images:
            for part in iterate_chunks(batch, model.config.heads * away.shape[0]):
                model(part)
                count += len(part)
    if not count:
        raise ConfigError("there are no images to average over; give at least one")
    distance, entropy, prefix = sums / (count * away.shape[0])
    return AttentionDistance(distance, entropy, prefix, count)


def join_distances(parts: Sequence[AttentionDistance]) -> AttentionDistance:
    """Combine the means of several parts into those over all images; raises ConfigError if there are none."""
    if not parts:
        raise ConfigError("there are no images to average over; give at least one")
    count = sum(part.images for part in parts)
    means = [
        sum(getattr(part, name) * (part.images / count) for part in parts) for name in ("distance", "entropy", "prefix")
    ]
    return AttentionDistance(*means, count)


def compute_distances(model: ViT) -> Float64[Tensor, "patch patch2"]:
    """Return the pixels between the centres of every two patches, at the model's current resolution."""
    rows, cols = model.grid
    down = torch.arange(rows, dtype=torch.float64, device="cpu").repeat_interleave(cols) * model.config.patch[0]
    across = torch.arange(cols, dtype=torch.float64, device="cpu").repeat(rows) * model.config.patch[1]
    return torch.hypot(down[:, None] - down[None, :], across[:, None] - across[None, :])


def _sum_heads(weights: Tensor, places: Tensor, prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return distance, entropy and share of the prefix of each head, summed over images and queries."""
    patches = weights[..., prefix:]
    whole = patches.sum(dim=-1)
    far = (patches * places.to(patches.dtype)).sum(dim=-1) / whole.clamp_min(torch.finfo(whole.dtype).tiny)
    surprise = torch.special.entr(weights).sum(dim=-1)
    return tuple(part.cpu().double().sum(dim=(0, 2)) for part in (far, surprise, 1 - whole))
