"""The shapes of EfficientNets: settings only, no torch.

Sizes B0 to B7 are from "EfficientNet" (1905.11946, table 1, section 4 and the authors' code), L2 from "Noisy Student"
(1911.04252, appendix A.1).
"""

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import check_settings
from vitreous.shapes import Size


class Scaling(NamedTuple):
    """How a size scales B0 (1905.11946, equation 3), as in the authors' code."""

    width: float
    """Factor on every layer's channels, which are rounded to multiples of 8."""
    depth: float
    """Factor on the units of each stage, rounded up."""
    image: int
    dropout: float
    """Dropout before the head, in the authors' training."""


SCALINGS = {
    "B0": Scaling(1.0, 1.0, 224, 0.2),
    "B1": Scaling(1.0, 1.1, 240, 0.2),
    "B2": Scaling(1.1, 1.2, 260, 0.3),
    "B3": Scaling(1.2, 1.4, 300, 0.3),
    "B4": Scaling(1.4, 1.8, 380, 0.4),
    "B5": Scaling(1.6, 2.2, 456, 0.4),
    "B6": Scaling(1.8, 2.6, 528, 0.5),
    "B7": Scaling(2.0, 3.1, 600, 0.5),
    "L2": Scaling(4.3, 5.3, 800, 0.5),
}
ROOT, UNITS, WIDTHS, LAST = 32, (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 1280
"""B0's channels of the first convolution, units and channels of each stage, and channels of the last convolution."""
EFFICIENTNET_NAMES = [f"EfficientNet-{size}" for size in SCALINGS]


class InvertedUnit(NamedTuple):
    """The shape of one unit: MBConv of MobileNetV2, with squeeze and excitation."""

    inputs: int
    inner: int
    """Channels of the depthwise convolution."""
    squeezed: int
    """Channels between squeeze and excitation."""
    outputs: int
    kernel: int
    stride: int

    @property
    def skips(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


@dataclass(frozen=True)
class EfficientNetConfig:
    """One EfficientNet, completely described. The defaults are EfficientNet-B0."""

    KIND: ClassVar[str] = "efficientnet"
    LARGEST: ClassVar[dict[str, int]] = {
        **dict.fromkeys(("image", "root_channels", "widths", "last_channels"), 2**17),
        "channels": 2**12,
        "units": 10_000,
        "kernels": 2**6,
        "strides": 2**3,
        "expansions": 2**7,
        "squeeze": 2**17,
        "classes": 10**8,
    }
    """Largest numbers for which a model is built."""
    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images it is meant for, in pixels. It accepts any other size as well."""
    channels: int = 3
    """Colour channels of the images."""
    root_channels: int = ROOT
    """Channels of the first convolution, which is 3x3 with stride 2."""
    units: tuple[int, ...] = UNITS
    """Units of each stage."""
    widths: tuple[int, ...] = WIDTHS
    """Channels of each stage."""
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    """Side of each stage's depthwise convolutions; odd numbers."""
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    """Stride of each stage's first unit."""
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    """Factor from a unit's input to the channels of its depthwise convolution, in each stage; 1: no expanding convolution."""
    squeeze: int = 4
    """Factor from the channels between squeeze and excitation to the unit's input."""
    last_channels: int = LAST
    """Channels of the last convolution, which are averaged for the head."""
    classes: int = 1000
    """Outputs of the head; 0 leaves the head out and returns features."""
    padding: Literal["same", "symmetric"] = "same"
    """Padding of convolutions with stride 2. same: TensorFlow's, with one pixel less at the top and left of an even map
    (the authors, timm's `tf_efficientnet_*`). symmetric: the same on all sides (timm's `efficientnet_*`)."""
    norm_eps: float = 1e-3
    """Epsilon of every batch norm: the authors' is 1e-3, that of timm's `efficientnet_*` 1e-5."""
    norm_momentum: float = 0.01
    """Share of the newest batch in the running statistics of every batch norm, above 0, at most 1: the authors' is 0.01
    (which TensorFlow calls 0.99), timm's 0.1."""

    def __post_init__(self) -> None:
        check_settings(self)
        listed = ("units", "widths", "kernels", "strides", "expansions")
        for name in listed[1:]:
            if len(getattr(self, name)) != len(self.units):
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, for {len(getattr(self, name))} stages, but units {self.units} are for "
                    f"{len(self.units)}; give one for each stage"
                )
        for name in ("channels", "root_channels", "last_channels", "squeeze", "image", *listed):
            value = getattr(self, name)
            if (min(value, default=0) if isinstance(value, tuple) else value) < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.classes < 0:
            raise ConfigError(f"classes is {self.classes}; it must be 0 (none) or more")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ConfigError(f"kernels are {self.kernels}; they must be odd")
        if max(self.strides) > 2:
            raise ConfigError(f"strides are {self.strides}; they must be 1 or 2")
        if not 0 < self.norm_momentum <= 1:
            raise ConfigError(f"norm_momentum is {self.norm_momentum:g}; it must be above 0, and at most 1")
        if not 0 < self.norm_eps < math.inf:
            raise ConfigError(f"norm_eps is {self.norm_eps:g}; it must be above 0")

    @property
    def depth(self) -> int:
        """Units of all stages."""
        return sum(self.units)

    @property
    def features(self) -> int:
        """Width of the head's input."""
        return self.last_channels

    @property
    def grid(self) -> Size:
        """Rows and columns of the last map: halved by each stride of 2, rounded up."""
        stride = 2 ** (1 + self.strides.count(2))
        return Size(-(-self.image[0] // stride), -(-self.image[1] // stride))


def plan_efficientnet(config: EfficientNetConfig) -> list[list[InvertedUnit]]:
    """Return the units of each stage."""
    stages, inputs = [], config.root_channels
    for place, count in enumerate(config.units):
        stage = []
        for index in range(count):
            stride = 1 if index else config.strides[place]
            squeezed = max(1, inputs // config.squeeze)
            inner, outputs = inputs * config.expansions[place], config.widths[place]
            stage.append(InvertedUnit(inputs, inner, squeezed, outputs, config.kernels[place], stride))
            inputs = outputs
        stages.append(stage)
    return stages


def is_efficientnet_name(name: str) -> bool:
    """Return whether a model's name has the form of an EfficientNet's, even if there is no such model."""
    return re.fullmatch(r"(?i)efficientnet-\w+", name) is not None


def build_efficientnet_config(name: str, **overrides: Any) -> EfficientNetConfig:
    """Return the configuration called e.g. "EfficientNet-B3", with any field overridden.

    >>> build_efficientnet_config("EfficientNet-B3").widths
    (24, 32, 48, 96, 136, 232, 384)
    """
    kind, _, size = name.partition("-")
    if kind != "EfficientNet" or size not in SCALINGS:
        raise UnknownName("EfficientNet", name, EFFICIENTNET_NAMES)
    scaling = SCALINGS[size]
    given: dict[str, Any] = {
        "image": (scaling.image, scaling.image),
        "root_channels": round_channels(ROOT, scaling.width),
        "units": tuple(math.ceil(scaling.depth * count) for count in UNITS),
        "widths": tuple(round_channels(width, scaling.width) for width in WIDTHS),
        "last_channels": round_channels(LAST, scaling.width),
    }
    return EfficientNetConfig(**(given | overrides))


def round_channels(channels: int, factor: float) -> int:
    """Return scaled channels as the authors' code rounds them: to the nearest multiple of 8, but at most a tenth
    downwards.

    >>> round_channels(16, 1.1), round_channels(80, 4.3), round_channels(24, 0.6)
    (16, 344, 16)
    """
    exact = channels * factor
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def find_efficientnet_name(config: EfficientNetConfig) -> str | None:
    """Return the size ("B3") that has these layers, whatever its images and classes; None if there is none."""
    free = {
        name: getattr(config, name) for name in ("image", "channels", "classes", "padding", "norm_eps", "norm_momentum")
    }
    known = (size for size in SCALINGS if build_efficientnet_config(f"EfficientNet-{size}", **free) == config)
    return next(known, None)
