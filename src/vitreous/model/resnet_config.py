"""The shapes of BiT's ResNets, and of hybrids' stems: settings only, no torch.

Depths are from "Deep Residual Learning" (1512.03385), widths from "Big Transfer" (1912.11370), the hybrids' shapes
from the paper (2010.11929, appendix B.1) and AugReg (2106.10270), convolutional stems from "Early Convolutions"
(2106.14881).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import check_settings
from vitreous.shapes import Size

UNITS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Bottleneck units of each stage, by the number of layers in the name."""
BASIC_UNITS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Basic units of each stage, by the number of layers in the name (1512.03385, table 1; 10 is the smallest)."""
ROOT = 64
"""Channels of the first convolution at width 1; all channels derived from it are multiples of the groups of every group
norm."""
GROUPS = 32
"""Groups of channels of every norm of BiT."""
HAAR_FILTERS = 8
"""Filters of a Haar transform for each colour channel: of 2x2 pixels, and their negatives."""
EXPANSION = 4
"""Output channels of a bottleneck unit per channel of its 3x3 convolution."""
ROOT_STRIDES = {"7x7": 4, "3x3": 1, "2x2": 2, "haar": 1}
"""Rows and columns of pixels for each cell of a root's map."""


UnitKind = Literal["bottleneck", "basic", "pooled", "pooled-post"]
POOLED: tuple[UnitKind, ...] = ("pooled", "pooled-post")


class Unit(NamedTuple):
    """The shape of one unit. Bottleneck: 1x1 to inner channels, 3x3 with the stride, 1x1 to its outputs. Basic: 3x3 with
    the stride, 3x3. Pooled, with norms before or after: 3x3, the maximum over 2x2 in place of a stride, 3x3."""

    inputs: int
    outputs: int
    stride: int
    projects: bool
    """Whether its shortcut is a 1x1 convolution with the stride: true for the first bottleneck unit of every stage, and
    the first basic unit of every stage except the first."""
    kind: UnitKind = "bottleneck"

    @property
    def inner(self) -> int:
        """Channels between its convolutions."""
        return self.outputs // EXPANSION if self.kind == "bottleneck" else self.outputs


def plan_stages(
    units: tuple[int, ...], root: int, kind: UnitKind = "bottleneck", channels: tuple[int, ...] = ()
) -> Iterator[list[Unit]]:
    """Yield each stage's units above a root with `root` channels.

    Channels double from stage to stage, unless `channels` names them; each stage except the first halves rows and cols.
    If units are pooled, the first stage halves and doubles too; the first unit of each stage does it, and the others
    are basic units.
    """
    inputs, expansion, pooled = root, EXPANSION if kind == "bottleneck" else 1, kind in POOLED
    for index, count in enumerate(units):
        outputs = channels[index] if channels else expansion * root * 2 ** (index + pooled)
        stage = []
        for _ in range(count):
            halves = not stage and bool(index or pooled)
            projects = not stage and not pooled and (halves or inputs != outputs)
            stage.append(Unit(inputs, outputs, 2 if halves else 1, projects, "basic" if pooled and stage else kind))
            inputs = outputs
        yield stage


@dataclass(frozen=True)
class EpsilonConfig:
    """The epsilons of a ResNet's divisions by standard deviations. Trained kernels are small enough for them to
    matter."""

    kernel: float = 1e-8
    """Epsilon of a standardised kernel: 1e-8 in timm, 1e-10 in big_transfer, 1e-5 in vision_transformer's hybrids."""
    kernel_on: Literal["variance", "deviation"] = "variance"
    """The term to which it is added: the variance, before the root is taken, or (vision_transformer's hybrids) the
    standard deviation."""
    norm: float = 1e-5
    """Epsilon of group norm, added to the variance: 1e-5 in timm and big_transfer, 1e-6 in vision_transformer's hybrids
    (flax)."""

    def __post_init__(self) -> None:
        check_settings(self)

    def __str__(self) -> str:
        return f"{self.kernel:g} on kernels' {self.kernel_on}, {self.norm:g} in group norm"


