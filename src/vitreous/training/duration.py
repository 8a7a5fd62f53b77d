"""Durations with units: 90ep, 2500st, 1.28Mex, 15min, 5%; 500st,10% is the shorter of the two. One parser, one
converter."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from vitreous.errors import ConfigError

Unit = Literal["ep", "st", "ex", "min", "%"]
PREFIXES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
LONGEST = 10**15
"""Most epochs, steps, examples or minutes of a duration."""
MOST = 5
"""Most parts of a duration: as many as there are units."""
PATTERN = re.compile(r"\s*(?P<amount>\d+(?:\.\d+)?)\s*(?P<prefix>[kMG]?)(?P<unit>ep|st|ex|min|%)\s*")


@dataclass(frozen=True)
class Scale:
    """The facts needed to convert a duration."""

    examples: int
    """Training examples per epoch."""
    batch: int
    """Examples per step."""
    total: int | None = None
    """Steps of the whole run, for shares."""
    steps_per_minute: float | None = None
    """Measured speed, for minutes."""


@dataclass(frozen=True)
class Duration:
    """An amount of training: epochs, steps, examples, minutes or a share of the run, optionally limited by a second
    amount."""

    amount: float
    unit: Unit
    most: "Duration | None" = None

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read "90ep", "2500st", "1.28Mex", "15min", "5%" or "500st,10%"; raises ConfigError for anything else."""
        first, comma, rest = text.partition(",")
        match = PATTERN.fullmatch(first)
        if match is None or text.count(",") >= MOST:
            raise ConfigError(
                f"can't read the duration {text[:40]!r}; write 90ep (epochs), 2500st (steps), 1.28Mex (examples), "
                "15min (minutes) or 5% (of the run); 500st,10% is the shorter of the two"
            )
        amount = float(match["amount"]) * PREFIXES[match["prefix"]]
        if amount > LONGEST:
            raise ConfigError(f"the duration {text[:40]!r} is longer than any run; use at most {LONGEST:,} of a unit")
        return cls(amount, cast("Unit", match["unit"]), cls.parse(rest) if comma else None)

    def steps(self, scale: Scale) -> int:
        """Convert to whole optimizer steps, rounded to the nearest."""
        return round(self.convert(scale))

    def convert(self, scale: Scale) -> float:
        """Convert to optimizer steps and fractions of them."""
        own = self._convert_own(scale)
        return own if self.most is None else min(own, self.most.convert(scale))

    def _convert_own(self, scale: Scale) -> float:
        if self.unit == "%":
            if scale.total is None:
                raise ConfigError(f"{self.amount:g}% is a share of the run, so it can't set the run's own length")
            return self.amount / 100 * scale.total
        if self.unit == "min":
            if scale.steps_per_minute is None:
                raise ConfigError(
                    f"{self.amount:g}min can't be used here; give epochs (ep), steps (st) or examples (ex)"
                )
            return self.amount * scale.steps_per_minute
        per_step = {"ep": scale.examples / scale.batch, "ex": 1 / scale.batch, "st": 1.0}
        return self.amount * per_step[self.unit]

    def units(self) -> "tuple[Unit, ...]":
        """Return the units of all its parts."""
        return (self.unit, *(self.most.units() if self.most else ()))
