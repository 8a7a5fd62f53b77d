"""How a teacher's labels are selected, and how often a student becomes the teacher: settings only, no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from vitreous.errors import ConfigError

Amount = int | Literal["auto"]
MOST_ROUNDS = 100


@dataclass(frozen=True)
class SelfTrainingOptions:
    """Noisy Student's settings (1911.04252), for recipe noisy-student; --teacher names the first teacher."""

    rounds: int = 3
    """Number of students; each is the teacher of the next."""
    targets: Literal["soft", "hard"] = "soft"
    """soft: the teacher's probability of each class. hard: its most probable class."""
    threshold: float = 0.3
    """Least probability of the teacher's most probable class, 0 to 1; images below it are left out."""
    at_most: Amount = "auto"
    """Most images kept per class, the most certain first; 0: all. auto: the mean number of images above the
    threshold."""
    at_least: Amount = "auto"
    """Least examples per class: images are repeated in turn, the most certain first, to reach it; 0: none are repeated.
    auto: as at_most."""

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise ConfigError(f"self_training.rounds is {self.rounds}; it must be 1 to {MOST_ROUNDS}")
        if not 0 <= self.threshold <= 1 or math.isnan(self.threshold):
            raise ConfigError(f"self_training.threshold is {self.threshold:g}; it must be 0 to 1")
        for name in ("at_most", "at_least"):
            amount = getattr(self, name)
            if amount != "auto" and not 0 <= amount < 10**9:
                raise ConfigError(f"self_training.{name} is {amount}; it must be auto, or 0 or more")
        if "auto" not in (self.at_most, self.at_least) and 0 < int(self.at_most) < int(self.at_least):
            raise ConfigError(
                f"self_training.at_least is {self.at_least} and at_most {self.at_most}; at_least can't be more than at_most"
            )
