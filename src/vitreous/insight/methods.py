"""The kinds of maps, the models that each fits, and how each is made."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vitreous.engines.torch_engine import to_probabilities
from vitreous.errors import ConfigError, UnknownName
from vitreous.insight.activations import compute_activation_map, grad_cam, select_convolutions
from vitreous.insight.attention import pool_maps, read_attention, resolve_index
from vitreous.insight.relevance import compute_gradient_attention, compute_relevance
from vitreous.insight.rollout import compute_rollout
from vitreous.insight.windows import compute_window_attention, compute_window_gradient, compute_window_relevance
from vitreous.model.convnet import ConvNet
from vitreous.model.factory import Model
from vitreous.model.kinds import get_kind, name_kind
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Float
from vitreous.weights.model_folder import ModelFolder

LONGEST_NUMBER = 10
"""Digits from which on a text isn't read as a class's number."""


class Method(NamedTuple):
    """One kind of map."""

    what: str
    """A sentence on what it shows."""
    by: tuple[str, ...] = ()
    """Options that narrow it: layer, head, target."""


METHODS = {
    "attention": Method("What one layer's attention contributes to the image's representation.", ("layer", "head")),
    "pooling": Method("What the query of the attention pooling looks at.", ("head",)),
    "rollout": Method("Attention through all layers, multiplied out (2005.00928)."),
    "relevance": Method(
        "Attention through all layers, weighted by its contribution to the class (2103.15679).", ("target",)
    ),
    "gradient": Method(
        "One layer's attention, weighted by its contribution to the class.", ("layer", "head", "target")
    ),
    "grad-cam": Method(
        "The convolutions' maps, weighted by their contribution to the class (1610.02391).", ("layer", "target")
    ),
    "activation": Method("How strongly each place responds, for any class.", ("layer",)),
}
"""Every method, by its name in the command and on the page."""


NO_ROLLOUT = (
    "rollout multiplies the attention of all layers, but a Swin Transformer attends within windows and merges patches "
    "between stages, so there is no matrix of all patches to multiply"
)


@dataclass(frozen=True)
class MapOptions:
    """The map to compute."""

    method: str = "auto"
    """A name in `METHODS`; auto: the most informative one for the model."""
    layer: int | None = None
    """0 is the first, -1 the last; None: the last."""
    head: int | None = None
    """0 is the first; None: the mean over all."""
    target: str | int | None = None
    """The class to explain, by name or number; None: each image's most probable one."""


def list_fitting(folder: ModelFolder) -> list[str]:
    """Return the methods that fit a model, the most informative one first."""
    config = folder.model.config
    headed = bool(config.classes)
    if isinstance(folder.model, ConvNet):
        return [*(["grad-cam"] if headed else []), "activation"]
    if isinstance(folder.model, Swin):
        return [
            *(["grad-cam", "relevance"] if headed else []),
            "attention",
            *(["gradient"] if headed else []),
            "activation",
        ]
    found = ["relevance"] if headed else []
    found += ["rollout", *(["pooling"] if config.pool == "map" else []), "attention"]
    found += ["gradient"] if headed else []
    return [*found, *(["grad-cam"] if headed and config.stem.kind != "none" else []), "activation"]


def settle_options(options: MapOptions, folder: ModelFolder) -> MapOptions:
    """Return the options with method and class resolved, and layer and head counted from 0.

    Raises:
        UnknownName: no such method or class.
        ConfigError: a method that doesn't fit the model, no such layer or head, or an option that the method doesn't
            use.
    """
    known = list_fitting(folder)
    method = known[0] if options.method == "auto" else options.method
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if method == "rollout" and isinstance(folder.model, Swin):
        raise ConfigError(f"{NO_ROLLOUT}; these do: {', '.join(known)}")
    if method not in known:
        raise ConfigError(f"{method} doesn't fit {describe_kind(folder)}; these do: {', '.join(known)}")
    for name in ("layer", "head", "target"):
        if getattr(options, name) is not None and name not in METHODS[method].by:
            others = [other for other in known if name in METHODS[other].by]
            of = f"it is for {', '.join(others)}" if others else f"{describe_kind(folder)} doesn't use it"
            raise ConfigError(f"{method} takes no {name}; {of}")
    model = folder.model
    layer = None if options.layer is None else resolve_layer(options.layer, method, model)
    heads = count_heads(model, -1 if layer is None else layer)
    head = None if options.head is None else resolve_index(options.head, heads, "head")
    return replace(options, method=method, layer=layer, head=head, target=find_target(options.target, folder))


