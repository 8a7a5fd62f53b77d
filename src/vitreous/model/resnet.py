"""BiT's ResNet V2 (1912.11370): group norm for batch norm, standardised convolutions."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.convnet import ConvNet
from vitreous.model.convolutions import (
    ACTIVATIONS,
    BasicUnit,
    BatchNormActivation,
    GroupNormActivation,
    HaarConv,
    PooledUnit,
    PostPooledUnit,
    PreActivationUnit,
    StdConv,
)
from vitreous.model.draws import Dropout, Place
from vitreous.model.heads import build_classifier
from vitreous.model.resnet_config import POOLED, ResNetConfig, UnitKind
from vitreous.shapes import Float

UNITS: dict[UnitKind, type[nn.Module]] = {
    "bottleneck": PreActivationUnit,
    "basic": BasicUnit,
    "pooled": PooledUnit,
    "pooled-post": PostPooledUnit,
}


class Root(nn.Module):
    """BiT's first layers: a 7x7 convolution, then the maximum over 3x3, each with stride 2; or a single small
    convolution.

    The border is padded with zeros for the maximum too, as in BiT, although there are negative values inside.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.small = config.root != "7x7"
        size, stride = {"7x7": (7, 2), "3x3": (3, 1), "2x2": (2, 2)}[config.root]
        padding = "same" if config.root == "2x2" else "fixed"  # an odd row or column is padded, not lost
        self.conv = StdConv((config.channels, config.root_outputs), size, config.epsilons, stride, padding)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch root row2 col2"]:
        """Return maps with a quarter of the rows and cols, rounded up; with a root of 3x3, all of them; with 2x2,
        half."""
        maps = self.conv(images)
        return maps if self.small else F.max_pool2d(F.pad(maps, (1, 1, 1, 1)), 3, 2)


class HaarRoot(nn.Module):
    """Sums and differences of 2x2 pixels and of colours, and their negatives; then the activation, which keeps either."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.conv = HaarConv((config.channels, config.root_outputs))
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch root row col"]:
        """Return maps of all rows and cols."""
        return self.activation(self.conv(images))


class ResNet(ConvNet):
    """A residual network of bottleneck, basic or pooled units, for images of any size.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        norm = partial(
            GroupNormActivation, epsilons=config.epsilons, groups=config.groups, activation=config.activation
        )
        if config.norm == "batch":
            norm = partial(BatchNormActivation, epsilons=config.epsilons, activation=config.activation)
        self.root = HaarRoot(config) if config.root == "haar" else Root(config)
        self.stages = nn.ModuleList(
            nn.Sequential(*(UNITS[unit.kind](unit, config.epsilons, norm) for unit in stage)) for stage in config.stages
        )
        self.norm = norm(config.features) if config.final_norm else nn.Identity()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = Place(Dropout)
        self.head = build_classifier(config.features, config.classes)

    def last_maps(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features row2 col2"]:
        """Return the last stage's maps after the final norm and activation, if there are any, channels first."""
        if self.config.unit in POOLED:  # on a CPU, channels last take three quarters of the time per step
            images = images.contiguous(memory_format=torch.channels_last)
        return super().last_maps(images)
