"""How weights are loaded, and the report about it. Imports no torch."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vitreous.errors import ConfigError, UnknownName
from vitreous.images.config import MOST_CHANNELS

ALLOWED = ("missing", "unused")
CHANNEL_RULES = ("sum", "tile", "zero")
"""How the first layer's kernels are adapted to another number of channels; see weights/adaptation.py."""


@dataclass(frozen=True)
class StatedFacts:
    """The user's statements about facts that a file doesn't state; they must agree with what it does state."""

    grid: tuple[int, int] | None = None
    """Rows and columns of patches for its positions."""
    heads: int | None = None
    """Attention heads."""

    def __post_init__(self) -> None:
        if self.grid is not None and (len(self.grid) != 2 or min(self.grid) < 1):
            raise ConfigError(f"grid is {self.grid}; expected rows and columns of patches, such as 7 28")
        if self.heads is not None and self.heads < 1:
            raise ConfigError(f"heads is {self.heads}; it must be at least 1")

    def __str__(self) -> str:
        said = [f"a grid of {self.grid[0]}x{self.grid[1]} patches"] if self.grid else []
        return " and ".join([*said, *([f"{self.heads} heads"] if self.heads else [])])


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded."""

    family: str | None = None
    """The family, or family:variant; None: recognised (--as)."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches for the file's positions, if it doesn't say."""
    heads: int | None = None
    """Attention heads, if the file doesn't say."""
    image: tuple[int, int] | None = None
    """Rows and columns of the model's images; None: those of the file."""
    window: tuple[int, int] | None = None
    """Rows and columns of a Swin Transformer's windows, cut to its maps; None: those of the file."""
    rule: str | None = None
    """The rule that resizes the position grid; None: its origin's."""
    allow: tuple[str, ...] = ()
    """Allowed differences: missing (tensors that the model needs but the file lacks), unused (tensors of the file that
    the model has no place for)."""
    labels: tuple[str, ...] | None = None
    """If the outputs have names: the names of the classes to keep, in this order. If not: names for all outputs, in
    order. None: as in the file."""
    classes: int | tuple[str, ...] | None = None
    """A new head of zeros, for this number of classes or for these; None: the file's head."""
    channels: int | None = None
    """Channels of the model's images; None: those of the file."""
    channel_rule: str | None = None
    """How the first layer is adapted to `channels`: sum, tile or zero; None: sum for one, zero for more than before,
    else tile."""

    def __post_init__(self) -> None:
        for name in self.allow:
            if name not in ALLOWED:
                raise UnknownName("difference to allow", name, ALLOWED)
        if self.channel_rule is not None and self.channel_rule not in CHANNEL_RULES:
            raise UnknownName("rule for channels", self.channel_rule, CHANNEL_RULES)
        if self.window is not None and (len(self.window) != 2 or min(self.window) < 1):
            raise ConfigError(f"window is {self.window}; expected rows and columns of at least 1, such as 12 12")
        if self.channels is not None and not 1 <= self.channels <= MOST_CHANNELS:
            raise ConfigError(f"channels is {self.channels}; it must be 1 to {MOST_CHANNELS}")
        _ = self.stated
        if self.labels is not None and self.classes is not None:
            raise ConfigError("labels choose from the existing head, but classes makes a new one; give one of them")

    @property
    def stated(self) -> StatedFacts:
        """The statements about the file itself."""
        return StatedFacts(self.grid, self.heads)


def group_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names grouped by replacing their numbers, the largest group first.

    >>> group_names(["blocks.0.gamma_1", "blocks.1.gamma_1", "mask_token"])
    ('blocks.N.gamma_1 (2)', 'mask_token')
    """
    counted = Counter(re.sub(r"(?<![^./_])\d+(?=[./])", "N", name) for name in names)
    return tuple(f"{name} ({count})" if count > 1 else name for name, count in counted.most_common())


@dataclass(frozen=True)
class Report:
    """The report on loading weights into a model of vitreous."""

    source: str
    origin: str
    """The family, and the software that writes such files."""
    model: str
    mapped: int
    """Number of the model's tensors made from tensors of the file."""
    resized: str = ""
    """Position grid: from, to, rule; empty if unchanged."""
    channels: str = ""
    """Channels of the first layer: from, to, rule; empty if unchanged."""
    head: str = "kept"
    """kept, sliced, new or none."""
    new: tuple[str, ...] = ()
    """The model's tensors that were initialised, since the file lacks them."""
    unused: tuple[str, ...] = ()
    """Tensors of the file that have no place in the model."""
    ignored: int = 0
    """Number of tensors of the file that belong to something else, such as a text tower."""
    beside: tuple[str, ...] = ()
    """Names of the ignored tensors in groups, with numbers replaced."""
    assumed: tuple[str, ...] = ()
    """Facts that the file doesn't state."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"source      {self.source}", f"origin      {self.origin}", f"model       {self.model}"]
        lines.append(
            f"tensors     {self.mapped} mapped, {len(self.new)} new, {len(self.unused)} unused, {self.ignored} ignored"
        )
        lines += [f"positions   {self.resized}"] if self.resized else []
        lines += [f"channels    {self.channels}"] if self.channels else []
        lines.append(f"head        {self.head}")
        lines += [f"new         {name}" for name in group_names(self.new)]
        lines += [f"unused      {name}" for name in group_names(self.unused)]
        lines += [f"ignored     {', '.join(self.beside)}"] if self.beside else []
        lines += [f"assumed     {note}" for note in self.assumed]
        return "\n".join([*lines, *(f"note        {note}" for note in self.notes)])
