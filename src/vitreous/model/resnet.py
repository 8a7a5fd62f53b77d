"""BiT's ResNet V2 (1912.11370): group norm for batch norm, standardised convolutions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.convolutions import BasicUnit, NormActivation, PooledUnit, PreActivationUnit, StdConv
from vitreous.model.hooks import gather_outputs
from vitreous.model.layers import check_channels
from vitreous.model.meta_device import rebuild
from vitreous.model.parameters import HEAD, Trunk, declare
from vitreous.model.resnet_config import ResNetConfig, UnitKind, plan_stages
from vitreous.shapes import Size

UNITS: dict[UnitKind, type[nn.Module]] = {"bottleneck": PreActivationUnit, "basic": BasicUnit, "pooled": PooledUnit}


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


class ResNet(nn.Module):
    """A residual network of bottleneck, basic or pooled units, for images of any size.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        norm = partial(NormActivation, epsilons=config.epsilons, groups=config.groups, activation=config.activation)
        self.root = Root(config)
        self.stages = nn.ModuleList(
            nn.Sequential(*(UNITS[unit.kind](unit, config.epsilons, norm) for unit in stage))
            for stage in plan_stages(config.units, config.root_outputs, config.unit)
        )
        self.norm = norm(config.features)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head: nn.Module = nn.Identity()
        if config.classes:
            self.head = declare(nn.Linear(config.features, config.classes), weight=HEAD)

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The layers that output logits, by name: replaced for other classes."""
        return {"head": self.head}

    @property
    def trunk(self) -> Trunk:
        """All but the head; the root takes the role of the patches, the units that of the blocks."""
        return Trunk([], [self.root], [unit for stage in self.stages for unit in stage], self.norm)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features if the model has no classes.

        Raises:
            ConfigError: the images have another number of channels than the model.
        """
        return self.head(self.features(images))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, which is the head's input."""
        return self.pool(self.last_maps(images))

    def last_maps(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features row2 col2"]:
        """Return the last stage's maps after the final norm and ReLU, channels first."""
        check_channels(images, self.config.channels)
        if self.config.unit == "pooled":  # on a CPU, channels last take three quarters of the time per step
            images = images.contiguous(memory_format=torch.channels_last)
        z = self.root(images)
        for stage in self.stages:
            z = stage(z)
        return self.norm(z)

    def maps(
        self, images: Float[Tensor, "batch channel row col"], layers: Sequence[int], *, norm: bool = True
    ) -> list[Float[Tensor, "batch grid_row grid_col dim"]]:
        """Return the maps of some stages, channels last, for detection, segmentation and the like.

        Args:
            images: as in `forward`.
            layers: stages; 0 is the first, -1 the last; each has its own grid and width.
            norm: pass the last stage's maps through the final norm and ReLU; earlier stages have none of their own.

        Raises:
            UnknownName: a stage that the model doesn't have.
        """
        count = len(self.stages)
        places = [layer % count if -count <= layer < count else layer for layer in layers]
        names = ["norm" if norm and place == count - 1 else f"stage.{place}" for place in places]
        found = self.intermediates(images, names)
        return [found[name].permute(0, 2, 3, 1) for name in names]

    def resize(self, image: tuple[int, int], rule: str = "", *, share: bool = False) -> "ResNet":
        """Return this model, meant for images of another size. No weight changes, so the rule has no effect.

        `share` reuses the tensors themselves instead of copies.
        """
        return rebuild(self, replace(self.config, image=tuple(image)), self.state_dict(), share=share)

    def set_resolution(self, image: Size | None) -> None:
        """Accept images of another size: nothing changes, since a ResNet accepts any."""

    def set_examples(self, keys: Int32[Tensor, " batch"] | None) -> None:
        """Say which examples come next: nothing changes, since a ResNet leaves nothing out."""

    def intermediates(
        self, images: Float[Tensor, "batch channel row col"], names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Return named intermediates of one forward pass, the same bits as in `forward`.

        Names: "root" (after the maximum), "stage.0" ... (the residual stream after each stage), "norm" (the last
        stage's maps after the final norm and ReLU), "pooled", "logits".

        Raises:
            UnknownName: a name that is none of these.
        """
        places = {"root": self.root} | {f"stage.{index}": stage for index, stage in enumerate(self.stages)}
        places |= {"norm": self.norm, "pooled": self.pool, "logits": self.head}
        return gather_outputs(self, images, places, names)
