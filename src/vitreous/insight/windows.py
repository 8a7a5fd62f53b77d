"""What a Swin Transformer's patches attend to: weights within windows, shown at their places in the image.

There is no matrix of all patches with all patches: a patch attends to its window, and between stages four patches become
one. So attention can't be rolled out over all layers, and relevance is followed only through the last stage, where the
patches stay the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.insight.attention import remove_after, resolve_index, use_evaluation_mode
from vitreous.insight.attention_distance import AttentionDistance, measure_attention_distance
from vitreous.insight.attention_weights import compute_weights, iterate_chunks
from vitreous.insight.relevance import Step, Targets, choose_targets
from vitreous.model.attention import Heads, Places, attend
from vitreous.model.factory import Model
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.model.windows import WindowAttention
from vitreous.shapes import Float, Size


class Watched(NamedTuple):
    """One layer's attention in a forward pass."""

    attention: WindowAttention
    heads: Heads
    """The heads of the first window, then those of the next."""
    grid: Size
    """Rows and columns of patches."""

    @property
    def windows(self) -> int:
        """Windows of an image."""
        return self.heads.q.shape[1] // self.attention.heads

    def split(self, values: Float[Tensor, "batch token"]) -> Float[Tensor, "batch window_head place"]:
        """Return a value of each patch for each head of its window; 0 for padding."""
        cut = self.attention.cut(values[..., None], self.grid)[..., 0]
        return cut.repeat_interleave(self.attention.heads, dim=1)

    def share_evenly(self) -> Float[Tensor, "batch window_head place"]:
        """Return each querying patch's share of a mean over all of the image's; 0 for padding."""
        tokens, q = self.grid.rows * self.grid.cols, self.heads.q
        return self.split(torch.full((len(q), tokens), 1 / tokens, device=q.device))

    def place(self, values: Float[Tensor, "batch window_head place"]) -> Float[Tensor, "batch head token"]:
        """Return values of each window's patches at their places in the grid, without the padding's."""
        return self.attention.join(values[..., None], self.grid)[..., 0]


See = Callable[[Watched], None]


def list_attention(model: Swin) -> list[WindowAttention]:
    """Return the attention of every block, in order."""
    found = [block.attention for block in model.blocks]
    return [one for one in found if isinstance(one, WindowAttention)]


def count_window_weights(model: Swin, image: Size) -> int:
    """Return the most attention weights of a layer for one image."""
    stages = zip(model.config.compute_map_sizes(image), model.config.windows, model.config.heads, strict=True)
    return max(
        heads * (rows + down) * (cols + across) * down * across for (rows, cols), (down, across), heads in stages
    )


def iterate_images(model: Swin, images: Tensor) -> Iterator[Tensor]:
    """Yield a few images at a time, so that a layer's weights fit the memory."""
    yield from iterate_chunks(images, count_window_weights(model, Size(*images.shape[2:])))


def watch(stack: ExitStack, attention: WindowAttention, see: See) -> None:
    """Show the input of a layer's kernel in every forward pass, until the stack is left."""

    def show(_module: nn.Module, inputs: tuple[Tensor, Places], _output: Tensor) -> None:
        tokens, places = inputs
        assert places.grid is not None
        see(Watched(attention, attention.window_heads(tokens, places), places.grid))

    stack.enter_context(remove_after(attention.register_forward_hook(show)))


