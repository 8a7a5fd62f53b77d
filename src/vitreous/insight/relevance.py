"""What attention contributes to one class: gradients times weights (Chefer et al., 2103.15679)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.insight.attention import remove_after, resolve_index, use_evaluation_mode
from vitreous.insight.attention_weights import iterate_chunks, iterate_rows
from vitreous.insight.tokens import compute_readout, count_tokens, require_vit
from vitreous.model.attention import Heads, Places, attend
from vitreous.model.vit import ViT
from vitreous.shapes import Float

Targets = int | Sequence[int] | None
"""The class to explain: one for all images, one for each, or None: each image's most probable one."""


class Step(NamedTuple):
    """One layer's attention during the backward pass from the logit."""

    layer: int
    """Counted from 0; the depth itself for the attention that pools (pool='map')."""
    heads: Heads
    gradient: Float[Tensor, "batch head query head_dim"]
    """Of the target's logit with respect to each query's output."""

    def select_positive(self) -> Iterator[tuple[slice, Float[Tensor, "batch head query key"]]]:
        """Yield weights times gradients where that raises the logit, else 0: a few queries at a time, with their
        position.

        A query's output is its weights times v, so a weight's gradient is the product of the output's gradient and v.
        """
        for rows, weights in iterate_rows(self.heads):
            gradient = self.gradient[:, :, rows].to(weights.dtype) @ self.heads.v.to(weights.dtype).mT
            yield rows, (weights * gradient).clamp_min(0)

    def read(self, share: Float[Tensor, "batch query"]) -> Float[Tensor, "batch head key"]:
        """Return the sum of the positive part's rows, each weighted by its query's share."""
        return torch.stack(
            [torch.einsum("bq,bhqk->bhk", share[:, rows].to(part.dtype), part) for rows, part in self.select_positive()]
        ).sum(dim=0)


def compute_relevance(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], targets: Targets = None
) -> Float[Tensor, "batch grid_row grid_col"]:
    """Return how relevant each patch is to a class: R += A R from the first layer to the last, with R = 1 at first.

    A is the mean over heads of (gradient * attention)+, equations 5 and 6 of 2103.15679. The result is the row of R
    that represents the image: that of [class], the mean over the patches, or the pooling's own A (see
    `compute_readout`). It is computed from the last layer to the first and a few queries at a time, so that no whole
    map is needed.

    Args:
        model: a ViT with a head.
        images: as `model` takes them, normalised, on its device.
        targets: the classes to explain, by number: one for all images, one for each, or the most probable ones.

    Raises:
        ConfigError: not a ViT, no head, no such class, or images of another size.
    """
    vit = require_vit(model, "relevance of attention")
    found = []
    for part, chosen in _split_parts(vit, images, targets):
        way = _forward(vit, part)
        row = None if vit.config.pool == "map" else way.read
        for step in _walk_back(vit, way, chosen):
            if row is None:
                one = torch.ones_like(step.gradient[:, 0, :, 0])
                unseen = 0 if vit.config.pool_prefix else vit.config.prefix
                row = F.pad(step.read(one).mean(dim=1), (unseen, 0))
            else:
                row = row + step.read(row).mean(dim=1)
        assert row is not None
        found.append(row[:, vit.config.prefix :])
    return torch.cat(found).unflatten(1, tuple(vit.grid))


def compute_gradient_attention(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], targets: Targets = None, layer: int = -1
) -> Float[Tensor, "batch head grid_row grid_col"]:
    """Return one layer's (gradient * attention)+ by head, summed over the readout (see `compute_readout`).

    Arguments and errors as in `compute_relevance`; layer: 0 is the first, -1 the last.
    """
    vit = require_vit(model, "gradient of attention")
    wanted, found = resolve_index(layer, vit.config.depth, "layer"), []
    for part, chosen in _split_parts(vit, images, targets):
        way = _forward(vit, part)
        step = next(step for step in _walk_back(vit, way, chosen) if step.layer == wanted)
        found.append(step.read(way.read)[:, :, vit.config.prefix :])
    return torch.cat(found).unflatten(2, tuple(vit.grid))


class _Way(NamedTuple):
    """What a forward pass leaves for the backward pass."""

    inputs: list[tuple[Tensor, Places]]
    """Input of each block."""
    outputs: list[Float[Tensor, "batch token dim"]]
    """Outputs of the blocks that the head reads, the last block's last."""
    read: Float[Tensor, "batch token"]
    """Each token's share in the image's representation."""


def _forward(model: ViT, images: Tensor) -> _Way:
    inputs: list[tuple[Tensor, Places]] = []
    outputs: list[Tensor] = []
    read: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(use_evaluation_mode(model))
        for block in model.blocks:
            take = lambda _block, given: inputs.append((given[0], given[1]))  # noqa: E731
            stack.enter_context(remove_after(block.register_forward_pre_hook(take)))
        keep = lambda _block, _given, output: outputs.append(output)  # noqa: E731
        for block in model.blocks[-model.config.pool_layers :]:
            stack.enter_context(remove_after(block.register_forward_hook(keep)))
        pooled = lambda _pool, given: read.append(compute_readout(model, given[0]))  # noqa: E731
        stack.enter_context(remove_after(model.pool.register_forward_pre_hook(pooled)))
        with torch.no_grad():
            model(images)
    return _Way(inputs, outputs, read[0])


