"""How weights are loaded: the options of every command that loads a model. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Load:
    """How a model's weights are loaded: the same options for every command that loads a model."""

    family: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """The weights' family, or family:variant, if they don't state it."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches that the file's positions are for, if it doesn't state them; by default a square."""
    heads: int | None = None
    """Number of attention heads, if the file doesn't state it; by default the usual number for its width."""
    image: tuple[int, int] | None = None
    """Rows and columns of the images that the model sees; positions are resized."""
    window: tuple[int, int] | None = None
    """Rows and columns of a Swin's windows; its position tables are resized."""
    rule: str | None = None
    """How positions are resized; by default as in their original code."""
    allow: tuple[str, ...] = ()
    """Differences to allow: missing (newly initialised), unused (left out)."""
    labels: str | None = None
    """Names separated by commas, or a file (one per line, or JSON): keep only these classes or, if the outputs have no
    names, name all of them in order."""
    channels: int | None = None
    """Channels of the images that the model sees: 1 for grey."""
    channel_rule: Literal["sum", "tile", "zero"] | None = None
    """How the first layer is adapted: sum (same function on grey images), tile or zero; by default whichever suits."""


@dataclass(frozen=True)
class LoadOther:
    """How the weights of a second model are loaded."""

    other_as: str | None = None
    """The other model's family of weights, or family:variant, if they don't state it."""
    other_grid: tuple[int, int] | None = None
    """The grid of the other model's positions, as --grid."""
    other_heads: int | None = None
    """The other model's attention heads, as --heads."""

    @property
    def load(self) -> Load:
        """Return these as the loading options of a single model."""
        return Load(family=self.other_as, grid=self.other_grid, heads=self.other_heads)
