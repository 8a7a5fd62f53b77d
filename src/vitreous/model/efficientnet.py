"""EfficientNet (1905.11946): inverted units with squeeze and excitation, and batch norm. B0 to B7, and Noisy Student's L2."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.batch_norm import BatchNorm
from vitreous.model.convnet import ConvNet
from vitreous.model.convolutions import drop_maps, pad_same
from vitreous.model.draws import Dropout, DropPath, Place
from vitreous.model.efficientnet_config import (
    EfficientNetConfig,
    InvertedUnit,
    plan_efficientnet,
)
from vitreous.model.heads import build_classifier
from vitreous.model.parameters import FanOutNormal, Role, declare
from vitreous.shapes import Float


class Convolution(nn.Conv2d):
    """A convolution without bias, of all channels or of each by itself, padded for ceil(side / stride) outputs."""

    def __init__(
        self, channels: tuple[int, int], size: int, padding: str, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        same = padding == "same" and stride > 1
        groups = channels[0] if depthwise else 1
        super().__init__(*channels, size, stride, 0 if same else size // 2, groups=groups, bias=False)
        self.same = same
        self.roles = {"weight": Role(decays=True, start=FanOutNormal(groups), matrices=int(size == 1))}

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Pad and convolve."""
        return super().forward(pad_same(maps, self.kernel_size[0], self.stride[0]) if self.same else maps)


class NormedConvolution(nn.Module):
    """A convolution and its batch norm; with the activation, SiLU, unless it ends a unit."""

    def __init__(
        self,
        config: EfficientNetConfig,
        channels: tuple[int, int],
        size: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        ends: bool = False,
    ) -> None:
        super().__init__()
        self.conv = Convolution(channels, size, config.padding, stride, depthwise=depthwise)
        self.norm = BatchNorm(channels[1], config.norm_eps, config.norm_momentum)
        self.ends = ends

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Convolve, normalise and activate."""
        normed = self.norm(self.conv(maps))
        return normed if self.ends else F.silu(normed)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number between 0 and 1, computed from the means of all (1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        filters = Role(decays=True, start=FanOutNormal())
        self.squeeze = declare(nn.Conv2d(channels, squeezed, 1), weight=filters)
        self.excite = declare(nn.Conv2d(squeezed, channels, 1), weight=filters)

    def forward(self, maps: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Scale."""
        means = maps.mean((2, 3), keepdim=True)
        return maps * torch.sigmoid(self.excite(F.silu(self.squeeze(means))))


class MBConv(nn.Module):
    """MobileNetV2's inverted unit (1801.04381), with squeeze and excitation: expand, convolve each channel, contract."""

    def __init__(self, config: EfficientNetConfig, unit: InvertedUnit) -> None:
        super().__init__()
        self.expand = NormedConvolution(config, (unit.inputs, unit.inner)) if unit.inner != unit.inputs else None
        self.depthwise = NormedConvolution(config, (unit.inner, unit.inner), unit.kernel, unit.stride, depthwise=True)
        self.excitation = SqueezeExcitation(unit.inner, unit.squeezed)
        self.contract = NormedConvolution(config, (unit.inner, unit.outputs), ends=True)
        self.skips = unit.skips
        self.drop_path = Place(DropPath)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Return the branch, and where shapes allow it, the maps added to it."""
        inner = maps if self.expand is None else self.expand(maps)
        branch = self.contract(self.excitation(self.depthwise(inner)))
        if not self.skips:
            return branch
        return maps + drop_maps(self.drop_path, branch)


class EfficientNet(ConvNet):
    """A convolutional network of inverted units whose width, depth and images grow together, for images of any size.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them. In
    training, batch norm ties an image's result to its batch; in evaluation mode it doesn't.
    """

    config: EfficientNetConfig

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        self.root = NormedConvolution(config, (config.channels, config.root_channels), 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(*(MBConv(config, unit) for unit in stage)) for stage in plan_efficientnet(config)
        )
        self.norm = NormedConvolution(config, (config.widths[-1], config.last_channels))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = Place(Dropout)
        self.head = build_classifier(config.features, config.classes)
