"""The stem before the patches of a hybrid: a ResNet, or a few convolutions."""

from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.convolutions import GroupNormActivation, PostActivationUnit, StdConv, pad_same
from vitreous.model.resnet_config import StemConfig, plan_stages
from vitreous.shapes import Float


class ResNetStem(nn.Module):
    """The ResNet below the paper's hybrids: a root and stages, whose last map is cut into patches."""

    def __init__(self, stem: StemConfig, channels: int) -> None:
        super().__init__()
        self.conv = StdConv((channels, stem.root_outputs), 7, stem.epsilons, 2, "same")
        self.norm = GroupNormActivation(stem.root_outputs, stem.epsilons)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(PostActivationUnit(unit, stem.epsilons) for unit in stage))
                for stage in plan_stages(stem.units, stem.root_outputs)
            )
        )

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features row2 col2"]:
        """Return the last stage's maps, or the root's where there are no stages."""
        z = pad_same(self.norm(self.conv(images)), 3, 2, value=float("-inf"))
        return self.stages(F.max_pool2d(z, 3, 2))


class ConvStem(nn.Sequential):
    """3x3 convolutions of stride 2, each with group norm of one group and GELU (2106.14881, with another norm)."""

    def __init__(self, stem: StemConfig, channels: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *stem.convolutions), stem.convolutions, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.GroupNorm(1, outputs), nn.GELU()]
        super().__init__(*layers)


def build_stem(config: StemConfig, channels: int) -> nn.Module:
    """Return the configured stem; without one, the identity."""
    return {"none": lambda *_: nn.Identity(), "resnet": ResNetStem, "conv": ConvStem}[config.kind](config, channels)
