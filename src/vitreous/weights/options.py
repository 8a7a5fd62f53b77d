"""How weights are to be taken, and what became of them. Imports no torch."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vitreous.errors import ConfigError, UnknownName

ALLOWED = ("missing", "unused")
CHANNEL_RULES = ("sum", "tile", "zero")
"""How the first layer's kernels are taken to another number of channels; see weights/adaptation.py."""


@dataclass(frozen=True)
class StatedFacts:
    """What somebody says of a file that can't tell it itself; what the file does tell must agree."""

    grid: tuple[int, int] | None = None
    """Rows and columns of patches that its positions are for."""
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
    """How weights are to be taken."""

    family: str | None = None
    """The family, or family:variant; None: recognised (--as)."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches that the file's positions are for, where it doesn't tell."""
    heads: int | None = None
    """Attention heads, where the file doesn't tell."""
    image: tuple[int, int] | None = None
    """Rows and columns of images that the model sees; None: those of the file."""
    rule: str | None = None
    """How the position grid is resized; None: as its origin does."""
    allow: tuple[str, ...] = ()
    """What may differ: missing (tensors of ours that theirs lacks), unused (theirs that ours lacks)."""
    labels: tuple[str, ...] | None = None
    """Where the outputs have names: those of the classes to keep, in the order that is wanted. Where they have none: the
    names of all outputs, in their order. None: as the file has them."""
    classes: int | tuple[str, ...] | None = None
    """A new head, of zeros, for so many classes or for these; None: the file's own."""
    channels: int | None = None
    """Channels that the model sees; None: those of the file."""
    channel_rule: str | None = None
    """How the first layer gets them: sum, tile or zero; None: sum for one, zero for more than there are, else tile."""

    def __post_init__(self) -> None:
        for name in self.allow:
            if name not in ALLOWED:
                raise UnknownName("difference to allow", name, ALLOWED)
        if self.channel_rule is not None and self.channel_rule not in CHANNEL_RULES:
            raise UnknownName("rule for channels", self.channel_rule, CHANNEL_RULES)
        if self.channels is not None and self.channels < 1:
            raise ConfigError(f"channels is {self.channels}; it must be at least 1")
        _ = self.told
        if self.labels is not None and self.classes is not None:
            raise ConfigError(
                "labels are those of the head that is there, and classes makes a new one; give one of them"
            )

    @property
    def told(self) -> StatedFacts:
        """What is said of the file itself."""
        return StatedFacts(self.grid, self.heads)


def group_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names with their numbers taken together, the largest group first.

    >>> group_names(["blocks.0.gamma_1", "blocks.1.gamma_1", "mask_token"])
    ('blocks.N.gamma_1 (2)', 'mask_token')
    """
    counted = Counter(re.sub(r"(?<![^./_])\d+(?=[./])", "N", name) for name in names)
    return tuple(f"{name} ({count})" if count > 1 else name for name, count in counted.most_common())


@dataclass(frozen=True)
class Report:
    """What became of weights on their way into our model."""

    source: str
    origin: str
    """The family, and who writes such files."""
    model: str
    mapped: int
    """Tensors of ours that were made from theirs."""
    resized: str = ""
    """Position grid: from, to, rule; empty where it stayed."""
    channels: str = ""
    """Channels of the first layer: from, to, rule; empty where they stayed."""
    head: str = "kept"
    """kept, sliced, new or none."""
    new: tuple[str, ...] = ()
    """Tensors of ours that were initialised, since theirs has none."""
    unused: tuple[str, ...] = ()
    """Tensors of theirs that have no place in our model."""
    ignored: int = 0
    """Tensors of theirs that belong to something else, such as a text tower."""
    beside: tuple[str, ...] = ()
    """Groups of those, numbers taken together."""
    assumed: tuple[str, ...] = ()
    """What the file didn't tell."""
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