def compute_window_attention(
    model: Swin, images: Float[Tensor, "batch channel row col"], layer: int = -1
) -> Float[Tensor, "batch head grid_row grid_col"]:
    """Return how much attention each patch gets in a layer, from all patches of its window together.

    The weights are recomputed within windows, averaged over the querying patches of the image (those of the padding don't
    count), and shown at the patches' places: a head's map adds up to 1, or less where padding is attended to.

    Args:
        model: a Swin Transformer.
        images: as `model` takes them, normalised, on its device.
        layer: the block, counted over all stages; 0 is the first, -1 the last. The map has the grid of its stage.

    Raises:
        ConfigError: no such layer.
    """
    chosen = list_attention(model)[resolve_index(layer, model.config.depth, "layer")]
    found: list[Tensor] = []

    def see(watched: Watched) -> None:
        rows, cols = watched.grid
        weights = compute_weights(watched.heads)
        seen = torch.einsum("bhq,bhqk->bhk", watched.share_evenly().to(weights.dtype), weights)
        found.append(watched.place(seen).unflatten(2, (rows, cols)))

    with torch.no_grad(), use_evaluation_mode(model), ExitStack() as stack:
        watch(stack, chosen, see)
        for part in iterate_images(model, images):
            model(part)
    return torch.cat(found)


def measure_stage_distances(
    model: Swin, images: Float[Tensor, "batch channel row col"] | Iterable[Float[Tensor, "_ channel row col"]]
) -> list[AttentionDistance]:
    """Return attention distance and entropy by layer and head, for each stage: as `measure_attention_distance`.

    Distances are between the centres of patches, in pixels, within their windows; weights on padding are left out of
    them, and counted as the prefix's share.

    Args:
        model: a Swin Transformer.
        images: one batch or a stream of batches, as `model` takes them; only sums of a batch are kept.

    Raises:
        ConfigError: no images.
    """
    depths, heads = model.config.depths, model.config.heads
    sums = [torch.zeros(3, depth, each, dtype=torch.float64) for depth, each in zip(depths, heads, strict=True)]
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    count = 0

    def make(stage: int, block: int) -> See:
        return lambda watched: sums[stage][:, block].add_(_sum_window(watched, model.config.patch, stage))

    with torch.no_grad(), use_evaluation_mode(model), ExitStack() as stack:
        for attention, place in zip(list_attention(model), places, strict=True):
            watch(stack, attention, make(*place))
        for batch in [images] if isinstance(images, Tensor) else images:
            for part in iterate_images(model, batch):
                model(part)
                count += len(part)
    if not count:
        raise ConfigError("there are no images to average over; give at least one")
    return [AttentionDistance(*(total / count), count) for total in sums]


def measure_distances(
    model: Model, images: Float[Tensor, "batch channel row col"] | Iterable[Float[Tensor, "_ channel row col"]]
) -> list[AttentionDistance]:
    """Return how far heads look in each stage of a model of any kind: a ViT is one stage, and a ResNet or EfficientNet has none."""
    if isinstance(model, Swin):
        return measure_stage_distances(model, images)
    return [measure_attention_distance(model, images)] if isinstance(model, ViT) else []


def _sum_window(watched: Watched, patch: tuple[int, int], stage: int) -> Tensor:
    """Return distance, entropy and the padding's share of each head: means over an image's queries, summed over images."""
    grid, window, device = watched.grid, watched.attention.window, watched.heads.q.device
    rows, cols = grid
    real = watched.split(torch.ones(1, rows * cols, device=device))
    weights = compute_weights(watched.heads)
    down = torch.arange(window.rows, device=device).repeat_interleave(window.cols) * patch[0] * 2**stage
    across = torch.arange(window.cols, device=device).repeat(window.rows) * patch[1] * 2**stage
    away = torch.hypot((down[:, None] - down[None]).float(), (across[:, None] - across[None]).float())
    kept = weights * real[:, :, None].to(weights.dtype)
    whole = kept.sum(dim=-1)
    far = (kept * away.to(weights.dtype)).sum(dim=-1) / whole.clamp_min(torch.finfo(whole.dtype).tiny)
    surprise = torch.special.entr(weights).sum(dim=-1)
    found = torch.stack([far, surprise, 1 - whole]) * real.to(weights.dtype)
    by_head = rearrange(
        found, "kind batch (window head) place -> kind head (batch window place)", head=watched.attention.heads
    )
    return by_head.cpu().double().sum(dim=2) / (rows * cols)


