"""BiT's ResNet V2 (1912.11370): group norm for batch norm, standardised convolutions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.convolutions import NormReLU, PreActivationUnit, StdConv
from vitreous.model.hooks import gather_outputs
from vitreous.model.meta_device import rebuild
from vitreous.model.parameters import Role
from vitreous.model.resnet_config import GROUPS, EpsilonConfig, ResNetConfig, StemConfig, Unit, plan_stages
from vitreous.shapes import Size

Kernel = Float[Tensor, "output inputs row col"]


def standardise_kernel(kernel: Kernel, epsilons: EpsilonConfig) -> Kernel:
    """Bring the values of each output's kernel to mean 0 and variance 1 (1903.10520), but for the epsilon."""
    if epsilons.kernel_on == "variance":  # batch norm of the values, with the outputs for channels
        values = F.batch_norm(kernel.flatten(1)[None], None, None, training=True, eps=epsilons.kernel)
        return values.view_as(kernel)
    variance, mean = torch.var_mean(kernel, dim=(1, 2, 3), correction=0, keepdim=True)
    deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # the root of 0 has no gradient
    return (kernel - mean) / (deviation + epsilons.kernel)


class StdConv(nn.Conv2d):
    """A convolution without bias by a standardised kernel.

    Padding "fixed" is the same on all sides; "same" is TensorFlow's: at an even image and a stride of 2, one less at
    the top and left. With either, a stride of 2 halves rows and cols, rounded up.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        size: int,
        epsilons: EpsilonConfig,
        stride: int = 1,
        padding: str = "fixed",
    ) -> None:
        fixed = padding == "fixed" or stride == 1
        super().__init__(*channels, size, stride, (size - 1) // 2 if fixed else 0, bias=False)
        self.fixed, self.epsilons = fixed, epsilons

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Standardise the kernel, then convolve."""
        if not self.fixed:
            maps = pad_same(maps, self.kernel_size[0], self.stride[0])
        return F.conv2d(maps, standardise_kernel(self.weight, self.epsilons), None, self.stride, self.padding)


