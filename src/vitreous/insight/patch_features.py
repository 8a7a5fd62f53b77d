"""Patch features: as colours, by similarity across images, and their lengths."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.insight.attention import remove_after, use_evaluation_mode
from vitreous.insight.attention_weights import CHUNK_WEIGHTS, iterate_chunks
from vitreous.insight.tokens import require_vit
from vitreous.shapes import Bool, Float, Int64

OUTER = 0.01
"""Share of the values cut off at either end of each colour."""


def compute_patch_features(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], layer: int = -1
) -> Float[Tensor, "batch grid_row grid_col dim"]:
    """Return the patches' vectors after a block, through the final norm where it applies to the sequence.

    Raises:
        ConfigError: not a ViT, no such layer, or images of another size.
    """
    vit = require_vit(model, "patch features")
    with torch.no_grad(), use_evaluation_mode(vit):
        return torch.cat([vit.maps(part, [layer])[0] for part in iterate_chunks(images)])


@dataclass(frozen=True)
class Colours:
    """Patch features as pictures."""

    values: Float[Tensor, "batch grid_row grid_col 3"]
    """Red, green and blue, 0 to 1; 0 for a background that is left out."""
    foreground: Bool[Tensor, "batch grid_row grid_col"] | None
    """Which patches are coloured; None: all."""


def colour_features(features: Float[Tensor, "batch grid_row grid_col dim"], foreground: bool = False) -> Colours:
    """Return the first three principal components of all images' patches together as red, green and blue.

    Args:
        features: of the images to compare: equal colours mean equal content; the result is on the CPU.
        foreground: as DINOv2 does (2304.07193, section 7.6), the first component, cut at its mean, divides the patches
            in
            two, and only the foreground is decomposed again and coloured. The numbers don't say which side that is: it
                is
            the one with the smaller share of the images' border.
    """
    flat = features.flatten(0, 2).cpu().double()
    mask = None
    if foreground:
        first = _find_components(flat, 1)[:, 0].view(features.shape[:3]) > 0
        border = torch.ones_like(first)
        border[:, 1:-1, 1:-1] = False
        mask = ~first if first[border].double().mean() > 0.5 else first
    chosen = flat if mask is None else flat[mask.flatten()]
    colours = flat.new_zeros(len(flat), 3)
    if len(chosen):
        colours[slice(None) if mask is None else mask.flatten()] = _stretch(_find_components(chosen, 3))
    return Colours(colours.view(*features.shape[:3], 3).float(), mask)


def _find_components(rows: Float[Tensor, "row dim"], count: int) -> Float[Tensor, "row count"]:
    """Return the rows' coordinates along the principal components; zeros if there are fewer components than
    requested."""
    centred = rows - rows.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    vectors = vectors.flip(1)[:, :count]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
    places = centred @ vectors
    return F.pad(places, (0, count - places.shape[1]))


def _stretch(values: Float[Tensor, "row channel"]) -> Float[Tensor, "row channel"]:
    low, high = (torch.quantile(values[: 2**24 // 4], share, dim=0) for share in (OUTER, 1 - OUTER))
    return ((values - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)


@dataclass(frozen=True)
class Nearest:
    """The patches most similar to each patch, best first."""

    places: Int64[Tensor, "batch grid_row grid_col rank 3"]
    """(image, row, col)."""
    likeness: Float[Tensor, "batch grid_row grid_col rank"]
    """Cosine of the two vectors, -1 to 1."""


def find_nearest_patches(
    features: Float[Tensor, "batch grid_row grid_col dim"], count: int = 1, own: bool = False
) -> Nearest:
    """Return each patch's most similar patches in the other images; with `own`, in the same image too, except itself.

    Similarities are computed a few patches at a time.
    """
    batch, rows, cols, _ = features.shape
    unit = F.normalize(features.flatten(0, 2).float(), dim=1)
    image = torch.arange(batch, device=unit.device).repeat_interleave(rows * cols)
    patch = torch.arange(len(unit), device=unit.device)
    allowed = len(unit) - (1 if own else rows * cols)
    scores, places = [], []
    for part in patch.split(max(1, CHUNK_WEIGHTS // len(unit))):
        likeness = unit[part] @ unit.T
        itself = part[:, None] == patch if own else image[part][:, None] == image
        best = likeness.masked_fill(itself, -torch.inf).topk(min(count, allowed), dim=1)
        scores.append(best.values)
        places.append(best.indices)
    index = torch.cat(places)
    where = torch.stack([index // (rows * cols), index // cols % rows, index % cols], dim=2)
    return Nearest(where.unflatten(0, (batch, rows, cols)), torch.cat(scores).unflatten(0, (batch, rows, cols)))


def compute_token_norms(
    model: nn.Module, images: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "layer batch token"]:
    """Return the length of every token's vector after every block, without the final norm.

    A few patches several times as long as the others are the artefacts that registers remove (2309.16588). Prefix
    tokens come first.

    Raises:
        ConfigError: not a ViT, or images of another size.
    """
    vit = require_vit(model, "token norms")
    found: list[list[Tensor]] = [[] for _ in vit.blocks]

    def keep(layer: int) -> Callable[..., None]:
        return lambda _block, _inputs, output: found[layer].append(output.float().norm(dim=2))

    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(use_evaluation_mode(vit))
        for layer, block in enumerate(vit.blocks):
            stack.enter_context(remove_after(block.register_forward_hook(keep(layer))))
        for part in iterate_chunks(images):
            vit(part)
    return torch.stack([torch.cat(parts) for parts in found])