def _walk_back(model: ViT, way: _Way, targets: Sequence[int]) -> Iterator[Step]:
    """Yield each layer's step from the last to the first.

    Every block is run once more from its input with its heads' outputs recorded, and its gradient passed down.
    """
    gradients, step = _pass_head(model, way.outputs, targets)
    if step is not None:
        yield step
    gradient = gradients.pop()
    for layer in reversed(range(model.config.depth)):
        gradient, step = _pass_block(model, layer, way.inputs.pop(), gradient)
        if gradients:  # the head reads [class] of the block below, too
            gradient = gradient + gradients.pop()
        yield step


def _pass_head(model: ViT, outputs: Sequence[Tensor], targets: Sequence[int]) -> tuple[list[Tensor], Step | None]:
    """Return the gradients at the outputs of the blocks that the head reads, and the step of the pooling's attention if there
    is one."""
    kept: list[tuple[Heads, Tensor]] = []
    outputs = [output.detach().requires_grad_() for output in outputs]
    watched = watch_attention(model, lambda _layer, heads, gathered: kept.append((heads, gathered)), ())
    with torch.enable_grad(), use_evaluation_mode(model), watched:
        z = torch.cat([outputs[-1], *(output[:, :1] for output in outputs[:-1])], dim=1)  # as in `ViT.encode`
        logits = model.logits(model.norm(z) if model.config.final_norm == "tokens" else z)
        score = logits[range(len(z)), list(targets)].sum()
    gradients = list(torch.autograd.grad(score, [*outputs, *(gathered for _, gathered in kept)]))
    step = Step(model.config.depth, _detach(kept[0][0]), gradients.pop()) if kept else None
    return gradients, step


def _pass_block(model: ViT, layer: int, given: tuple[Tensor, Places], gradient: Tensor) -> tuple[Tensor, Step]:
    """Return the gradient at a block's input, and the block's step."""
    kept: list[tuple[Heads, Tensor]] = []
    z = given[0].detach().requires_grad_()
    watched = watch_attention(model, lambda _layer, heads, gathered: kept.append((heads, gathered)), (layer,))
    with torch.enable_grad(), use_evaluation_mode(model.blocks[layer]), watched:
        output = model.blocks[layer](z, given[1])
    ((heads, gathered),) = kept
    below, of_gathered = torch.autograd.grad(output, [z, gathered], gradient)
    return below, Step(layer, _detach(heads), of_gathered)


def _detach(heads: Heads) -> Heads:
    return Heads(*(part if part is None else part.detach() for part in heads))


@contextmanager
def watch_attention(
    model: ViT, keep: Callable[[int, Heads, Tensor], None], layers: Sequence[int] | None = None
) -> Iterator[None]:
    """For the duration of the block, record the input of attention's kernel and its heads' outputs, within the graph.

    The layers' own forward is untouched: a hook recomputes the attention, and replaces its result.

    Args:
        model: any ViT.
        keep: called with each layer (the depth for the pooling's attention), the input of its kernel, and the kernel's
            output,
            before the heads are mixed.
        layers: blocks to watch, besides the pooling's attention; None: all of them.
    """

    def build_hook(layer: int) -> Callable[..., Tensor]:
        def replace(attention: Any, inputs: tuple[Any, ...], _output: Tensor) -> Tensor:
            pooling = layer == model.config.depth
            heads = attention.compute_heads(inputs[0] if pooling else attention.project(inputs[0]), *inputs[1:])
            gathered = attend(heads)
            keep(layer, heads, gathered)
            return attention.mix(gathered)

        return replace

    with ExitStack() as stack:
        for layer in range(model.config.depth) if layers is None else layers:
            attention = model.get_submodule(f"blocks.{layer}.attention")
            stack.enter_context(remove_after(attention.register_forward_hook(build_hook(layer))))
        if model.pool.attention is not None:
            hook = model.pool.attention.register_forward_hook(build_hook(model.config.depth))
            stack.enter_context(remove_after(hook))
        yield


def choose_targets(model: nn.Module, images: Float[Tensor, "batch channel row col"], targets: Targets) -> list[int]:
    """Return one class number for each image; raises ConfigError for a model without a head or classes that it
    lacks."""
    classes = model.config.classes
    if not classes:
        raise ConfigError(
            "this model has no head, so there is no class to explain; give it one "
            "(vitreous.load(PATH, classes=...)), or choose a method without a class"
        )
    if targets is None:
        with torch.no_grad(), use_evaluation_mode(model):
            return [int(label) for part in iterate_chunks(images) for label in model(part).argmax(dim=1)]
    listed = [targets] * len(images) if isinstance(targets, int) else [int(target) for target in targets]
    if len(listed) != len(images):
        raise ConfigError(f"{len(listed)} targets were given for {len(images)} images; give one, or one for each")
    return [resolve_index(target, classes, "class") for target in listed]


def _split_parts(model: ViT, images: Tensor, targets: Targets) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield a few images at a time with their targets."""
    chosen, place = choose_targets(model, images, targets), 0
    for part in iterate_chunks(images, 4 * model.config.heads * count_tokens(model) ** 2):
        yield part, chosen[place : place + len(part)]
        place += len(part)
