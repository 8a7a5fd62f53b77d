"""What every token attends to: the attention weights that the fused kernel doesn't return."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vitreous.errors import ConfigError
from vitreous.insight.attention_weights import compute_weights, iterate_chunks, iterate_rows
from vitreous.insight.tokens import compute_readout, count_tokens, require_vit
from vitreous.model.attention import Attention, Heads, Places
from vitreous.model.vit import ViT
from vitreous.shapes import Float

See = Callable[[int, Heads], None]
"""Called with a layer, counted from 0, and the input of its kernel."""


def compute_attention_maps(
    model: nn.Module,
    images: Float[Tensor, "batch channel row col"],
    layers: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
) -> dict[int, Float[Tensor, "batch head query key"]]:
    """Return the attention weights of some layers: softmax(q k' / sqrt(head_dim)), each row summing to 1.

    They are recomputed, alongside the ordinary forward pass, from the q and k, rotated and normalised, and the bias
    that enter each layer's kernel. The model runs in evaluation mode and is then restored. Batches of any size are
    processed in chunks.

    Args:
        model: any ViT.
        images: as `model` takes them, normalised, on its device.
        layers: blocks to look into; 0 is the first, -1 the last; None: all. The result's keys are counted from 0.
        queries: tokens whose rows of weights are returned, in this order; None: all. If the model has a [class] token,
            it
            is token 0, and the patches follow row by row; keys are counted likewise.

    Raises:
        ConfigError: not a ViT, a layer or query that the model doesn't have, or images of another size.
    """
    model = require_vit(model)
    depth, tokens = model.config.depth, count_tokens(model)
    chosen = sorted({resolve_index(layer, depth, "layer") for layer in (range(depth) if layers is None else layers)})
    rows = slice(None) if queries is None else [resolve_index(query, tokens, "query") for query in queries]
    found: dict[int, list[Tensor]] = {layer: [] for layer in chosen}
    weights = model.config.heads * tokens * (tokens if queries is None else max(1, len(queries)))
    with (
        torch.no_grad(),
        watch_kernels(model, chosen, lambda layer, heads: found[layer].append(compute_weights(heads, rows))),
    ):
        for part in iterate_chunks(images, weights):
            model(part)
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def read_attention(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], layer: int = -1
) -> Float[Tensor, "batch head grid_row grid_col"]:
    """Return a layer's attention to the patches, each token weighted by its share in the image's representation.

    In a model that reads [class], this is the row of [class]; in one that takes the mean, the mean of the patches'
    rows; see `compute_readout`. A head's weights add up to 1 minus the share of the prefix tokens.

    Raises:
        ConfigError: not a ViT, no such layer, or images of another size.
    """
    model = require_vit(model)
    chosen, prefix = resolve_index(layer, model.config.depth, "layer"), model.config.prefix
    seen: list[Heads] = []
    found: list[Tensor] = []

    def read(_pool: nn.Module, inputs: tuple[Tensor]) -> None:
        share = compute_readout(model, inputs[0])
        rows = [torch.einsum("bq,bhqk->bhk", share[:, part], weights) for part, weights in iterate_rows(seen.pop())]
        found.append(torch.stack(rows).sum(dim=0)[..., prefix:])

    see = lambda _layer, heads: seen.append(heads)  # noqa: E731
    with torch.no_grad(), watch_kernels(model, [chosen], see), remove_after(model.pool.register_forward_pre_hook(read)):
        for part in iterate_chunks(images):
            model(part)
    return torch.cat(found).unflatten(2, tuple(model.grid))


def pool_maps(
    model: nn.Module, images: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "batch head grid_row grid_col"]:
    """Return the attention of the pooling's query by head; a head's weights, prefix tokens included, sum to 1.

    Raises:
        ConfigError: the model pools in another way.
    """
    model = require_vit(model, "attention pooling")
    pool = model.pool.attention
    if pool is None:
        raise ConfigError(f"this model pools by {model.config.pool!r}, not by attention (pool='map')")
    found: list[Tensor] = []
    keep = lambda _module, inputs: found.append(compute_weights(pool.compute_heads(inputs[0]))[:, :, 0])  # noqa: E731
    with torch.no_grad(), use_evaluation_mode(model), remove_after(pool.register_forward_pre_hook(keep)):
        for part in iterate_chunks(images):
            model(part)
    front = model.config.prefix if model.config.pool_prefix else 0
    return torch.cat(found)[:, :, front:].unflatten(2, tuple(model.grid))


def resolve_index(number: int, count: int, kind: str) -> int:
    """Return a number that may count from the end as one that counts from 0; raises ConfigError if it is out of
    range, or no whole number."""
    if type(number) is not int:
        raise ConfigError(f"{kind} is {number!r}; it must be a whole number, 0 to {count - 1}")
    if not -count <= number < count:
        raise ConfigError(f"{kind} {number} is outside the model's {count}; use 0 to {count - 1}")
    return number % count


@contextmanager
def watch_kernels(model: ViT, layers: Sequence[int], see: See) -> Iterator[None]:
    """Switch to evaluation mode, and show the input of some layers' kernels, for the duration of the block."""
    with ExitStack() as stack:
        stack.enter_context(use_evaluation_mode(model))
        for layer in layers:
            attention = model.get_submodule(f"blocks.{layer}.attention")
            stack.enter_context(remove_after(attention.register_forward_hook(_make_hook(layer, see))))
        yield


def _make_hook(layer: int, see: See) -> Callable[..., None]:
    def show(attention: Attention, inputs: tuple[Tensor, Places], _output: Any) -> None:
        tokens, places = inputs
        see(layer, attention.compute_heads(attention.project(tokens), places))

    return show


@contextmanager
def remove_after(handle: RemovableHandle) -> Iterator[None]:
    """Remove a hook at the end of the block, whatever happens."""
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def use_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its previous mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
