"""What a recipe starts from: the facts of the data and the user's options."""

import math
from dataclasses import dataclass, field

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.errors import ConfigError, is_number
from vitreous.images.config import Mode
from vitreous.shapes import Size


@dataclass(frozen=True)
class RecipeOptions:
    """The few options that shape a whole configuration; the recipe decides everything else."""

    facts: Facts
    """Classes, counts, channels and sizes of the data."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the data is."""
    model: str | None = None
    """A model's name, e.g. "S/16"; None: the recipe's choice."""
    weights: str | None = None
    """A model folder or run folder to start from, or anything else that can be loaded."""
    weights_as: str | None = None
    """Family of the weights, or family:variant, if they don't state it."""
    weights_grid: tuple[int, int] | None = None
    """Rows and columns of the grid of patches that the weights' positions are for, if they don't state them."""
    weights_heads: int | None = None
    """Attention heads of the weights, if they don't state them."""
    teacher: str | None = None
    """A model to learn from besides the labels; None: none."""
    image: Size | None = None
    """Rows and columns of the model's input; None: the recipe's choice."""
    channels: int | None = None
    """Channels of the model's input, kept as they are in the files; None: those of the data, three channels or one
    being converted to 8 bits."""
    minutes: float | None = None
    """Time to train; None: the recipe's own duration."""

    def __post_init__(self) -> None:
        number = is_number(self.minutes)
        if self.minutes is not None and not (number and 0 < self.minutes < math.inf):
            raise ConfigError(
                f"minutes is {f'{self.minutes:g}' if number else repr(self.minutes)}; it must be "
                f"{'above 0' if number and self.minutes <= 0 else 'a finite number above 0'}, or left out for the recipe's own duration"
            )
        if self.channels is not None and self.channels < 1:
            raise ConfigError(f"channels is {self.channels}; it must be at least 1, or left out for those of the data")

    @property
    def mode(self) -> Mode:
        """The model's input: RGB or grey in 8 bits; on request, or with another number of channels, the channels as
        they are in the files."""
        wanted = self.channels or self.facts.channels
        if self.channels is None and wanted in (1, 3):
            return "L" if wanted == 1 else "RGB"
        return wanted

    @property
    def planes(self) -> int:
        """Channels of the model's input."""
        return self.channels or self.facts.channels

    def batch(self, wanted: int) -> int:
        """Return a recipe's batch, or the number of training images if that is smaller: no step sees an image twice."""
        return min(wanted, self.facts.train)

    def choose_size(self, default: Size, patch: Size) -> Size:
        """Return the size of the model's input: the requested one unchanged, or the default rounded to whole
        patches."""
        if self.image is not None:
            return self.image
        return Size(round_to_multiple(default.rows, patch.rows), round_to_multiple(default.cols, patch.cols))


def round_to_multiple(pixels: int, patch: int) -> int:
    """Round to the nearest multiple of the patch, at least one patch."""
    return max(patch, round(pixels / patch) * patch)
