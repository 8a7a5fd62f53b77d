"""Maps of where a model looks in a request's images: by any method, or what one patch attends to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vitreous.drawing.images import draw_overlay, encode_png
from vitreous.errors import ConfigError
from vitreous.images.pixels import select_visible
from vitreous.insight.attention import compute_attention_maps, resolve_index
from vitreous.insight.explanation import Opened, array, look_at, open_inside
from vitreous.insight.methods import MapOptions, settle_options
from vitreous.insight.tokens import require_vit
from vitreous.predictor import Predictor

Query = int | Literal["all"] | None
"""A patch by its number, row by row from 0; all patches; or None: the attention of the image's representation."""


MOST_NUMBERS = 1 << 20
"""Most attention weights that an answer in JSON holds: writing this many takes about a second, during which no one else
is answered."""


@dataclass(frozen=True)
class Maps:
    """The maps of some images, and the classes that they explain."""

    options: MapOptions
    """The method, and the layer and the head counted from 0, once "auto" and negative numbers are resolved; layer None:
    the last one, or all."""
    probabilities: np.ndarray
    """(image, label); no columns without a head."""
    targets: np.ndarray
    """Each image's class that its map explains, -1 without a head."""
    maps: np.ndarray
    """(image, row, col); with every patch's map (image, patch, row, col)."""
    by_head: np.ndarray | None
    """(image, head, row, col), if the method has heads; with every patch's map (image, head, patch, row, col)."""


def compute_maps(predictor: Predictor, pixels: np.ndarray, options: MapOptions, query: Query) -> Maps:
    """Return the maps of some images.

    Args:
        predictor: its model is not exported.
        pixels: (image, row, col, channel), prepared.
        options: method, layer, head and target, as the client gave them.
        query: for attention: the patch whose weights are returned.

    Raises:
        ConfigError: the model is exported, or has no such layer, head or class; the method takes no query.
    """
    ready = open_inside(predictor)
    settled = settle_options(options, ready.folder)
    if query is None:
        return Maps(settled, *look_at(ready, pixels, settled))
    if settled.method != "attention":
        raise ConfigError(f"{settled.method} takes no query; it is for attention: give method=attention")
    scores, targets, _, _ = look_at(ready, pixels, settled)
    weights = compute_patch_attention(ready, pixels, settled, query)
    maps = weights.mean(1) if settled.head is None else weights[:, settled.head]
    return Maps(settled, scores, targets, maps, weights)


def join_maps(parts: Sequence[Maps]) -> Maps:
    """Return the maps of several batches joined into one."""
    probabilities, targets, maps = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("probabilities", "targets", "maps")
    )
    heads = [one.by_head for one in parts if one.by_head is not None]
    return Maps(parts[0].options, probabilities, targets, maps, np.concatenate(heads) if heads else None)


def count_numbers(found: Maps) -> int:
    """Return how many numbers the maps have, including those of the heads."""
    return found.maps.size + (0 if found.by_head is None else found.by_head.size)


def check_weights(predictor: Predictor, images: int, most: int) -> None:
    """Raise ConfigError if all patches of some images have more weights than an answer holds."""
    model = require_vit(open_inside(predictor).model)
    rows, cols = model.grid
    weights = images * model.config.heads * (rows * cols) ** 2
    if weights > most:
        raise ConfigError(
            f"query=all gives {weights:,} weights, above the limit of {most:,}; ask for fewer images, for format=npy, or for "
            "one patch"
        )


def compute_patch_attention(ready: Opened, pixels: np.ndarray, options: MapOptions, query: Query) -> np.ndarray:
    """Return how much one patch attends to each patch in one layer, (image, head, row, col); for all patches, (image,
    head, patch, row, col)."""
    model = require_vit(ready.model)
    prefix, (rows, cols) = model.config.prefix, model.grid
    layer = -1 if options.layer is None else options.layer
    queries = None if query == "all" else [prefix + resolve_index(int(query or 0), rows * cols, "query")]
    (weights,) = compute_attention_maps(model, ready.images(pixels), [layer], queries).values()
    found = array(weights)[..., prefix:]
    found = found[:, :, prefix:] if query == "all" else found[:, :, 0]
    return found.reshape(*found.shape[:-1], rows, cols)


def describe_maps(predictor: Predictor, found: Maps, index: int) -> dict[str, Any]:
    """Return an image's maps as JSON values, to 6 digits."""
    target = int(found.targets[index])
    named = {"target": None, "score": None}
    if target >= 0:
        named = {"target": predictor.folder.classes[target], "score": float(found.probabilities[index, target])}
    heads = None if found.by_head is None else shorten(found.by_head[index])
    return {**named, "map": shorten(found.maps[index]), "heads": heads}


def shorten(values: np.ndarray) -> list[Any]:
    """Return an array as nested lists of numbers with 6 significant digits."""
    if values.ndim > 1:
        return [shorten(one) for one in values]
    return [float(f"{value:.6g}") for value in values.tolist()]


def draw_map(predictor: Predictor, pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """Return a PNG of an image in grey under its map."""
    return encode_png(draw_overlay(select_visible(pixels, predictor.folder.preprocess), heat))
