"""The learning rate as a share of its peak: a pure function of the step, so there is nothing to save."""

import math
from dataclasses import dataclass

from vitreous.errors import ConfigError
from vitreous.training.config import ScheduleConfig
from vitreous.training.duration import Duration, Scale


@dataclass(frozen=True)
class Schedule:
    """Warm-up, body and cool-down, in steps. Step 0 is the first; share(total - 1) belongs to the last."""

    config: ScheduleConfig
    total: int
    warmup: int
    cooldown: int
    milestones: tuple[int, ...] = ()
    """Steps before which the rate drops, none of them the first."""

    @classmethod
    def plan(cls, config: ScheduleConfig, scale: Scale) -> "Schedule":
        """Convert the configured durations to steps; `scale.total` must be set."""
        assert scale.total is not None
        warming, cooling = (Duration.parse(text) for text in (config.warmup, config.cooldown))
        warmup, cooldown = warming.steps(scale), cooling.steps(scale)
        milestones = tuple(max(1, Duration.parse(milestone).steps(scale)) for milestone in config.milestones)
        if not 0 <= config.final <= 1:
            raise ConfigError(f"schedule.final is {config.final}; it is a share of the peak rate, from 0 to 1")
        if warming.convert(scale) + cooling.convert(scale) > scale.total:
            raise ConfigError(
                f"warm-up ({warmup} steps) and cool-down ({cooldown} steps) are longer than the run "
                f"({scale.total} steps); shorten them (schedule.warmup, schedule.cooldown) or train longer (duration)"
            )
        # Both may have been rounded up: 50% and 50% of 3 steps.
        return cls(config, scale.total, warmup, min(cooldown, scale.total - warmup), milestones)

    def share(self, step: int) -> float:
        """Return the learning rate of this step as a share of the peak, 0 to 1."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.config.final + (1 - self.config.final) * self._body(step)

    def _body(self, step: int) -> float:
        """Fall from 1 to 0 after the warm-up."""
        since = step - self.warmup
        match self.config.kind:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * since / max(1, self.total - self.warmup)))
            case "linear":
                return 1 - since / max(1, self.total - self.warmup)
            case "steps":
                return self.config.milestone_factor ** sum(step >= milestone for milestone in self.milestones)
            case "rsqrt":
                body = math.sqrt(self.config.timescale / (since + self.config.timescale))
            case "constant":
                body = 1.0
        left = self.total - step
        return body * min(1.0, left / self.cooldown) if self.cooldown else body
