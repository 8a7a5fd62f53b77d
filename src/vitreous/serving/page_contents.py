"""Everything that the page shows about an image inside a Vision Transformer, in one answer, so that moving over the
patches needs no further request."""

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreous.drawing.images import draw_thumbnail
from vitreous.errors import ConfigError
from vitreous.images.pixels import select_visible
from vitreous.insight.attention import resolve_index
from vitreous.insight.attention_weights import iterate_rows
from vitreous.insight.explanation import Opened, open_inside
from vitreous.insight.methods import compute_probabilities, find_target
from vitreous.insight.patch_features import compute_patch_features, compute_token_norms, find_nearest_patches
from vitreous.insight.positions import compute_similarity
from vitreous.insight.relevance import compute_relevance
from vitreous.insight.rollout import compute_rollout_depths
from vitreous.insight.tokens import count_tokens, require_vit
from vitreous.model.attention import Heads
from vitreous.model.vit import ViT
from vitreous.predictor import Predictor

MOST_WEIGHTS = 64 << 20
"""Most attention weights, of one layer and all its heads, that an answer holds: 64 MiB, one byte each."""
SIDE = 512
"""Pixels of a picture's longer side."""


def gather_contents(predictor: Predictor, pixels: np.ndarray, layer: int, target: str | None) -> dict[str, Any]:
    """Return what the page shows about one or two images, as JSON values; arrays are base64, one byte per number.

    Args:
        predictor: its model is a Vision Transformer, and not exported.
        pixels: (image, row, col, channel), prepared; one or two images.
        layer: of the attention and of the patches that are compared: 0 the first, -1 the last.
        target: the class whose relevance is shown; None: each image's most probable one.

    Raises:
        ConfigError: the model isn't a Vision Transformer, has no such layer or class, or has too many patches.
    """
    ready = open_inside(predictor)
    model = require_vit(ready.model)
    layer = resolve_index(layer, model.config.depth, "layer")
    if model.config.heads * count_tokens(model) ** 2 > MOST_WEIGHTS:
        raise ConfigError(f"{count_tokens(model):,} patches are too many to show them all; ask /v1/explain for one")
    images = ready.images(pixels)
    config = model.config
    return {
        "grid": list(model.grid),
        "layer": layer,
        "layers": config.depth,
        "heads": config.heads,
        "prefix": config.prefix,
        "positions": compare_positions(model),
        "images": [describe_image(ready, model, images[index : index + 1], pixels[index], layer, target) for index in range(len(images))],
        "nearest": match_patches(model, images, layer) if len(images) == 2 else None,
    }  # fmt: skip


def describe_image(
    ready: Opened, model: ViT, image: Tensor, pixels: np.ndarray, layer: int, target: str | None
) -> dict[str, Any]:
    """Return what is shown about one image: its picture, attention, rollout by depth, token norms, and relevance."""
    norms = compute_token_norms(model, image)[:, 0, model.config.prefix :]
    rollout = compute_rollout_depths(model, image)[:, 0].flatten(1)
    return {
        "picture": draw_thumbnail(select_visible(pixels, ready.folder.preprocess), SIDE),
        "attention": pack_attention(model, image, layer),
        "rollout": pack(rollout / rollout.amax(dim=1, keepdim=True).clamp_min(1e-30)),
        "norms": pack(norms / norms.amax(dim=1, keepdim=True).clamp_min(1e-30)),
        "longest": [float(f"{value:.4g}") for value in norms.amax(dim=1).tolist()],
        **explain_class(ready, model, image, target),
    }


def explain_class(ready: Opened, model: ViT, image: Tensor, target: str | None) -> dict[str, Any]:
    """Return the relevance of each patch to a class; null without a head."""
    if not model.config.classes:
        return {"relevance": None, "target": None, "score": None}
    scores = compute_probabilities(ready.folder, image)[0]
    wanted = find_target(target, ready.folder)
    wanted = int(scores.argmax()) if wanted is None else wanted
    found = compute_relevance(model, image, [wanted]).flatten()
    relevance = pack(found / found.max().clamp_min(1e-30))
    return {"relevance": relevance, "target": ready.folder.classes[wanted], "score": float(scores[wanted])}


def pack_attention(model: ViT, image: Tensor, layer: int) -> dict[str, str]:
    """Return one layer's weights on the patches, (head, token, patch), each row as shares of its
    greatest weight; and those, in units of 1/10,000."""
    from vitreous.insight.attention import watch_kernels

    found: list[Tensor] = []

    def see(_: int, heads: Heads) -> None:
        found.append(torch.cat([part[0, :, :, model.config.prefix :] for _, part in iterate_rows(heads)], dim=1))

    with torch.no_grad(), watch_kernels(model, [layer], see):
        model(image)
    rows = torch.cat([found[0].mean(dim=0, keepdim=True), found[0]])
    tops = rows.amax(dim=2, keepdim=True)
    shares = (tops[..., 0].clamp(0, 1) * 10_000).round().cpu().numpy().astype("<u2")
    return {"weights": pack(rows / tops.clamp_min(1e-30)), "tops": base64.b64encode(shares.tobytes()).decode("ascii")}


def compare_positions(model: ViT) -> str | None:
    """Return the similarity of each place's position embedding with every other's, -1 to 1 as 0 to 255; None if the model has none."""
    try:
        found = compute_similarity(model)
    except ConfigError:
        return None
    return pack((found.reshape(len(found) * found.shape[1], -1) + 1) / 2)


def match_patches(model: ViT, images: Tensor, layer: int) -> dict[str, list[Any]]:
    """Return for each patch of the first image the most similar one of the second, and how similar."""
    found = find_nearest_patches(compute_patch_features(model, images, layer))
    _, row, col = found.places[0, :, :, 0].unbind(dim=2)
    likeness = [float(f"{value:.3f}") for value in found.likeness[0, :, :, 0].flatten().tolist()]
    return {"places": (row * model.grid[1] + col).flatten().tolist(), "likeness": likeness}


def pack(values: Tensor) -> str:
    """Return numbers of 0 to 1 as base64 of one byte each."""
    found = (values.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return base64.b64encode(np.ascontiguousarray(found).tobytes()).decode("ascii")
