"""A model's output at a named layer, as one vector for each image.

A layer is named by an intermediate of the model and, after a colon, how its tokens become one vector:

    features          what the head reads (pooled, after pre-logits); the default
    mean              the mean of the patches at the end of the encoder
    pooled            before pre-logits
    norm              the sequence after the final norm
    block.5           the residual stream after block 5, the first being block.0; block.-1 is the last
    block.5:mean      ... the mean of its patches
    block.5:class     ... its [class] token
    stage.2, root     of a ResNet or EfficientNet, the mean over rows and columns; a Swin Transformer has stages and blocks

A sequence without a colon is represented by its [class] token if the model pools by it, and by the mean of its patches
otherwise.
"""

from dataclasses import dataclass

from torch import Tensor

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.factory import Model
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Float

WAYS = ("mean", "class")
"""How a sequence becomes a vector."""
VIT_LAYERS = ("features", "mean", "pooled", "norm", "pre_logits", "logits", "patches", "embedded")
CONVNET_LAYERS = ("features", "mean", "pooled", "norm", "logits", "root")
SWIN_LAYERS = ("features", "mean", "pooled", "norm", "logits", "patches")


@dataclass(frozen=True)
class Layer:
    """A layer of a model and how its tokens become one vector."""

    name: str
    """Name in `Model.intermediates`; "features" for the input of the head."""
    way: str = ""
    """One of WAYS, or "" if there is no choice."""

    def __str__(self) -> str:
        return f"{self.name}:{self.way}" if self.way else self.name


def layer_names(model: Model) -> list[str]:
    """Return the names of a model's layers in the order of the forward pass, after "features" and the like."""
    if isinstance(model, ViT):
        return [*VIT_LAYERS, *(f"block.{index}" for index in range(model.config.depth))]
    if isinstance(model, Swin):
        blocks = [f"block.{index}" for index in range(model.config.depth)]
        return [*SWIN_LAYERS, *blocks, *(f"stage.{index}" for index in range(len(model.stages)))]
    return [*CONVNET_LAYERS, *(f"stage.{index}" for index in range(len(model.stages)))]


def find_layer(model: Model, text: str) -> Layer:
    """Return a model's layer by name.

    Raises:
        UnknownName: no such layer, or no such way of turning it into one vector.
        ConfigError: the [class] token of a model that has none.
    """
    name, colon, way = str(text).partition(":")
    known = layer_names(model)
    if name.startswith(("block.-", "stage.-")) and name[7:].isdecimal():
        ordered = [one for one in known if one.startswith(name[:6])]
        back = int(name[7:])
        name = ordered[-back] if 0 < back <= len(ordered) else name
    if name not in known:
        raise UnknownName("layer", text, known)
    if colon and way not in WAYS:
        raise UnknownName("way to make one vector of tokens", way, WAYS)
    if not isinstance(model, ViT):
        return Layer("pooled" if name == "mean" else name)
    config = model.config
    if way == "class" and not config.class_token:
        raise ConfigError(f"layer {text!r}: the model has no [class] token; use {name}:mean")
    if name == "mean":
        name, way = "norm", "mean"
    if name == "norm" and config.final_norm != "tokens":  # the norm comes after pooling, or nowhere
        name = f"block.{config.depth - 1}"
    if name == "patches":
        return Layer(name, "mean")
    if name in ("features", "pooled", "pre_logits", "logits"):
        return Layer(name)
    return Layer(name, way or ("class" if config.class_token and config.pool == "class" else "mean"))


def read_layers(
    model: Model, images: Float[Tensor, "batch channel row col"], layers: list[Layer]
) -> list[Float[Tensor, "batch features"]]:
    """Return each layer's vectors for normalised images, from one forward pass, in float32."""
    if layers == [Layer("features")]:
        return [model.features(images).float()]
    places = ["pre_logits" if isinstance(model, ViT) else "pooled", *(one.name for one in layers)]
    found = model.intermediates(images, list(dict.fromkeys(one for one in places if one != "features")))
    found["features"] = found[places[0]]
    return [reduce(model, layer, found[layer.name]).float() for layer in layers]


def reduce(model: Model, layer: Layer, found: Tensor) -> Float[Tensor, "batch features"]:
    """Turn a layer's output into one vector: (batch dim), (batch token dim) or (batch channel row col)."""
    if found.ndim == 4:
        return found.mean((2, 3))
    if found.ndim == 2:
        return found
    prefix = model.config.prefix if isinstance(model, ViT) and layer.name != "patches" else 0
    return found[:, 0] if layer.way == "class" else found[:, prefix:].mean(1)


def stream_names(model: Model) -> list[str]:
    """Return the names of the residual stream's layers in order, with each patch's vector averaged."""
    if isinstance(model, ViT):
        return ["embedded:mean", *(f"block.{index}:mean" for index in range(model.config.depth))]
    if isinstance(model, Swin):
        return ["patches", *(f"block.{index}" for index in range(model.config.depth))]
    return ["root", *(f"stage.{index}" for index in range(len(model.stages)))]
