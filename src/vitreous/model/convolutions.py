"""The building blocks of BiT's ResNets and the hybrids' stems: standardised convolutions, group norm and bottleneck
units."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.batch_norm import BatchNorm
from vitreous.model.draws import DropPath, Place
from vitreous.model.parameters import ZEROS, LeCunNormal, Role, declare
from vitreous.model.resnet_config import GROUPS, HAAR_FILTERS, EpsilonConfig, Unit
from vitreous.shapes import Float, Float64

Kernel = Float[Tensor, "output inputs row col"]

BATCH_MOMENTUM = 0.1
"""Share of a batch's statistics in the running ones after a step, as in torch."""


def standardise_kernel(kernel: Kernel, epsilons: EpsilonConfig) -> Kernel:
    """Standardise the values of each output's kernel to mean 0 and variance 1 (1903.10520), up to the epsilon."""
    if epsilons.kernel_on == "variance":  # batch norm of the values, with the outputs as channels
        values = F.batch_norm(kernel.flatten(1)[None], None, None, training=True, eps=epsilons.kernel)
        return values.view_as(kernel)
    variance, mean = torch.var_mean(kernel, dim=(1, 2, 3), correction=0, keepdim=True)
    deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # the root of 0 has no gradient
    return (kernel - mean) / (deviation + epsilons.kernel)


