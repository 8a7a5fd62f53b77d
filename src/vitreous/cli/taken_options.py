"""How weights are taken: the options of every command that loads a model. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Taken:
    """How a model's weights are taken: the same options wherever a command asks for a model."""

    family: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """What the weights are, where they don't tell: a family, or family:variant."""
    image: tuple[int, int] | None = None
    """Rows and columns of the images that the model shall see; positions are resized."""
    rule: str | None = None
    """How positions are resized; by default as their origin does."""
    allow: tuple[str, ...] = ()
    """Differences to allow: missing (initialised anew), unused (left out)."""
    labels: str | None = None
    """Keep only these classes: names separated by commas, or a file with one a line."""
    channels: int | None = None
    """Channels of the images that the model shall see: 1 for grey."""
    channel_rule: Literal["sum", "tile", "zero"] | None = None
    """How the first layer gets them: sum (the same function on grey images), tile, zero; by default what suits the numbers."""