def pad_same(
    maps: Float[Tensor, "batch channel row col"], size: int, stride: int, value: float = 0.0
) -> Float[Tensor, "batch channel row2 col2"]:
    """Pad as TensorFlow does for "SAME", for ceil(side / stride) outputs; the odd one goes to the bottom and right."""
    rows, cols = (max(0, (-(-side // stride) - 1) * stride + size - side) for side in maps.shape[2:])
    return F.pad(maps, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2), value=value)


class UnitConv(StdConv):
    """A convolution in a unit of a ResNet: flattened, its kernel is a matrix that Muon takes, as those of airbench94 are."""

    roles: ClassVar[dict[str, Role]] = {"weight": Role(decays=True, matrices=1)}


class NormReLU(nn.GroupNorm):
    """Group norm (1803.08494), then ReLU."""

    def __init__(self, channels: int, epsilons: EpsilonConfig, groups: int = GROUPS) -> None:
        super().__init__(groups, channels, eps=epsilons.norm)

    def forward(self, maps: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Normalise each group of channels over itself and the whole map; cut negative values off."""
        return F.relu(super().forward(maps))


class PreActivationUnit(nn.Module):
    """BiT's bottleneck unit: norm and ReLU before each convolution (1603.05027), the stride on the 3x3."""

    def __init__(self, unit: Unit, eps: EpsilonConfig, groups: int = GROUPS) -> None:
        super().__init__()
        self.norm1 = NormReLU(unit.inputs, eps, groups)
        self.conv1 = UnitConv((unit.inputs, unit.inner), 1, eps)
        self.norm2 = NormReLU(unit.inner, eps, groups)
        self.conv2 = UnitConv((unit.inner, unit.inner), 3, eps, unit.stride)
        self.norm3 = NormReLU(unit.inner, eps, groups)
        self.conv3 = UnitConv((unit.inner, unit.outputs), 1, eps)
        self.project = UnitConv((unit.inputs, unit.outputs), 1, eps, unit.stride) if unit.projects else None

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add to the maps, or to their projection, what three convolutions make of them."""
        active = self.norm1(maps)
        shortcut = maps if self.project is None else self.project(active)
        return shortcut + self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(active)))))


class BasicUnit(nn.Module):
    """ResNet-18's unit (1512.03385, figure 5), with norm and ReLU before each convolution (1603.05027)."""

    def __init__(self, unit: Unit, eps: EpsilonConfig, groups: int = GROUPS) -> None:
        super().__init__()
        self.norm1 = NormReLU(unit.inputs, eps, groups)
        self.conv1 = UnitConv((unit.inputs, unit.outputs), 3, eps, unit.stride)
        self.norm2 = NormReLU(unit.outputs, eps, groups)
        self.conv2 = UnitConv((unit.outputs, unit.outputs), 3, eps)
        self.project = UnitConv((unit.inputs, unit.outputs), 1, eps, unit.stride) if unit.projects else None

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add to the maps, or to their projection, what two convolutions make of them."""
        active = self.norm1(maps)
        shortcut = maps if self.project is None else self.project(active)
        return shortcut + self.conv2(self.norm2(self.conv1(active)))


class PostActivationUnit(nn.Module):
    """The hybrids' bottleneck unit: norm after each convolution, ReLU after the sum, padding as TensorFlow's."""

    def __init__(self, unit: Unit, eps: EpsilonConfig) -> None:
        super().__init__()
        self.conv1 = StdConv((unit.inputs, unit.inner), 1, eps)
        self.norm1 = NormReLU(unit.inner, eps)
        self.conv2 = StdConv((unit.inner, unit.inner), 3, eps, unit.stride, "same")
        self.norm2 = NormReLU(unit.inner, eps)
        self.conv3 = StdConv((unit.inner, unit.outputs), 1, eps)
        self.last_norm = nn.GroupNorm(GROUPS, unit.outputs, eps=eps.norm)
        self.project = self.project_norm = None
        if unit.projects:
            self.project = StdConv((unit.inputs, unit.outputs), 1, eps, unit.stride, "same")
            self.project_norm = nn.GroupNorm(GROUPS, unit.outputs, eps=eps.norm)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add to the maps, or to their projection, what three convolutions make of them; then ReLU."""
        shortcut = maps
        if self.project is not None and self.project_norm is not None:
            shortcut = self.project_norm(self.project(maps))
        branch = self.last_norm(self.conv3(self.norm2(self.conv2(self.norm1(self.conv1(maps))))))
        return F.relu(shortcut + branch)


class Root(nn.Module):
    """BiT's first layers: a 7x7 convolution, then the maximum over 3x3, each of stride 2; or one small convolution alone.

    The border is padded with zeros for the maximum too, as in BiT, though there are negative values inside.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.small = config.root != "7x7"
        size, stride = {"7x7": (7, 2), "3x3": (3, 1), "2x2": (2, 2)}[config.root]
        padding = "same" if config.root == "2x2" else "fixed"  # an odd row or column is padded, not lost
        self.conv = StdConv((config.channels, config.root_outputs), size, config.epsilons, stride, padding)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch root row2 col2"]:
        """Return maps of a quarter of the rows and cols, rounded up; from a root of 3x3, of all of them; of 2x2, half."""
        maps = self.conv(images)
        return maps if self.small else F.max_pool2d(F.pad(maps, (1, 1, 1, 1)), 3, 2)


class ResNet(nn.Module):
    """A residual network of bottleneck units, or of basic ones, for images of any size.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.root = Root(config)
        build = BasicUnit if config.unit == "basic" else PreActivationUnit
        self.stages = nn.ModuleList(
            nn.Sequential(*(build(unit, config.epsilons, config.groups) for unit in stage))
            for stage in plan_stages(config.units, config.root_outputs, config.unit)
        )
        self.norm = NormReLU(config.features, config.epsilons, config.groups)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head: nn.Module = nn.Identity()
        if config.classes:
            self.head = declare(nn.Linear(config.features, config.classes), weight=HEAD)

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The layers that give logits, by name: made anew for other classes."""
        return {"head": self.head}

    @property
    def trunk(self) -> Trunk:
        """All but the head; the root stands for the patches, the units for the blocks."""
        return Trunk([], [self.root], [unit for stage in self.stages for unit in stage], self.norm)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features where the model has no classes.

        Raises:
            ConfigError: the images have another number of channels than the model.
        """
        return self.head(self.features(images))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return what represents each image: what the head reads."""
        return self.pool(self.last_maps(images))

    def last_maps(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features row2 col2"]:
        """Return the last stage's maps after the final norm and ReLU, channels first."""
        if images.shape[1] != self.config.channels:
            raise ConfigError(
                f"the model expects images of {self.config.channels} channels (batch, channel, row, col), "
                f"not {tuple(images.shape)}"
            )
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
            layers: stages, 0 the first, -1 the last; each has its own grid and width.
            norm: pass the last stage's maps through the final norm and ReLU; earlier stages have none of their own.

        Raises:
            UnknownName: a stage that the model doesn't have.
        """
        count = len(self.stages)
        places = [layer % count if -count <= layer < count else layer for layer in layers]
        names = ["norm" if norm and place == count - 1 else f"stage.{place}" for place in places]
        found = self.intermediates(images, names)
        return [found[name].permute(0, 2, 3, 1) for name in names]

    def resized(self, image: tuple[int, int], rule: str = "", *, share: bool = False) -> "ResNet":
        """Return this model, meant for images of another size. No weight changes, so there is no rule to choose.

        `share` takes the very tensors instead of copies.
        """
        return rebuild(self, replace(self.config, image=tuple(image)), self.state_dict(), share=share)

    def at_resolution(self, image: Size | None) -> None:
        """See images of another size: nothing changes, since a ResNet sees any."""

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
