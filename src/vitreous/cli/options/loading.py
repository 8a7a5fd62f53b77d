"""How weights are taken: the options of every command that loads a model. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Load:
    """How a model's weights are taken: the same options wherever a command asks for a model."""

    family: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """What the weights are, where they don't tell: a family, or family:variant."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches that the file's positions are for, where it doesn't tell; by default a square."""
    heads: int | None = None
    """Attention heads, where the file doesn't tell; by default as is usual at its width."""
    image: tuple[int, int] | None = None
    """Rows and columns of the images that the model sees; positions are resized."""
    rule: str | None = None
    """How positions are resized; by default as their origin does."""
    allow: tuple[str, ...] = ()
    """Differences to allow: missing (initialised anew), unused (left out)."""
    labels: str | None = None
    """Names separated by commas, or a file (one a line, or JSON): where outputs have names, keep only these classes;
    where they have none, so they are called, in their order."""
    channels: int | None = None
    """Channels of the images that the model sees: 1 for grey."""
    channel_rule: Literal["sum", "tile", "zero"] | None = None
    """How the first layer gets them: sum (the same function on grey images), tile, zero; by default what suits the numbers."""


@dataclass(frozen=True)
class LoadOther:
    """How the weights of a second model are taken."""

    other_as: str | None = None
    """What the other model's weights are, where they don't tell: a family, or family:variant."""
    other_grid: tuple[int, int] | None = None
    """The grid of the other model's positions, as --grid."""
    other_heads: int | None = None
    """The other model's attention heads, as --heads."""

    @property
    def load(self) -> Load:
        """The same as options of one model."""
        return Load(family=self.other_as, grid=self.other_grid, heads=self.other_heads)
