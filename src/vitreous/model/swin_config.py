"""The shapes of Swin Transformers: settings only, no torch.

Sizes are from "Swin Transformer" (2103.14030, section 3.3) and "Swin Transformer V2" (2111.09883, appendix A1).
"""

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import BlockConfig, RegularisationConfig, ViTConfig
from vitreous.settings import check_settings
from vitreous.shapes import Size

SHAPES = {
    "T": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "S": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "B": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "L": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
"""Width of the first stage, blocks and heads of each stage, by a size's letter."""
VERSIONS = {"Swin": "v1", "SwinV2": "v2"}
IMAGES = {"v1": (224, 224), "v2": (256, 256)}
"""Sizes of the images of the authors' models, by version; windows divide their maps."""
WINDOWS = {"v1": (7, 7), "v2": (8, 8)}
PATCH = (4, 4)
BIAS_WIDTH = 512
"""Hidden width of the MLP from offsets to biases (2111.09883, appendix A2.1)."""
V2_BLOCK = BlockConfig(norm_order="after", qkv_bias="no-key")
"""Blocks of the second version: the outputs of branches are normalised, and keys have no bias."""
Windows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SwinConfig:
    """One Swin Transformer, completely described. The defaults are Swin-T."""

    KIND: ClassVar[str] = "swin"
    LARGEST: ClassVar[dict[str, int]] = {
        **dict.fromkeys(("image", "patch", "width", "heads"), 2**17),
        "channels": 2**12,
        "depths": 10_000,
        "mlp_factor": 2**10,
        "classes": 10**8,
    }
    """Largest numbers for which a model is built."""
    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images it is meant for, in pixels. It accepts any other size as well."""
    patch: tuple[int, int] = PATCH
    """Rows and columns of a patch, in pixels; an image is padded to whole patches."""
    channels: int = 3
    """Colour channels of the images."""
    version: Literal["v1", "v2"] = "v1"
    """v1 (2103.14030): a learned bias for each offset, and norms before branches. v2 (2111.09883): cosines of q and k
    times a learned scale, biases that an MLP computes from the offset's logarithm, and norms after branches."""
    width: int = 96
    """Width of the first stage's residual stream; each further stage has twice that of the one before."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks of each stage. Every second block attends within windows that are shifted by half a window."""
    heads: tuple[int, ...] = (3, 6, 12, 24)
    """Attention heads of each stage."""
    windows: Windows = ((7, 7), (7, 7), (7, 7), (7, 7))
    """Rows and columns of each stage's windows, in patches; a map is padded to whole windows. Along an axis with a
    single window nothing is shifted."""
    trained_windows: Windows = ()
    """v2: windows of each stage by which offsets were scaled in training, if the windows have grown since; none:
    `windows`."""
    mlp_factor: int = 4
    """Hidden width of the MLP, as a multiple of its stage's width."""
    classes: int = 1000
    """Outputs of the head; 0 leaves the head out and returns features."""
    norm_eps: float = 1e-5
    """Epsilon of every layer norm."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name, value in (
            ("channels", self.channels), ("width", self.width), ("mlp_factor", self.mlp_factor),
            ("image", min(self.image)), ("patch", min(self.patch)), ("depths", min(self.depths, default=0)),
            ("heads", min(self.heads, default=0)),
        ):  # fmt: skip
            if value < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.classes < 0:
            raise ConfigError(f"classes is {self.classes}; it must be 0 (none) or more")
        if self.norm_eps < 0:
            raise ConfigError(f"norm_eps is {self.norm_eps:g}; it must be at least 0")
        self._check_stages()

    def _check_stages(self) -> None:
        for name in ("heads", "windows", *(["trained_windows"] if self.trained_windows else [])):
            if len(getattr(self, name)) != len(self.depths):
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, of {len(getattr(self, name))} stages, but depths "
                    f"{self.depths} are of {len(self.depths)}; give one for each stage"
                )
        for stage, heads in enumerate(self.heads):
            if (self.width * 2**stage) % heads:
                raise ConfigError(
                    f"stage {stage} is {self.width * 2**stage} wide, which can't be divided among {heads} heads; heads "
                    "must divide the width"
                )
        for window in (*self.windows, *self.trained_windows):
            if not 1 <= min(window) <= max(window) <= 2**10:
                raise ConfigError(f"a window has {Size(*window)} patches; it must have 1x1 to {2**10}x{2**10}")
        if self.trained_windows and self.version == "v1":
            raise ConfigError("trained_windows scale the offsets of version v2; v1 has a table for its own windows")

    @property
    def depth(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def features(self) -> int:
        """Width of the head's input."""
        return self.width * 2 ** (len(self.depths) - 1)

    @property
    def maps(self) -> list[Size]:
        """Rows and columns of each stage's patches."""
        return self.compute_map_sizes(Size(*self.image))

    @property
    def grid(self) -> Size:
        """Rows and columns of the last stage's patches."""
        return self.maps[-1]

    def compute_map_sizes(self, image: Size) -> list[Size]:
        """Return the rows and columns of each stage's patches for images of this size: half of the previous stage's,
        rounded up."""
        size = Size(-(-image.rows // self.patch[0]), -(-image.cols // self.patch[1]))
        found = [size]
        for _ in self.depths[1:]:
            size = Size(-(-size.rows // 2), -(-size.cols // 2))
            found.append(size)
        return found

    def stage(self, index: int) -> ViTConfig:
        """Return a stage's blocks as the configuration of a ViT whose image is one window, and whose patches are the
        stage's."""
        width = self.width * 2**index
        return ViTConfig(
            image=self.windows[index],
            patch=(1, 1),
            channels=self.channels,
            width=width,
            depth=self.depths[index],
            heads=self.heads[index],
            mlp_width=self.mlp_factor * width,
            classes=self.classes,
            pool="mean",
            class_token=False,
            positions="bias" if self.version == "v1" else "bias-log-swin",
            position_mlp_width=BIAS_WIDTH,
            init="mae",
            norm_eps=self.norm_eps,
            block=BlockConfig() if self.version == "v1" else V2_BLOCK,
        )

    @property
    def front(self) -> ViTConfig:
        """The patch embedding, as the configuration of a ViT whose image is one patch; its outputs are normalised."""
        return replace(self.stage(0), image=self.patch, patch=self.patch, patch_norm="after", positions="none")


def is_swin_name(name: str) -> bool:
    """Return whether a model's name has the form of a Swin Transformer's, even if there is no such model."""
    return re.fullmatch(r"(?i)swin(v2)?-\w+", name) is not None


SWIN_NAMES = [f"{kind}-{size}" for kind in VERSIONS for size in SHAPES]


def build_swin_config(name: str, **overrides: Any) -> SwinConfig:
    """Return the configuration called e.g. "Swin-T" or "SwinV2-B", with any field overridden.

    Windows are the authors' (7x7, in V2 8x8), and never larger than a stage's map.

    >>> build_swin_config("Swin-B", image=(128, 96)).windows
    ((7, 7), (7, 7), (7, 6), (4, 3))
    """
    kind, _, size = name.partition("-")
    if kind not in VERSIONS or size not in SHAPES:
        raise UnknownName("Swin Transformer", name, SWIN_NAMES)
    version, (width, depths, heads) = VERSIONS[kind], SHAPES[size]
    given = {"image": IMAGES[version], "version": version, "width": width, "depths": depths, "heads": heads} | overrides
    if "windows" not in given:
        rough = SwinConfig(**given | {"windows": (WINDOWS[version],) * len(given["depths"])})
        given["windows"] = fit_windows(rough, WINDOWS[version])
    return SwinConfig(**given)


def fit_windows(config: SwinConfig, window: tuple[int, int]) -> Windows:
    """Return each stage's windows: the given one, cut to the stage's map if that is smaller."""
    return tuple((min(window[0], rows), min(window[1], cols)) for rows, cols in config.maps)


def check_swin_training(regularisation: RegularisationConfig) -> None:
    """Raise ConfigError if a Swin Transformer can't be trained with these settings."""
    if regularisation.patch_dropout:
        raise ConfigError(
            f"regularisation.patch_dropout is {regularisation.patch_dropout:g}, but windows and merging need whole grids "
            "of patches; leave it out with a Swin Transformer"
        )