TIMM_EPSILONS = EpsilonConfig()
BIT_EPSILONS = EpsilonConfig(kernel=1e-10)
"""The epsilons of big_transfer, in all its frameworks, and of big_vision's bit_paper.py."""
FLAX_EPSILONS = EpsilonConfig(kernel=1e-5, kernel_on="deviation", norm=1e-6)
"""The epsilons of vision_transformer's hybrids (vit_jax/models_resnet.py)."""


@dataclass(frozen=True)
class ResNetConfig:
    """One ResNet V2 as in BiT, completely described. The defaults are R50x1."""

    KIND: ClassVar[str] = "resnet"
    LARGEST: ClassVar[dict[str, int]] = {
        **dict.fromkeys(("image", "root_channels", "stage_channels"), 2**17),
        "channels": 2**12,
        "units": 10_000,
        "width": 10_000,
        "classes": 10**8,
    }
    """Largest numbers for which a model is built."""
    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images it is meant for, in pixels. It accepts any other size as well."""
    channels: int = 3
    """Colour channels of the images."""
    units: tuple[int, ...] = UNITS[50]
    """Units of each stage."""
    width: int = 1
    """Factor on the channels of every layer."""
    classes: int = 1000
    """Outputs of the head; 0 leaves the head out and returns features."""
    root: Literal["7x7", "3x3", "2x2", "haar"] = "7x7"
    """The first layers. 7x7: a convolution and a maximum, each with stride 2 (BiT). 3x3: one convolution with stride 1,
    for images of 32 pixels (1512.03385, section 4.2). 2x2: one convolution with stride 2, which means patches of 2x2
    pixels. haar: a 2x2 convolution with stride 1, and an activation; its initial filters are sums and differences of
    pixels and of colours, and their negatives. 8 filters for each colour channel are all of these."""
    root_channels: int = ROOT
    """Channels of the first convolution at width 1, a multiple of `groups` if it is normalised. The channels of the
    stages are in proportion, unless `stage_channels` names them."""
    stage_channels: tuple[int, ...] = ()
    """Output channels of each stage at width 1; none: they double from stage to stage. With group norm they must be
    multiples of `groups`, with bottleneck units of 4 times `groups`."""
    groups: int = GROUPS
    """Groups of channels of every group norm (BiT: 32)."""
    norm: Literal["group", "batch"] = "group"
    """group: normalises each image separately (BiT). batch: normalises each channel over the batch (1502.03167), which
    is cheaper, but in training an image's result depends on the others in its batch."""
    unit: UnitKind = "bottleneck"
    """bottleneck: convolutions of 1x1, 3x3 and 1x1, the last with four times the channels (BiT). basic: two of 3x3,
    as in ResNet-18 and -34 (1512.03385, figure 5), for small models. pooled: two of 3x3 with the maximum over 2x2
    between them and the shortcut around the second, as in the small networks that learn CIFAR-10 fastest (Page, "How to
    train your ResNet", 2018; airbench94, 2404.00498). pooled-post: the same, with norm and activation after the maximum
    and after the second convolution, as in those networks, and with kernels that are not standardised. All but the
    first unit of a stage are basic; if the last stage has only one unit, no norm comes before the head."""
    activation: Literal["relu", "gelu"] = "relu"
    """Activation after every norm (BiT: ReLU)."""
    epsilons: EpsilonConfig = field(default_factory=EpsilonConfig)

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.units or min(self.units) < 1:
            raise ConfigError(f"units is {self.units}; each stage needs at least 1, as in {UNITS[50]}")
        for name, value in (("channels", self.channels), ("width", self.width), ("image", min(self.image))):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.classes < 0:
            raise ConfigError(f"classes is {self.classes}; it must be 0 (none) or more")
        if self.groups < 1:
            raise ConfigError(f"groups is {self.groups}; it must be at least 1")
        if self.root_channels < 1:
            raise ConfigError(f"root_channels is {self.root_channels}; it must be at least 1")
        if self.norm == "group" and self.unit != "pooled-post" and self.root_channels % self.groups:
            raise ConfigError(
                f"root_channels is {self.root_channels}; it must be a multiple of {self.groups}, the groups of each norm"
            )
        self._check_stages()

    def _check_stages(self) -> None:
        """Refuse stage channels that don't fit the units or their norms."""
        given = f"stage_channels is {self.stage_channels}"
        if self.stage_channels and len(self.stage_channels) != len(self.units):
            raise ConfigError(
                f"{given}; it must have a number for each of the {len(self.units)} stages, or be empty for channels that double"
            )
        if min(self.stage_channels, default=1) < 1:
            raise ConfigError(f"{given}; all must be at least 1")
        inner = EXPANSION if self.unit == "bottleneck" else 1
        least = inner * (self.groups if self.norm == "group" else 1)
        if (
            not self.stage_channels
            and self.unit == "pooled-post"
            and self.norm == "group"
            and 2 * self.root_outputs % self.groups
        ):
            raise ConfigError(
                f"root_channels is {self.root_channels}, so the first stage has {2 * self.root_outputs} channels; that must be a multiple of "
                f"{self.groups}, the groups of each norm"
            )
        if any(one % least for one in self.stage_channels):
            why = " and ".join(
                [f"the {self.groups} groups of each norm"] * (self.norm == "group")
                + ["the factor 4 of a bottleneck unit"] * (inner > 1)
            )
            raise ConfigError(f"{given}; all must be multiples of {least}, for {why}")

    @property
    def root_outputs(self) -> int:
        """Output channels of the root."""
        return self.root_channels * self.width

    @property
    def depth(self) -> int:
        """Units of all stages."""
        return sum(self.units)

    @property
    def features(self) -> int:
        """Width of the head's input."""
        return list(self.stages)[-1][-1].outputs

    @property
    def final_norm(self) -> bool:
        """Whether norm and activation follow the last stage: not if its last unit ends with them."""
        return self.unit != "pooled-post" or self.units[-1] > 1

    @property
    def stages(self) -> Iterator[list[Unit]]:
        """Each stage's units."""
        channels = tuple(one * self.width for one in self.stage_channels)
        return plan_stages(self.units, self.root_outputs, self.unit, channels)

    @property
    def root_stride(self) -> int:
        """Rows and columns of pixels for each cell of the root's map."""
        return ROOT_STRIDES[self.root]

    @property
    def grid(self) -> Size:
        """Rows and columns of the last stage's map: those of the root's map, halved by each stage (except the first,
        unless it pools) and rounded up."""
        stride = self.root_stride * 2 ** (len(self.units) - (self.unit not in POOLED))
        return Size(-(-self.image[0] // stride), -(-self.image[1] // stride))


def is_resnet_name(name: str) -> bool:
    """Return whether a model's name has the form of a ResNet's, such as "R50x1", even if there is no such model."""
    return re.fullmatch(r"(BiT-)?R\d+x\d+", name) is not None


def build_resnet_config(name: str, **overrides: Any) -> ResNetConfig:
    """Return the configuration called e.g. "R50x1" (layers x width), with any field overridden.

    >>> build_resnet_config("R152x4", classes=10).units
    (3, 8, 36, 3)
    >>> build_resnet_config("R18x1").unit
    'basic'
    """
    match = re.fullmatch(r"(?:BiT-)?R(?P<layers>\d{1,6})x(?P<width>[1-9]\d{0,5})", name)
    known = UNITS | BASIC_UNITS
    if match is None or int(match["layers"]) not in known:
        raise UnknownName("ResNet", name, [f"R{layers}x{width}" for layers in known for width in (1, 2, 3, 4)])
    layers = int(match["layers"])
    unit = "basic" if layers in BASIC_UNITS else "bottleneck"
    shape = {"units": known[layers], "unit": unit, "width": int(match["width"])}
    return ResNetConfig(**(shape | overrides))


@dataclass(frozen=True)
class StemConfig:
    """The layers before the patch embedding, which then cuts the stem's map instead of the image."""

    LARGEST: ClassVar[dict[str, int]] = {"units": 10_000, "width": 10_000, "convolutions": 2**17}
    """Largest numbers for which a model is built."""
    kind: Literal["none", "resnet", "conv"] = "none"
    """none: patches of pixels. resnet: the paper's hybrids: a 7x7 convolution and a maximum over 3x3, each with stride
    2, then stages of bottleneck units. conv (2106.14881): 3x3 convolutions with stride 2, each followed by group norm
    with one group (with the paper's batch norm, an image's result would depend on its batch) and GELU."""
    units: tuple[int, ...] = ()
    """resnet: bottleneck units of each stage; none: only the first convolution and the maximum."""
    width: int = 1
    """resnet: factor on the channels of every layer."""
    convolutions: tuple[int, ...] = ()
    """conv: channels of each convolution, such as 48 96 192 384 for patches of 16 pixels."""
    epsilons: EpsilonConfig = field(default_factory=EpsilonConfig)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.kind != "resnet" and (self.units or self.width != 1 or self.epsilons != EpsilonConfig()):
            raise ConfigError(
                f"a stem's units, width and epsilons are for kind='resnet', not for {self.kind!r}; leave them out"
            )
        if bool(self.convolutions) != (self.kind == "conv"):
            raise ConfigError(
                "a stem of kind='conv' needs the channels of its convolutions, such as (48, 96, 192, 384); "
                f"other kinds have none (kind={self.kind!r}, convolutions={self.convolutions})"
            )
        if min((*self.units, *self.convolutions, self.width)) < 1:
            raise ConfigError(
                f"units, width and convolutions of a stem are {self.units}, {self.width}, {self.convolutions}; "
                "they must be at least 1"
            )

    @property
    def root_outputs(self) -> int:
        """Output channels of a ResNet's root."""
        return ROOT * self.width

    @property
    def stride(self) -> int:
        """Rows and columns of pixels for each cell of the stem's map; 1 without a stem."""
        if self.kind == "resnet":
            return 4 * 2 ** max(0, len(self.units) - 1)
        return 2 ** len(self.convolutions)

    def outputs(self, channels: int) -> int:
        """Return the channels of the stem's map for images with `channels` colour planes."""
        if self.kind == "resnet":
            return self.root_outputs * (EXPANSION * 2 ** (len(self.units) - 1) if self.units else 1)
        return self.convolutions[-1] if self.kind == "conv" else channels


def plan_hybrid(name: str, patch: Size) -> tuple[StemConfig, Size]:
    """Return the stem, and the patch in pixels, of a name such as "R50+B/16", "R+Ti/16" or, without a stem, "B/16".

    As in the authors' code: R50 at 16 has the units of stage 4 moved into stage 3, so that the map's cells cover 16
    pixels (appendix B.1); at 32 it has all four stages. Both maps are cut into patches of 1x1. R has only the first
    convolution and maximum, and patches of half the name's number, 8x8 for "R+Ti/16". As each cell of its map covers 4
    pixels, a patch covers 32, despite the name.

    Args:
        name: the model's name.
        patch: the patch that the name states.

    Raises:
        UnknownName: no ResNet has that many layers.
    """
    match = re.match(r"R(?P<layers>\d*)\+", name)
    if match is None:
        return StemConfig(), patch
    if not match["layers"]:
        return StemConfig("resnet"), Size(2 * patch.rows, 2 * patch.cols)
    if int(match["layers"]) not in UNITS:
        raise UnknownName("model", name, [f"R{layers}+{name.split('+', 1)[1]}" for layers in UNITS])
    units = UNITS[int(match["layers"])]
    if patch.rows % 32 or patch.cols % 32:
        units = (*units[:2], units[2] + units[3])
    return StemConfig("resnet", units), patch
