"""Attention through all layers: rollout (2005.00928, section 4; 2010.11929, figure 6 and appendix D.8)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError, UnknownName
from vitreous.insight.attention import remove_after, watch_kernels
from vitreous.insight.attention_weights import iterate_chunks, iterate_rows
from vitreous.insight.tokens import compute_readout, count_tokens, require_vit
from vitreous.model.attention import Heads
from vitreous.model.vit import ViT
from vitreous.shapes import Float

FUSES = ("mean", "max", "min")


def compute_rollout(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], fuse: str = "mean", discard: float = 0.0
) -> Float[Tensor, "batch grid_row grid_col"]:
    """Return how much of every patch reaches the image's representation, if only attention moved information.

    The rows of `compute_rollout_matrix`, weighted by what the model reads: [class]; the mean over the patches' rows if
    it pools by mean; the pooling's own attention if it pools by attention (see `compute_readout`). Each map adds up to
    1 minus what stays with the prefix tokens.

    Args:
        model: any ViT.
        images: as `model` takes them, normalised, on its device.
        fuse: how the heads become one matrix: mean (the paper's), max or min.
        discard: share of the smallest weights of each row that count as 0, 0 (the paper's) to below 1.

    Raises:
        ConfigError: not a ViT, an unknown `fuse`, `discard` out of range, or images of another size.
    """
    model = require_vit(model)
    found, read = [], []
    take = lambda _module, inputs: read.append(compute_readout(model, inputs[0]))  # noqa: E731
    with remove_after(model.pool.register_forward_pre_hook(take)):
        for joint in _find_joints(model, images, fuse, discard):
            found.append((read.pop()[:, None].to(joint.dtype) @ joint)[:, 0, model.config.prefix :])
    return torch.cat(found).unflatten(1, tuple(model.grid))


def compute_rollout_depths(
    model: nn.Module, images: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "layer batch grid_row grid_col"]:
    """Return rollout as it grows: the map of A_l ... A_1 for each l, the last one being `compute_rollout`'s.

    All of them are read as the model reads the last block. One matrix of tokens x tokens per layer and image is kept.

    Raises:
        ConfigError: not a ViT, or images of another size.
    """
    vit = require_vit(model)
    steps: list[Tensor] = []
    read: list[Tensor] = []
    take = lambda _module, inputs: read.append(compute_readout(vit, inputs[0]))  # noqa: E731
    see = lambda _layer, heads: steps.append(_step(heads, "mean", 0.0))  # noqa: E731
    read_pool = remove_after(vit.pool.register_forward_pre_hook(take))
    with torch.no_grad(), read_pool, watch_kernels(vit, range(vit.config.depth), see):
        vit(images)
    found, row, joint = [], read[0][:, None], None
    for step in steps:
        joint = step if joint is None else step @ joint
        found.append((row.to(joint.dtype) @ joint)[:, 0, vit.config.prefix :])
    return torch.stack(found).unflatten(2, tuple(vit.grid))


def compute_rollout_matrix(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], fuse: str = "mean", discard: float = 0.0
) -> Float[Tensor, "batch token token2"]:
    """Return A_L ... A_1, each A the heads' fused weights plus the identity, with rows rescaled to sum to 1.

    Row: a token after the last block; column: a token before the first. Arguments and errors as in `compute_rollout`.
    """
    return torch.cat(list(_find_joints(require_vit(model), images, fuse, discard)))


def _find_joints(
    model: ViT, images: Tensor, fuse: str, discard: float
) -> Iterator[Float[Tensor, "batch token token2"]]:
    """Yield the matrices of a few images at a time: one token x token matrix per image, for any depth and number of
    heads."""
    if fuse not in FUSES:
        raise UnknownName("way to fuse heads", fuse, FUSES)
    if not 0 <= discard < 1:
        raise ConfigError(f"discard is {discard}; it must be at least 0 and below 1")
    joint: list[Tensor] = []

    def see(_layer: int, heads: Heads) -> None:
        step = _step(heads, fuse, discard)
        joint[:] = [step @ joint[0] if joint else step]

    with torch.no_grad(), watch_kernels(model, range(model.config.depth), see):
        for part in iterate_chunks(images, 4 * count_tokens(model) ** 2):
            model(part)
            yield joint.pop()


def _step(heads: Heads, fuse: str, discard: float) -> Float[Tensor, "batch token token2"]:
    """Return one layer's fused weights plus the identity, each row summing to 1."""
    parts = []
    for _, weights in iterate_rows(heads):
        fused = {"mean": weights.mean, "max": weights.amax, "min": weights.amin}[fuse](dim=1)
        count = int(discard * fused.shape[2])
        parts.append(fused.scatter(2, fused.topk(count, dim=2, largest=False).indices, 0.0) if count else fused)
    fused = torch.cat(parts, dim=1)
    fused = fused + torch.eye(fused.shape[1], device=fused.device, dtype=fused.dtype)
    return fused / fused.sum(dim=2, keepdim=True)
