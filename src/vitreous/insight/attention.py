"""What every token looks at: the attention weights that the fused kernel never shows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.model.attention import Attention, Places, attention_weights
from vitreous.model.vit import ViT

CHUNK_IMAGES = 32
"""Most images that pass through the model at once."""
CHUNK_WEIGHTS = 2**24
"""Most attention weights that one layer yields at once, so that long sequences go one image at a time."""


def attention_maps(
    model: ViT,
    images: Float[Tensor, "batch channel row col"],
    layers: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
) -> dict[int, Float[Tensor, "batch head query key"]]:
    """Return the attention weights of some layers: softmax(q k' / sqrt(head_dim)), each row summing to 1.

    They are recomputed, beside the ordinary forward pass, from the q and k, rotated and normalised, and the bias that enter each layer's kernel. The model runs in
    evaluation mode and is left as it was found. Batches of any size go through in chunks.

    Args:
        model: any ViT.
        images: as `model` takes them, normalised, on its device.
        layers: blocks to look into, 0 the first, -1 the last; None: all. The result's keys are counted from 0.
        queries: tokens whose row of weights is returned, in this order; None: all. Where the model has a [class]
            token it is token 0, and the patches follow row by row; keys are counted likewise.

    Raises:
        ConfigError: a layer or query that the model doesn't have, or images of another size.
    """
    depth, tokens = model.config.depth, model.config.tokens
    chosen = sorted({_index(layer, depth, "layer") for layer in (range(depth) if layers is None else layers)})
    rows = None if queries is None else [_index(query, tokens, "query") for query in queries]
    found: dict[int, list[Tensor]] = {layer: [] for layer in chosen}
    weights = model.config.heads * tokens * (tokens if rows is None else max(1, len(rows)))
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_WEIGHTS // weights))
    with torch.no_grad(), _evaluating(model), _looking(model, found, rows):
        for part in images.split(chunk):
            model(part)
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def _index(number: int, count: int, kind: str) -> int:
    if not -count <= number < count:
        raise ConfigError(f"{kind} {number} is outside the model's {count}; use 0 to {count - 1}")
    return number % count


@contextmanager
def _looking(model: ViT, found: dict[int, list[Tensor]], rows: list[int] | None) -> Iterator[None]:
    """Gather the chosen layers' weights for as long as the block lasts."""
    handles = []
    try:
        for layer, parts in found.items():
            attention = model.get_submodule(f"blocks.{layer}.attention")
            assert isinstance(attention, Attention)
            handles.append(attention.register_forward_hook(_gatherer(parts, rows)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gatherer(parts: list[Tensor], rows: list[int] | None) -> Callable[..., None]:
    def gather(attention: Attention, inputs: tuple[Tensor, Places], _output: Any) -> None:
        tokens, places = inputs
        q, k, _, bias = attention.heads_of(attention.project(tokens), places)
        if rows is not None:
            q, bias = q[:, :, rows], None if bias is None else bias[:, :, rows]
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            parts.append(attention_weights(q.to(wide), k.to(wide), bias))

    return gather


@contextmanager
def _evaluating(model: ViT) -> Iterator[None]:
    """Put every module into evaluation mode, and back into the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