def compute_window_gradient(
    model: Swin, images: Float[Tensor, "batch channel row col"], targets: Targets = None, layer: int = -1
) -> Float[Tensor, "batch head grid_row grid_col"]:
    """Return one layer's (gradient * attention)+ by head, averaged over the querying patches, at the patches' places.

    Arguments and errors as in `compute_window_attention`; targets: as in `compute_relevance`.
    """
    place, found = resolve_index(layer, model.config.depth, "layer"), []
    for part, chosen in _split(model, images, targets):
        ((watched, gradient),) = _watch_gradients(model, part, chosen, [place])
        rows, cols = watched.grid
        found.append(watched.place(_read(watched, gradient, watched.share_evenly())).unflatten(2, (rows, cols)))
    return torch.cat(found)


def compute_window_relevance(
    model: Swin, images: Float[Tensor, "batch channel row col"], targets: Targets = None
) -> Float[Tensor, "batch grid_row grid_col"]:
    """Return how relevant each patch of the last stage is to a class: R += A R through that stage's blocks.

    As `compute_relevance` (2103.15679, equations 5 and 6), with A within windows. It begins with 1 for each patch where the
    last stage begins: what earlier stages mixed into a patch stays there, since no rule says how relevance passes merging.

    Args:
        model: a Swin Transformer with a head.
        images: as `model` takes them, normalised, on its device.
        targets: the classes to explain, by number: one for all images, one for each, or the most probable ones.

    Raises:
        ConfigError: no head, or no such class.
    """
    last, found = range(model.config.depth - model.config.depths[-1], model.config.depth), []
    for part, chosen in _split(model, images, targets):
        steps = _watch_gradients(model, part, chosen, last)
        rows, cols = steps[0][0].grid
        row = torch.full((len(part), rows * cols), 1 / (rows * cols), device=part.device)
        for watched, gradient in reversed(steps):
            gain = watched.place(_read(watched, gradient, watched.split(row)))
            row = row + gain.mean(dim=1).to(row.dtype)
        found.append(row.unflatten(1, (rows, cols)))
    return torch.cat(found)


def _read(watched: Watched, gradient: Tensor, share: Tensor) -> Float[Tensor, "batch window_head place"]:
    """Return the positive part of weights times gradients, summed over queries by their share."""
    step = Step(0, Heads(*(part if part is None else part.detach() for part in watched.heads)), gradient)
    parts = [
        torch.einsum("bhq,bhqk->bhk", share[:, :, rows].to(one.dtype), one) for rows, one in step.select_positive()
    ]
    return torch.stack(parts).sum(dim=0)


def _watch_gradients(
    model: Swin, images: Tensor, targets: Sequence[int], layers: Sequence[int]
) -> list[tuple[Watched, Tensor]]:
    """Return some layers' attention, and the gradient of the targets' logits with respect to each query's output."""
    kept: list[tuple[Watched, Tensor]] = []

    def replace(attention: nn.Module, inputs: tuple[Tensor, Places], _output: Tensor) -> Tensor:
        assert isinstance(attention, WindowAttention)
        tokens, places = inputs
        assert places.grid is not None
        tokens = tokens if tokens.requires_grad else tokens.detach().requires_grad_()
        heads = attention.window_heads(tokens, places)
        gathered = attend(heads)
        kept.append((Watched(attention, heads, places.grid), gathered))
        return attention.mix(attention.join(gathered, places.grid))

    with torch.enable_grad(), use_evaluation_mode(model), ExitStack() as stack:
        for layer in layers:
            stack.enter_context(remove_after(list_attention(model)[layer].register_forward_hook(replace)))
        score = model(images)[range(len(images)), list(targets)].sum()
    gradients = torch.autograd.grad(score, [gathered for _, gathered in kept])
    return [(watched, gradient) for (watched, _), gradient in zip(kept, gradients, strict=True)]


def _split(model: Swin, images: Tensor, targets: Targets) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield a few images at a time with their targets."""
    chosen, place = choose_targets(model, images, targets), 0
    for part in iterate_images(model, images):
        yield part, chosen[place : place + len(part)]
        place += len(part)
