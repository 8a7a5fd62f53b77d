"""Every patch's attention, small enough for a page: 8 bits per weight, and fewer layers, heads or images if
necessary."""

import base64
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitreous.insight.attention import watch_kernels
from vitreous.insight.attention_weights import iterate_chunks, iterate_rows
from vitreous.insight.tokens import count_tokens
from vitreous.model.attention import Heads
from vitreous.model.vit import ViT
from vitreous.shapes import Float, Size, UInt8

BUDGET = 12 * 2**20
"""Most bytes of text for the weights of all images on a page."""
FEWEST = 4
"""Fewest layers kept; images are left out first."""


@dataclass(frozen=True)
class Kept:
    """What fits on the page."""

    images: int
    """The number of images kept, from the first."""
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    """The heads kept besides the mean over all heads."""


@dataclass(frozen=True)
class Rows:
    """The attention of every token to the patches, in some layers of some images."""

    kept: Kept
    grid: Size
    prefix: tuple[str, ...]
    """Names of the tokens before the patches."""
    texts: tuple[tuple[str, ...], ...]
    """For each image and layer, base64 of: each map's row maxima (float32, little-endian), the share of each row on
    the prefix tokens (uint8, of 255), then its weights (uint8, 255 the row's maximum). Maps: the mean, then the
    heads; each has a row for every token and a weight for every patch."""


def compute_attention_rows(model: ViT, images: Float[Tensor, "image channel row col"], budget: int = BUDGET) -> Rows:
    """Return the rows that fit within a budget of bytes; `describe_omissions` reports what is left out."""
    kept = choose_rows(model, len(images), budget)
    packed: list[list[str]] = []
    found: dict[int, list[bytes]] = {layer: [] for layer in kept.layers}

    def see(layer: int, heads: Heads) -> None:
        found[layer] += _pack(heads, kept.heads, model.config.prefix)

    with torch.no_grad(), watch_kernels(model, kept.layers, see):
        for part in iterate_chunks(images[: kept.images], count_tokens(model) ** 2):
            model(part)
    for image in range(kept.images):
        packed.append([base64.b64encode(found[layer][image]).decode("ascii") for layer in kept.layers])
    return Rows(kept, model.grid, name_prefix(model), tuple(map(tuple, packed)))


def choose_rows(model: ViT, images: int, budget: int) -> Kept:
    """Return how many images, which layers and which heads fit: all layers come before heads, both evenly spread."""
    depth, heads = model.config.depth, model.config.heads
    one = -(-count_tokens(model) * (count_tokens(model) - model.config.prefix + 5) * 4 // 3)
    shown = max(1, min(images, budget // (one * min(FEWEST, depth))))
    maps = max(1, budget // (one * shown))
    layers = _spread_evenly(depth, max(min(2, depth), min(depth, maps)))
    return Kept(shown, layers, _spread_evenly(heads, max(0, min(heads, maps // len(layers) - 1))))


def _spread_evenly(count: int, wanted: int) -> tuple[int, ...]:
    return tuple(sorted({round(place) for place in np.linspace(0, count - 1, wanted)})) if wanted else ()


def describe_omissions(kept: Kept, model: ViT, images: int) -> str:
    """Say what doesn't fit on the page; empty if everything does."""
    lacking = []
    if len(kept.layers) < model.config.depth:
        lacking.append(f"layers other than {', '.join(map(str, kept.layers))}")
    if len(kept.heads) < model.config.heads:
        others = f" other than {', '.join(map(str, kept.heads))}" if kept.heads else ", of which the mean is shown"
        lacking.append(f"heads{others}")
    if kept.images < images:
        lacking.append(f"images after the first {kept.images}" if kept.images > 1 else "images after the first")
    return f"To keep the page small it leaves out {'; '.join(lacking)}." if lacking else ""


def name_prefix(model: ViT) -> tuple[str, ...]:
    """Return the names of the tokens before the patches, in their order."""
    config = model.config
    names = ["[class]"] * config.class_token + ["distillation"] * config.distillation_token
    return (*names, *(f"register {number}" for number in range(config.registers)))


def _pack(heads: Heads, chosen: tuple[int, ...], prefix: int) -> list[bytes]:
    """Return each image's maps of one layer as bytes: the mean over all heads, then the chosen heads."""
    tops, shares, weights = [], [], []
    for _, part in iterate_rows(heads):
        maps = torch.cat([part.mean(dim=1, keepdim=True), part[:, list(chosen)]], dim=1)
        patches = maps[..., prefix:]
        top = patches.amax(dim=3, keepdim=True)
        tops.append(top[..., 0])
        shares.append(_quantise(maps[..., :prefix].sum(dim=3)))
        weights.append(_quantise(patches / top.clamp_min(torch.finfo(top.dtype).tiny)))
    top, share, weight = (torch.cat(parts, dim=2).cpu().numpy() for parts in (tops, shares, weights))
    return [
        np.ascontiguousarray(top[image], "<f4").tobytes() + share[image].tobytes() + weight[image].tobytes()
        for image in range(len(top))
    ]


def _quantise(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)
