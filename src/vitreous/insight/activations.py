"""Responses of convolutions and blocks: activation maps, and Grad-CAM (1610.02391)."""

from itertools import accumulate

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.insight.attention import remove_after, resolve_index, use_evaluation_mode
from vitreous.insight.attention_weights import iterate_chunks
from vitreous.insight.relevance import Targets, choose_targets
from vitreous.insight.tokens import require_vit
from vitreous.model.convnet import ConvNet
from vitreous.model.swin import Swin
from vitreous.shapes import Float, Size


def compute_activation_map(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], layer: int = -1
) -> Float[Tensor, "batch map_row map_col"]:
    """Return how strongly each place responds: the root of the mean square over channels.

    Args:
        model: a ResNet or EfficientNet, whose layers are its stages (the last one after the final norm), or a ViT or Swin
            Transformer, whose layers are its blocks and whose places are patches.
        images: as `model` takes them, normalised, on its device.
        layer: 0 is the first, -1 the last.

    Raises:
        ConfigError: a layer that the model doesn't have, or images that it doesn't accept.
    """
    layout = None
    if isinstance(model, ConvNet):
        module = _find_stage(model, layer)
    elif isinstance(model, Swin):
        module, layout = (
            model.blocks[resolve_index(layer, model.config.depth, "layer")],
            (0, find_grid(model, images, layer)),
        )
    else:
        vit = require_vit(model, "activation")
        module, layout = vit.blocks[resolve_index(layer, vit.config.depth, "layer")], (vit.config.prefix, vit.grid)
    found: list[Tensor] = []
    keep = lambda _module, _inputs, output: found.append(output)  # noqa: E731
    with torch.no_grad(), use_evaluation_mode(model), remove_after(module.register_forward_hook(keep)):
        for part in iterate_chunks(images):
            model(part)
            found[-1] = _compute_strength(found[-1], layout)
    return torch.cat(found)


def _compute_strength(
    values: Tensor, layout: tuple[int, tuple[int, int]] | None
) -> Float[Tensor, "batch map_row map_col"]:
    if layout is None:
        return values.float().square().mean(dim=1).sqrt()
    prefix, (rows, cols) = layout
    return values[:, prefix:].float().square().mean(dim=2).sqrt().unflatten(1, (rows, cols))


def grad_cam(
    model: nn.Module, images: Float[Tensor, "batch channel row col"], targets: Targets = None, layer: int = -1
) -> Float[Tensor, "batch map_row map_col"]:
    """Return Grad-CAM: the positive part of the maps' sum, each weighted by its logit gradient's mean over places.

    Args:
        model: a ResNet or EfficientNet with a head, a Swin Transformer, or a hybrid, whose last convolutional map is used.
        images: as `model` takes them, normalised, on its device.
        targets: the classes to explain, by number: one for all images, one for each, or the most probable ones.
        layer: a ResNet's or EfficientNet's stage, the last one after the final norm; a Swin's block, the last one after the final
            norm.

    Raises:
        ConfigError: a model without convolutions or without a head, no such layer or class, or images that it doesn't
            accept.
    """
    module = select_convolutions(model, layer)
    grid = find_grid(model, images, layer) if isinstance(model, Swin) else None
    places = (2, 3) if grid is None else (1,)  # maps have channels first, sequences last
    chosen, found, place = choose_targets(model, images, targets), [], 0
    maps: list[Tensor] = []

    def cut_here(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        maps[:] = [output.detach().requires_grad_()]
        return maps[0]

    with use_evaluation_mode(model), remove_after(module.register_forward_hook(cut_here)), torch.enable_grad():
        for part in iterate_chunks(images):
            wanted = chosen[place : place + len(part)]
            score = model(part)[range(len(part)), wanted].sum()
            (gradient,) = torch.autograd.grad(score, maps)
            share = gradient.mean(dim=places, keepdim=True)
            heat = (share * maps[0].detach()).sum(dim=1 if grid is None else 2).clamp_min(0)
            found.append(heat if grid is None else heat.unflatten(1, tuple(grid)))
            place += len(part)
    return torch.cat(found)


def select_convolutions(model: nn.Module, layer: int = -1) -> nn.Module:
    """Return the module whose map Grad-CAM reads; raises ConfigError for a ViT without convolutions."""
    if isinstance(model, ConvNet):
        return _find_stage(model, layer)
    if isinstance(model, Swin):
        index = resolve_index(layer, model.config.depth, "layer")
        return model.norm if index == model.config.depth - 1 else model.blocks[index]
    vit = require_vit(model, "Grad-CAM")
    if vit.config.stem.kind == "none":
        raise ConfigError(
            "this Vision Transformer has no convolutions for grad-cam; use attention, rollout, relevance or gradient"
        )
    if layer not in (-1, 0):
        raise ConfigError(
            f"layer {layer}: for a hybrid, grad-cam reads the one map that its convolutions output; leave out the layer"
        )
    return vit.patches.stem


def find_grid(model: Swin, images: Float[Tensor, "batch channel row col"], layer: int) -> Size:
    """Return the grid of patches of a block's stage, for images of this size."""
    index, stages = resolve_index(layer, model.config.depth, "layer"), list(accumulate(model.config.depths))
    return model.config.compute_map_sizes(Size(*images.shape[2:]))[
        next(place for place, end in enumerate(stages) if index < end)
    ]


def _find_stage(model: ConvNet, layer: int) -> nn.Module:
    """Return a stage; instead of the last one, the norm that follows it, whose maps the head averages."""
    index = resolve_index(layer, len(model.stages), "layer")
    return model.norm if index == len(model.stages) - 1 else model.stages[index]
