"""What convolutional networks have in common: a root, stages of units, a norm, and the mean of the last maps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, cast

from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.model.config import RegularisationConfig
from vitreous.model.draws import Dropout, Keys, Place, fill_places, set_rate
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.encoder import set_drop_path
from vitreous.model.hooks import gather_outputs, name_stages
from vitreous.model.layers import check_channels
from vitreous.model.meta_device import rebuild
from vitreous.model.parameters import Trunk
from vitreous.model.resnet_config import ResNetConfig
from vitreous.shapes import Float, Int32, Size


class ConvNet(nn.Module):
    """Maps of images, for images of any size. A subclass makes `config`, and the modules in this order.

    `root`: the first layers. `stages`: units, each `nn.Sequential`. `norm`: what follows the last stage. `pool`: from its
    maps to features. `dropout`: of features, before the head. `head`: to logits, or the identity. Units that stochastic depth can drop have a `drop_path`.
    """

    config: ResNetConfig | EfficientNetConfig
    root: nn.Module
    stages: nn.ModuleList
    norm: nn.Module
    pool: nn.Module
    dropout: Place
    head: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.regularisation = RegularisationConfig()
        """What training leaves out at random; see `regularise`."""
        self.keys = Keys()

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The layers that output logits, by name: replaced for other classes."""
        return {"head": self.head}

    @property
    def units(self) -> list[nn.Module]:
        """The units of all stages, in order."""
        return [unit for stage in self.stages for unit in cast("nn.Sequential", stage)]

    @property
    def trunk(self) -> Trunk:
        """All but the head; the root takes the role of the patches, the units that of the blocks."""
        return Trunk([], [self.root], self.units, self.norm)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features if the model has no classes.

        Raises:
            ConfigError: the images have another number of channels than the model.
        """
        return self.head(self.dropout(self.features(images)))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, which is the head's input."""
        return self.pool(self.last_maps(images))

    def last_maps(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features row2 col2"]:
        """Return the maps that are averaged, after the final norm and activation, channels first."""
        check_channels(images, self.config.channels)
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
            norm: pass the last stage's maps through what follows them (ResNet: norm and activation; EfficientNet: the last
                convolution too); earlier stages have none of their own.

        Raises:
            UnknownName: a stage that the model doesn't have.
        """
        names = name_stages(len(self.stages), layers, norm)
        found = self.intermediates(images, names)
        return [found[name].permute(0, 2, 3, 1) for name in names]

    def resize(self, image: tuple[int, int], rule: str = "", *, share: bool = False) -> Self:
        """Return this model, meant for images of another size. No weight changes, so the rule has no effect.

        `share` reuses the tensors themselves instead of copies.
        """
        other = rebuild(self, replace(self.config, image=tuple(image)), self.state_dict(), share=share)
        other.regularise(self.regularisation)
        return other

    def regularise(self, config: RegularisationConfig) -> None:
        """Set what is left out at random in training mode: features before the head, and units; raises ConfigError for
        patches."""
        if config.patch_dropout:
            what = {"resnet": "a ResNet", "efficientnet": "an EfficientNet"}[self.config.KIND]
            raise ConfigError(
                f"regularisation.patch_dropout is {config.patch_dropout:g}, but {what} has no patches; leave it out"
            )
        self.regularisation = config
        set_rate(self, Dropout, config.dropout)
        set_drop_path(self.units, config)
        fill_places(self, self.keys)

    def set_resolution(self, image: Size | None) -> None:
        """Accept images of another size: nothing changes, since a convolutional network accepts any."""

    def set_examples(self, keys: Int32[Tensor, " batch"] | None) -> None:
        """Say which examples the next images are, by a number each; see `ViT.set_examples`."""
        self.keys.of_examples = keys

    def intermediates(
        self, images: Float[Tensor, "batch channel row col"], names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Return named intermediates of one forward pass, the same bits as in `forward`.

        Names: "root", "stage.0" ... (the residual stream after each stage), "norm" (the maps that are averaged), "pooled",
        "logits".

        Raises:
            UnknownName: a name that is none of these.
        """
        places = {"root": self.root} | {f"stage.{index}": stage for index, stage in enumerate(self.stages)}
        places |= {"norm": self.norm, "pooled": self.pool, "logits": self.head}
        return gather_outputs(self, images, places, names)
