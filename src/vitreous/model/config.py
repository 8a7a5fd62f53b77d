"""The shapes of Vision Transformers: settings only, no torch.

Sizes Ti and S are from DeiT (2012.12877) and AugReg (2106.10270), B, L and H from the paper (2010.11929, table 1),
g and G from "Scaling Vision Transformers" (2106.04560, table 2), mu from big_vision (for tests).
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from vitreous.errors import ConfigError, UnknownName
from vitreous.shapes import Size

Positions = Literal["learned", "sincos2d", "none"]
Pool = Literal["class", "mean"]


class Shape(NamedTuple):
    """What a size's letter stands for."""

    width: int
    depth: int
    heads: int
    mlp: int


SIZES = {
    "mu": Shape(width=32, depth=1, heads=2, mlp=128),
    "Ti": Shape(width=192, depth=12, heads=3, mlp=768),
    "S": Shape(width=384, depth=12, heads=6, mlp=1536),
    "B": Shape(width=768, depth=12, heads=12, mlp=3072),
    "L": Shape(width=1024, depth=24, heads=16, mlp=4096),
    "H": Shape(width=1280, depth=32, heads=16, mlp=5120),
    "g": Shape(width=1408, depth=40, heads=16, mlp=6144),
    "G": Shape(width=1664, depth=48, heads=16, mlp=8192),
}


@dataclass(frozen=True)
class ViTConfig:
    """One plain Vision Transformer, completely described."""

    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images, in pixels."""
    patch: tuple[int, int] = (16, 16)
    """Rows and columns of a patch, in pixels; must divide the image."""
    channels: int = 3
    """Colour planes of the images."""
    width: int = 768
    """Width of the residual stream (the paper's D)."""
    depth: int = 12
    """Encoder blocks (the paper's L)."""
    heads: int = 12
    """Attention heads; must divide the width."""
    mlp: int = 3072
    """Hidden width of the MLP."""
    classes: int = 1000
    """Outputs of the head; 0 leaves the head out and returns features."""
    pool: Pool = "class"
    """What represents the image: the [class] token's output, or the mean over the patches' outputs."""
    class_token: bool = True
    """Put a learned [class] token at the front of the sequence; pool="class" needs it."""
    positions: Positions = "learned"
    """Position embedding added at the input: the paper's learned 1-D matrix, fixed 2-D sin-cos, or none."""
    position_init: Literal["normal", "sincos2d"] = "normal"
    """Learned positions start from normal draws of deviation 0.02, or from the 2-D sines and cosines."""
    position_temperature: float = 10_000.0
    """Ratio of the sines' longest to their shortest wavelength; small grids want a small one."""
    pre_logits: bool = False
    """A tanh layer of the model's width before the head, as in the paper's pre-training."""
    dropout: float = 0.0
    """Dropout after positions and after every dense layer but qkv, 0 to below 1."""
    drop_path: float = 0.0
    """Stochastic depth: the last block's rate, rising linearly from 0 at the first block."""
    norm_eps: float = 1e-6
    """Epsilon of every layer norm."""
    recompute: bool = False
    """Activation checkpointing: recompute blocks in the backward pass, for less memory. Never changes a number."""

    def __post_init__(self) -> None:
        for size, patch, axis in zip(self.image, self.patch, ("rows", "cols"), strict=True):
            if patch < 1 or size < 1 or size % patch:
                near = max(patch, round(size / max(patch, 1)) * patch)
                raise ConfigError(
                    f"an image of {size} {axis} can't be cut into patches of {patch}; "
                    f"use an image size that is a multiple of the patch, such as {near}"
                )
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"width {self.width} can't be shared by {self.heads} heads; heads must divide the width")
        if self.pool == "class" and not self.class_token:
            raise ConfigError("pool='class' needs class_token=True; or choose pool='mean'")
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        for name in ("channels", "width", "depth", "mlp"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.classes < 0:
            raise ConfigError(f"classes is {self.classes}; it must be 0 (features) or more")
        if "sincos2d" in (self.positions, self.position_init) and self.width % 4:
            raise ConfigError(f"2-D sin-cos positions need a width divisible by 4, not {self.width}")

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return Size(self.image[0] // self.patch[0], self.image[1] // self.patch[1])

    @property
    def tokens(self) -> int:
        """Length of the sequence, [class] included."""
        return self.grid.rows * self.grid.cols + self.class_token


def parse_name(name: str) -> tuple[Shape, Size]:
    """Read "S/16" or "B/16x8" (rows x cols of a patch) as (shape, patch size)."""
    match = re.fullmatch(r"(?:ViT-)?(?P<size>\w+)/(?P<rows>\d+)(?:x(?P<cols>\d+))?", name)
    if match is None:
        known = [f"{size}/16" for size in SIZES]
        raise UnknownName("model", name, known)
    if match["size"] not in SIZES:
        raise UnknownName("model", name, [f"{size}/{name.split('/', 1)[1]}" for size in SIZES])
    rows = int(match["rows"])
    patch = Size(rows, int(match["cols"] or rows))
    if min(patch) < 1:
        raise ConfigError(f"model {name!r} has patches of {patch} pixels; they must have at least one, as in S/16")
    return SIZES[match["size"]], patch


def named(name: str, **overrides: Any) -> ViTConfig:
    """Return the configuration called e.g. "S/16", with any field overridden."""
    shape, patch = parse_name(name)
    return ViTConfig(**({"patch": tuple(patch), **shape._asdict()} | overrides))
