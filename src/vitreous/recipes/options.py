"""What a recipe starts from: the data's facts and what the person asked for."""

import math
from dataclasses import dataclass, field

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.errors import ConfigError
from vitreous.images.config import Mode
from vitreous.shapes import Size


@dataclass(frozen=True)
class RecipeOptions:
    """The few things that shape a whole configuration; everything else is the recipe's."""

    facts: Facts
    """Classes, counts, channels and sizes of the data."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the data is."""
    model: str | None = None
    """A model's name, e.g. "S/16"; None: the recipe's choice."""
    weights: str | None = None
    """A model folder or run folder to start from, or anything else that can be loaded."""
    weights_as: str | None = None
    """What the weights are, where they don't tell: a family, or family:variant."""
    weights_grid: tuple[int, int] | None = None
    """Rows and columns of patches that their positions are for, where they don't tell."""
    weights_heads: int | None = None
    """Their attention heads, where they don't tell."""
    image: Size | None = None
    """Rows and columns that the model sees; None: the recipe's choice."""
    channels: int | None = None
    """Channels that the model sees, kept as they are in the files; None: those of the data, three and one in 8 bits."""
    minutes: float | None = None
    """Time to train for; None: the recipe's own duration."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ConfigError(
                f"minutes is {self.minutes:g}; it must be above 0, or left out for the recipe's own duration"
            )

    @property
    def mode(self) -> Mode:
        """What the model sees: colours or grey of 8 bits; channels as they are where there are others, or it is asked for."""
        wanted = self.channels or self.facts.channels
        if self.channels is None and wanted in (1, 3):
            return "L" if wanted == 1 else "RGB"
        return wanted

    @property
    def planes(self) -> int:
        """Channels that the model sees."""
        return self.channels or self.facts.channels

    def batch(self, wanted: int) -> int:
        """Return a recipe's batch, or all training images where they are fewer: no step sees an image twice."""
        return min(wanted, self.facts.train)

    def seen(self, default: Size, patch: Size) -> Size:
        """Return the size that the model sees: what was asked for, as it is, or the default in whole patches."""
        if self.image is not None:
            return self.image
        return Size(round_to_multiple(default.rows, patch.rows), round_to_multiple(default.cols, patch.cols))


def round_to_multiple(pixels: int, patch: int) -> int:
    """Round to the nearest multiple of the patch, at least one patch."""
    return max(patch, round(pixels / patch) * patch)
