"""The learned filters of the first layer (2010.11929, figure 7, left)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.insight.tokens import require_vit
from vitreous.model.convnet import ConvNet
from vitreous.model.convolutions import StdConv, standardise_kernel
from vitreous.model.stems import ConvStem, ResNetStem
from vitreous.model.swin import Swin
from vitreous.shapes import Float64

SHOWN = 28
"""Components that figure 7 shows."""


@dataclass(frozen=True)
class Filters:
    """Principal components of the first layer's filters, the first explaining most."""

    components: Float64[Tensor, "component channel row col"]
    """Unit vectors; the sign of each is chosen so that its largest value is positive."""
    explained: Float64[Tensor, " component"]
    """Share of the filters' variance, 0 to 1."""
    of: str
    """Description of the filters."""


def find_components(model: nn.Module, count: int = SHOWN) -> Filters:
    """Return the principal components of the patch filters, or of the first convolution of a hybrid, a ResNet or an EfficientNet.

    Standardised convolutions are standardised first, as in the forward pass. There are at most as many components as
    filters, or as values in one.

    Raises:
        ConfigError: none of our models.
    """
    kernel, of = read_filters(model)
    rows = kernel.flatten(1)
    _, strength, components = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    components, variance = components[:count], strength.square()
    sign = components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
    explained = variance[:count] / variance.sum().clamp_min(torch.finfo(variance.dtype).tiny)
    return Filters((components * sign).unflatten(1, tuple(kernel.shape[1:])), explained, of)


def read_filters(model: nn.Module) -> tuple[Float64[Tensor, "filter channel row col"], str]:
    """Return the first layer's filters, in float64 on the CPU, and their description."""
    if isinstance(model, ConvNet):
        return _read_kernel(model.root.conv), "the first convolution"
    if isinstance(model, Swin):
        return model.patches.kernel.detach().cpu().double(), "the patch embedding"
    vit = require_vit(model, "patch filters")
    stem = vit.patches.stem
    if isinstance(stem, ResNetStem):
        return _read_kernel(stem.conv), "the first convolution of the stem"
    if isinstance(stem, ConvStem):
        convolution = stem[0]
        assert isinstance(convolution, nn.Conv2d)
        return _read_kernel(convolution), "the first convolution of the stem"
    return vit.patches.kernel.detach().cpu().double(), "the patch embedding"


def _read_kernel(layer: nn.Conv2d) -> Float64[Tensor, "filter channel row col"]:
    kernel = layer.weight.detach().cpu().double()
    return standardise_kernel(kernel, layer.epsilons) if isinstance(layer, StdConv) else kernel