class StdConv(nn.Conv2d):
    """A convolution without bias, with a standardised kernel.

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
    """Pad like TensorFlow's "SAME", for ceil(side / stride) outputs; the odd pixel goes to the bottom and right."""
    # The quotient is of positive numbers: where sides are left open, ONNX would round that of a negative one up.
    rows, cols = (max(0, ((side + stride - 1) // stride - 1) * stride + size - side) for side in maps.shape[2:])
    return F.pad(maps, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2), value=value)


class UnitConv(StdConv):
    """A convolution in a unit of a ResNet: flattened, its kernel is a matrix for Muon, as in airbench94."""

    roles: ClassVar[dict[str, Role]] = {"weight": Role(decays=True, start=LeCunNormal(), matrices=1)}


ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}
"""What follows a norm."""


class GroupNormActivation(nn.GroupNorm):
    """Group norm (1803.08494), then ReLU or GELU."""

    def __init__(
        self, channels: int, epsilons: EpsilonConfig, groups: int = GROUPS, activation: Literal["relu", "gelu"] = "relu"
    ) -> None:
        super().__init__(groups, channels, eps=epsilons.norm)
        self.activation = ACTIVATIONS[activation]

    def forward(self, maps: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Normalise each group of channels over itself and the whole map; then cut off, or damp, negative values."""
        return self.activation(super().forward(maps))


class BatchNormActivation(BatchNorm):
    """Batch norm, then ReLU or GELU."""

    def __init__(self, channels: int, epsilons: EpsilonConfig, activation: Literal["relu", "gelu"] = "relu") -> None:
        super().__init__(channels, epsilons.norm, BATCH_MOMENTUM)
        self.activation = ACTIVATIONS[activation]

    def forward(self, maps: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Normalise each channel over the batch and the whole map; then cut off, or damp, negative values."""
        return self.activation(super().forward(maps))


Norm = Callable[[int], nn.Module]
"""Makes the norm and activation for a number of channels."""


def drop_maps(
    drop_path: Place, branch: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "batch channel row col"]:
    """Return a unit's branch, or in training for some examples zeros in its place (stochastic depth)."""
    return drop_path(branch.flatten(2)).view_as(branch) if drop_path.rate else branch


class PreActivationUnit(nn.Module):
    """BiT's bottleneck unit: norm and ReLU before each convolution (1603.05027), the stride on the 3x3."""

    def __init__(self, unit: Unit, eps: EpsilonConfig, norm: Norm) -> None:
        super().__init__()
        self.norm1 = norm(unit.inputs)
        self.conv1 = UnitConv((unit.inputs, unit.inner), 1, eps)
        self.norm2 = norm(unit.inner)
        self.conv2 = UnitConv((unit.inner, unit.inner), 3, eps, unit.stride)
        self.norm3 = norm(unit.inner)
        self.conv3 = UnitConv((unit.inner, unit.outputs), 1, eps)
        self.project = UnitConv((unit.inputs, unit.outputs), 1, eps, unit.stride) if unit.projects else None
        self.drop_path = Place(DropPath)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add the output of three convolutions to the maps, or to their projection."""
        active = self.norm1(maps)
        shortcut = maps if self.project is None else self.project(active)
        return shortcut + drop_maps(self.drop_path, self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(active))))))


class BasicUnit(nn.Module):
    """ResNet-18's unit (1512.03385, figure 5), with norm and ReLU before each convolution (1603.05027)."""

    def __init__(self, unit: Unit, eps: EpsilonConfig, norm: Norm) -> None:
        super().__init__()
        self.norm1 = norm(unit.inputs)
        self.conv1 = UnitConv((unit.inputs, unit.outputs), 3, eps, unit.stride)
        self.norm2 = norm(unit.outputs)
        self.conv2 = UnitConv((unit.outputs, unit.outputs), 3, eps)
        self.project = UnitConv((unit.inputs, unit.outputs), 1, eps, unit.stride) if unit.projects else None
        self.drop_path = Place(DropPath)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add the output of two convolutions to the maps, or to their projection."""
        active = self.norm1(maps)
        shortcut = maps if self.project is None else self.project(active)
        return shortcut + drop_maps(self.drop_path, self.conv2(self.norm2(self.conv1(active))))


class PooledUnit(nn.Module):
    """A stage of the small networks that learn CIFAR-10 fastest (Page's ResNet-9, 2018; airbench94, 2404.00498), with norm and
    activation before each convolution: 3x3, the maximum over 2x2, and the shortcut around another 3x3.

    An odd row or column has a maximum of its own, so rows and columns are halved and rounded up.
    """

    def __init__(self, unit: Unit, eps: EpsilonConfig, norm: Norm) -> None:
        super().__init__()
        self.norm1 = norm(unit.inputs)
        self.conv1 = UnitConv((unit.inputs, unit.outputs), 3, eps)
        self.norm2 = norm(unit.outputs)
        self.conv2 = UnitConv((unit.outputs, unit.outputs), 3, eps)
        self.drop_path = Place(DropPath)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Convolve and halve, then add another convolution of the result."""
        halved = F.max_pool2d(self.conv1(self.norm1(maps)), 2, ceil_mode=True)
        return halved + drop_maps(self.drop_path, self.conv2(self.norm2(halved)))


class NormedUnitConv(nn.Conv2d):
    """A 3x3 convolution in a unit whose norm follows, so that its kernel needs no standardising."""

    roles: ClassVar[dict[str, Role]] = UnitConv.roles

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)


class PostPooledUnit(nn.Module):
    """A pooled unit whose norms and activations follow, as in those networks: the first has a quarter of the values to compute."""

    def __init__(self, unit: Unit, eps: EpsilonConfig, norm: Norm) -> None:
        super().__init__()
        self.conv1 = NormedUnitConv(unit.inputs, unit.outputs)
        self.norm1 = norm(unit.outputs)
        self.conv2 = NormedUnitConv(unit.outputs, unit.outputs)
        self.norm2 = norm(unit.outputs)
        self.drop_path = Place(DropPath)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Convolve and halve, then add another convolution of the result."""
        halved = self.norm1(F.max_pool2d(self.conv1(maps), 2, ceil_mode=True))
        return halved + drop_maps(self.drop_path, self.norm2(self.conv2(halved)))


class HaarConv(nn.Conv2d):
    """A 2x2 convolution with stride 1 that starts from a Haar transform of neighbouring pixels and a cosine transform of the
    colours, each filter followed by its negative, from the coarsest on. The last row and column are repeated below and to the right.

    Filters that whiten the training images (airbench94, 2404.00498) look much the same, but would be part of the data.
    """

    roles: ClassVar[dict[str, Role]] = {"weight": Role(decays=True, start=None)}

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__(*channels, 2, bias=False)

    def start(self, kernel: Kernel, generator: torch.Generator) -> None:
        """Fill the kernel with as many of its filters as there are outputs, the first ones again where there are more."""
        kernel.copy_(compute_haar_filters(*kernel.shape[:2]))

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row col"]:
        """Convolve."""
        return super().forward(F.pad(maps, (0, 1, 0, 1), mode="replicate"))


def compute_haar_filters(count: int, channels: int) -> Float64[Tensor, "output channels 2 2"]:
    """Return filters of 2x2 pixels: sums and differences of them, of all colours and between colours, each followed by its negative.

    There are HAAR_FILTERS for each colour channel; beyond that they begin anew. A difference, of pixels or of colours, counts four times as
    much as a sum, about as whitening would have it in photographs.
    """
    order = torch.arange(count) % (HAAR_FILTERS * channels)
    colour, place = order // 2 % channels, order // 2 // channels
    centres = torch.arange(channels, dtype=torch.float64) + 0.5
    colours = F.normalize(torch.cos(math.pi / channels * colour.double()[:, None] * centres), dim=1)  # DCT-II
    pixels = (
        torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)[place] / 4
    )
    weight = 4.0 ** ((colour > 0).double() + (place > 0).double()) * (1 - 2 * (order % 2))
    return (weight[:, None, None] * colours[:, :, None] * pixels[:, None]).unflatten(2, (2, 2))


class PostActivationUnit(nn.Module):
    """The hybrids' bottleneck unit: norm after each convolution, ReLU after the sum, padding like TensorFlow's.

    The last norm's scale starts at zero, as the authors' does: the unit passes its input on.
    """

    def __init__(self, unit: Unit, eps: EpsilonConfig) -> None:
        super().__init__()
        self.conv1 = StdConv((unit.inputs, unit.inner), 1, eps)
        self.norm1 = GroupNormActivation(unit.inner, eps)
        self.conv2 = StdConv((unit.inner, unit.inner), 3, eps, unit.stride, "same")
        self.norm2 = GroupNormActivation(unit.inner, eps)
        self.conv3 = StdConv((unit.inner, unit.outputs), 1, eps)
        self.last_norm = declare(nn.GroupNorm(GROUPS, unit.outputs, eps=eps.norm), weight=ZEROS)
        self.project = self.project_norm = None
        if unit.projects:
            self.project = StdConv((unit.inputs, unit.outputs), 1, eps, unit.stride, "same")
            self.project_norm = nn.GroupNorm(GROUPS, unit.outputs, eps=eps.norm)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Add the output of three convolutions to the maps, or to their projection; then ReLU."""
        shortcut = maps
        if self.project is not None and self.project_norm is not None:
            shortcut = self.project_norm(self.project(maps))
        branch = self.last_norm(self.conv3(self.norm2(self.conv2(self.norm1(self.conv1(maps))))))
        return F.relu(shortcut + branch)