def resolve_layer(layer: int, method: str, model: Model) -> int:
    """Return a method's layer, which may count from the end, as one that counts from 0; raises ConfigError."""
    if method == "grad-cam" and isinstance(model, ViT):
        select_convolutions(model, layer)
        return 0
    return resolve_index(layer, count_layers(model), "layer")


def describe_kind(folder: ModelFolder) -> str:
    """Describe the kind of model, as far as methods depend on it."""
    kind = get_kind(folder.model.config)
    what = "this Vision Transformer" if kind == "vit" else name_kind(kind)
    return what if folder.model.config.classes else f"{what} without head"


def count_layers(model: Model) -> int:
    """Return the number of layers to choose from: blocks, or stages of a ResNet or EfficientNet."""
    return len(model.stages) if isinstance(model, ConvNet) else model.config.depth


def count_heads(model: Model, layer: int) -> int:
    """Return the number of a layer's heads."""
    if isinstance(model, Swin):
        return model.blocks[layer].attention.heads
    return 1 if isinstance(model, ConvNet) else model.config.heads


def find_target(target: str | int | None, folder: ModelFolder) -> int | None:
    """Return a class's number, given its name, its number, or that number as text; raises UnknownName, ConfigError."""
    if target is None or target in folder.classes:
        return None if target is None else folder.classes.index(str(target))
    if not isinstance(target, str):
        return resolve_index(target, folder.model.config.classes, "class")
    if target.isdecimal() and len(target) < LONGEST_NUMBER:
        return resolve_index(int(target), folder.model.config.classes, "class")
    raise UnknownName("class", target, folder.classes)


def compute_heat(
    model: Model, images: Float[Tensor, "batch channel row col"], targets: list[int], options: MapOptions
) -> tuple[Float[Tensor, "batch map_row map_col"], Float[Tensor, "batch head map_row map_col"] | None]:
    """Return the maps for settled options, of any scale, 0 or more, and each head's own if the method has heads.

    Args:
        model: the model for which the options were settled.
        images: as `model` takes them, normalised, on its device.
        targets: each image's class to explain; some methods don't use it.
        options: what `settle_options` returned.
    """
    layer = -1 if options.layer is None else options.layer
    if "head" in METHODS[options.method].by:
        heads = _compute_by_head(model, images, targets, options.method, layer)
        return heads.mean(dim=1) if options.head is None else heads[:, options.head], heads
    if options.method == "rollout":
        return compute_rollout(model, images), None
    if options.method == "relevance":
        compute = compute_window_relevance if isinstance(model, Swin) else compute_relevance
        return compute(model, images, targets), None
    if options.method == "grad-cam":
        return grad_cam(model, images, targets, layer), None
    return compute_activation_map(model, images, layer), None


def _compute_by_head(
    model: Model, images: Tensor, targets: list[int], method: str, layer: int
) -> Float[Tensor, "batch head map_row map_col"]:
    if method == "pooling":
        return pool_maps(model, images)
    if isinstance(model, Swin):
        if method == "gradient":
            return compute_window_gradient(model, images, targets, layer)
        return compute_window_attention(model, images, layer)
    if method == "gradient":
        return compute_gradient_attention(model, images, targets, layer)
    return read_attention(model, images, layer)


def compute_probabilities(
    folder: ModelFolder, images: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "batch label"]:
    """Return the model's probabilities in float64 on the CPU; without a head there are no labels."""
    if not folder.model.config.classes:
        return torch.zeros(len(images), 0, dtype=torch.float64)
    with torch.no_grad():
        return to_probabilities(folder.model(images).cpu().double(), folder)
