"""Changes in the effect of the same settings, and which runs of earlier versions they affect.

`RUN_FORMAT` counts layouts of the folder. This number, "rules" in config.json, counts changes of the arithmetic behind
the settings. A run that began under older rules can be read, reported and started from. It can be resumed only if no
change since then affects its settings, because the result would be neither the old nor the new one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vitreous.errors import RunError
from vitreous.model.config import ViTConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.settings import from_dict
from vitreous.training.config import RunConfig

RULES = 5
"""The number written today; a file without one has 1."""


@dataclass(frozen=True)
class Change:
    """One change: its number, and the runs that it affects."""

    rules: int
    before: str
    """The former behaviour; follows "a vitreous that"."""
    touches: Callable[[RunConfig], bool]


def touches_positions(config: RunConfig) -> bool:
    """Return whether positions or registers decayed by name, or Muon took a table or a factor of LoRA."""
    model = config.model
    if not isinstance(model, ViTConfig):
        return False
    inside = model.positions in ("relative", "bias")
    layers = model.positions in ("learned", "learned2d") and model.position_placement == "layers" and model.depth > 1
    if config.optimizer.name == "muon" and (inside or config.lora or model.block.mlp == "swiglu"):
        return True
    return bool(config.optimizer.weight_decay and (inside or layers or model.registers))


def touches_sgd_decay(config: RunConfig) -> bool:
    """Return whether SGD's decoupled decay passed through the momentum."""
    optimizer = config.optimizer
    return optimizer.name == "sgd" and optimizer.decoupled and optimizer.weight_decay > 0


def touches_distillation(config: RunConfig) -> bool:
    """Return whether a distilled model was trained with one loss, on the averaged logits."""
    return isinstance(config.model, ViTConfig) and config.model.distillation_token and bool(config.model.classes)


def touches_draws(config: RunConfig) -> bool:
    """Return whether something was left out at random, drawn by one generator for a batch."""
    left_out = config.regularisation
    return bool(left_out.dropout or left_out.drop_path or left_out.patch_dropout)


def touches_frozen_positions(config: RunConfig) -> bool:
    """Return whether `freeze` or layer-wise decay left out some positions in the attention, or reached those of later blocks."""
    model, rates = config.model, config.optimizer.layer_decay < 1
    if not isinstance(model, ViTConfig) or not (model.in_attention or model.rotary.kind == "mixed"):
        return False
    left_out = model.position_placement == "shared" and model.positions.startswith("bias-log")
    return (left_out and (rates or config.freeze == "trunk")) or config.freeze not in ("none", "trunk")


def touches_decoder(config: RunConfig) -> bool:
    """Return whether a decoder's heads were as wide as the encoder's were set to be."""
    masked = isinstance(config.objective, MaskedAutoencoderConfig) and isinstance(config.model, ViTConfig)
    return masked and bool(config.model.attention_head_width)


def touches_offset_decay(config: RunConfig) -> bool:
    """Return whether weight decay reached the MLPs that compute positions from offsets, and they were trained."""
    model = config.model
    computed = model.version == "v2" if isinstance(model, SwinConfig) else False
    if isinstance(model, ViTConfig):
        computed = model.positions.startswith("bias-log")
    still = config.lora or config.freeze in ("positions", "trunk")
    return bool(computed and config.optimizer.weight_decay and not still)


def touches_rendered_teacher(config: RunConfig) -> bool:
    """Return whether a teacher saw views that a device had rendered, and that it resizes to its own size."""
    return config.teacher is not None and config.augment.on == "device" and not config.preprocess.keeps_channels


def touches_reduced_crops(config: RunConfig) -> bool:
    """Return whether whole images that were decoded at reduced scale were stretched by the pixels that they lack."""
    return config.decode.at_least is not None and config.augment.crop != "inception"


CHANGES = (
    Change(2, "decayed some positions and registers, and gave tables to Muon", touches_positions),
    Change(2, "passed SGD's decoupled weight decay through the momentum", touches_sgd_decay),
    Change(2, "trained a distilled model's two heads by one loss on their mean", touches_distillation),
    Change(3, "drew dropout, drop path and patch dropout for a whole batch, and not for each example", touches_draws),
    Change(4, "froze other positions in the attention", touches_frozen_positions),
    Change(4, "gave a decoder the encoder's width of heads", touches_decoder),
    Change(5, "decayed the MLPs of positions", touches_offset_decay),
    Change(5, "let what a device rendered overshoot where a teacher resized it", touches_rendered_teacher),
    Change(5, "stretched whole images that were decoded at reduced scale", touches_reduced_crops),
)


def find_outdated(written: Mapping[str, Any]) -> str:
    """Return what was done differently in the run with this config.json; "" if nothing."""
    config = from_dict(RunConfig, written["config"])
    found = [change.before for change in CHANGES if change.rules > written.get("rules", 1) and change.touches(config)]
    return " and ".join(found)


def check_rules(written: Mapping[str, Any], where: str) -> None:
    """Refuse to resume a run that today's rules would change half-way; raises RunError."""
    before = find_outdated(written)
    if before:
        raise RunError(
            f"{where} was begun by a vitreous that {before} (version {written['environment']['vitreous']}); from here on "
            f"it would be neither run. Finish it with that version, or begin anew from its weights with --weights {where}"
        )
