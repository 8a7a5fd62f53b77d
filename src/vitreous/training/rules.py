"""What the same settings do has changed at times; which runs of earlier versions that touches.

`runs.RUN_FORMAT` counts layouts of the folder. This number, "rules" in config.json, counts changes of the arithmetic that
settings stand for. A run that was begun under older rules can be read, reported and started from; it is gone on with only
if nothing that has changed since touches its settings, since what came out would be neither the one nor the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vitreous.errors import RunError
from vitreous.model.config import ViTConfig
from vitreous.settings import from_dict
from vitreous.training.config import RunConfig

RULES = 2
"""The number that is written today; without one it is 1."""


@dataclass(frozen=True)
class Change:
    """What changed, with which number, for which runs."""

    rules: int
    before: str
    """What was done before, to follow "a vitreous that"."""
    touches: Callable[[RunConfig], bool]


def touches_positions(config: RunConfig) -> bool:
    """Tell whether positions or registers were decayed by name, or a table or a factor of LoRA was given to Muon."""
    model = config.model
    if not isinstance(model, ViTConfig):
        return False
    inside = model.positions in ("relative", "bias")
    layers = model.positions in ("learned", "learned2d") and model.position_placement == "layers" and model.depth > 1
    if config.optimizer.name == "muon" and (inside or config.lora or model.block.mlp == "swiglu"):
        return True
    return bool(config.optimizer.weight_decay and (inside or layers or model.registers))


def touches_sgd_decay(config: RunConfig) -> bool:
    """Tell whether SGD's decoupled decay passed through the momentum."""
    optimizer = config.optimizer
    return optimizer.name == "sgd" and optimizer.decoupled and optimizer.weight_decay > 0


def touches_distillation(config: RunConfig) -> bool:
    """Tell whether a distilled model was trained by one loss, on the averaged logits."""
    return isinstance(config.model, ViTConfig) and config.model.distillation_token and bool(config.model.classes)


CHANGES = (
    Change(2, "decayed some positions and registers, and gave tables to Muon", touches_positions),
    Change(2, "passed SGD's decoupled weight decay through the momentum", touches_sgd_decay),
    Change(2, "trained a distilled model's two heads by one loss on their mean", touches_distillation),
)


def find_outdated(written: Mapping[str, Any]) -> str:
    """Return what was done otherwise in the run whose config.json holds `written`; "" where it is as today."""
    config = from_dict(RunConfig, written["config"])
    found = [change.before for change in CHANGES if change.rules > written.get("rules", 1) and change.touches(config)]
    return " and ".join(found)


def check_rules(written: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a run that today's rules would change half-way; raises RunError."""
    before = find_outdated(written)
    if before:
        raise RunError(
            f"{where} was begun by a vitreous that {before} (version {written['environment']['vitreous']}); from here on "
            f"it would be neither run. Finish it with that version, or begin anew from its weights with --weights {where}"
        )
