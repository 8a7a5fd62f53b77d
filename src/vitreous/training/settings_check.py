"""The allowed values of a run's settings, checked before anything is opened or written."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from vitreous.errors import ConfigError, UnknownName, is_number
from vitreous.objectives.config import ClassifyConfig
from vitreous.runtime.packages import require_packages
from vitreous.settings import check_size, flatten, to_dict
from vitreous.training.config import OPTIMIZERS, TRACKERS, RunConfig
from vitreous.training.duration import Duration

OF_STEPS = (
    "optimizer", "schedule", "early_stop", "regularisation", "ema", "batch", "micro_batch", "freeze",
    "augment.mixup", "augment.cutmix", "augment.mix_probability", "objective.smoothing",
)  # fmt: skip
"""Settings that only training steps read."""
RANGES = {
    "data.tuning_holdout": "[0, 1)",
    "data.folds": "[0, inf)",
    "data.fold": "[-1, inf)",
    "data.pseudo_ratio": "[0.001, 1000]",
    "decode.max_pixels": "[1, inf)",
    "decode.max_bytes": "[1, inf)",
    "decode.background": "[0, 255]",
    "decode.max_memory": "[0, inf)",
    "decode.max_expansion": "[1, inf)",
    "preprocess.crop": "(0, 1]",
    "preprocess.std": "(0, inf)",
    "augment.crop_area": "(0, 1]",
    "augment.crop_aspect": "(0, inf)",
    "augment.crop_pad": "[0, inf)",
    "augment.crop_window": "(0, 1]",
    "augment.randaugment": "[0, 30]",
    "augment.colour_jitter": "[0, 1]",
    "augment.views": "[1, 1000]",
    "augment.erase": "[0, 1]",
    "augment.canvas": "[1, 8]",
    "augment.mixup": "[0, inf)",
    "augment.cutmix": "[0, inf)",
    "augment.mix_probability": "[0, 1]",
    "model.position_temperature": "(0, inf)",
    "model.norm_eps": "[0, inf)",
    "model.rotary.temperature": "(0, inf)",
    "model.epsilons.kernel": "[0, 1)",
    "model.epsilons.norm": "[0, 1)",
    "model.stem.epsilons.kernel": "[0, 1)",
    "model.stem.epsilons.norm": "[0, 1)",
    "model.block.layer_scale": "[0, inf)",
    "regularisation.dropout": "[0, 1)",
    "regularisation.drop_path": "[0, 1)",
    "regularisation.patch_dropout": "[0, 1)",
    "objective.smoothing": "[0, 1)",
    "objective.distillation_temperature": "(0, inf)",
    "objective.distillation_weight": "[0, 1]",
    "objective.corrupted_share": "(0, 1)",
    "objective.mask_ratio": "(0, 1)",
    "objective.mask_probability": "[0, 1]",
    "objective.swap_probability": "[0, 1]",
    "objective.decoder_width": "[1, inf)",
    "objective.decoder_depth": "[1, inf)",
    "objective.decoder_heads": "[1, inf)",
    "optimizer.lr": "[0, inf)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.betas": "[0, 1)",
    "optimizer.eps": "(0, inf)",
    "optimizer.momentum": "[0, 1)",
    "optimizer.muon_lr": "[0, inf)",
    "optimizer.base_batch": "[1, 1048576]",
    "optimizer.sam": "[0, inf)",
    "optimizer.muon_decay": "[0, inf)",
    "optimizer.muon_momentum": "[0, 1)",
    "optimizer.clip": "[0, inf)",
    "optimizer.layer_decay": "(0, 1]",
    "schedule.final": "[0, 1]",
    "schedule.timescale": "[1, inf)",
    "schedule.milestone_factor": "[0, 1]",
    "early_stop.patience": "[0, inf)",
    "early_stop.min_delta": "[0, 1]",
    "freeze": "[0, inf)",
    "head_views": "[0, 1000]",
    "lora": "[0, inf)",
    "low_resolution": "(0, 1]",
    "packed": "[0, inf)",
    "batch": "[1, 1048576]",
    "micro_batch": "[0, inf)",
    "ema": "[0, 1)",
    "seed": "[0, 9223372036854775807]",
    "keep_checkpoints": "[2, inf)",
    "loss_spike": "[0, inf)",
    "shard": "[2, inf)",
    "workers": "[0, 1024]",
}
"""Range of each setting, in the notation of intervals; every other number must be finite."""
DURATIONS = (
    "duration",
    "low_resolution_duration",
    "evaluate_every",
    "checkpoint_every",
    "schedule.warmup",
    "schedule.cooldown",
    "schedule.milestones",
)
BY_CLOCK = ("duration", "checkpoint_every")
"""Durations that may be minutes."""
ABOVE_NOTHING = {
    "duration": "",
    "evaluate_every": " (100% evaluates at the end alone)",
    "checkpoint_every": " (100% writes none on the way; one is always written at the end)",
}
"""Durations that can't be 0, and the alternative."""
ORDERED = ("augment.crop_area", "augment.crop_aspect")
"""Pairs of the smallest and the largest."""


def check_ranges(config: RunConfig) -> None:
    """Refuse numbers outside their range and durations that can't be read; raises ConfigError naming the setting."""
    check_weights(config)
    for name in config.track:
        require_packages([TRACKERS[name]], f"--track {name}", "track")
    if config.data.scan == "later" and config.data.broken == "skip":
        raise ConfigError(
            "data.scan later does not know which images are broken, so data.broken skip can't leave them out; leave out one"
        )
    if (config.data.unlabelled is None) != (config.data.pseudo_labels is None):
        raise ConfigError(
            "data.unlabelled and data.pseudo_labels belong together; to let a teacher label the images first, use --recipe noisy-student"
        )
    check_values(flatten(to_dict(config)), nothing=config.head == "logistic")


def check_values(settings: Mapping[str, Any], *, nothing: bool = False) -> None:
    """Check some settings, by dotted name, against their ranges; a run without steps is allowed only if so stated.

    Raises:
        ConfigError: a number outside its range, a duration that can't be read, or a pair in the wrong order.
    """
    check_optimizer_name(settings.get("optimizer.name", OPTIMIZERS[0]))
    for name, value in settings.items():
        each = value if isinstance(value, (list, tuple)) else [value]
        numbers = list(filter(is_number, each))
        for number in numbers:
            check_number(name, number)
        if name in ORDERED and len(numbers) == 2 and numbers[0] > numbers[1]:
            raise ConfigError(f"{name} runs from {numbers[0]:g} down to {numbers[1]:g}; give the smallest first")
        for text in each if name in DURATIONS else ():
            if isinstance(text, str):
                check_duration(name, text, nothing=nothing and name == "duration")


def check_optimizer_name(name: str) -> None:
    """Refuse an optimizer that is neither one of ours nor of the form module:Class; raises UnknownName, ConfigError."""
    if not isinstance(name, str):
        raise ConfigError(f"optimizer.name is {name!r}; it must be text, such as 'adamw'")
    named = name.count(":") == 1 and all(word.isidentifier() for word in re.split("[.:]", name))
    if name not in OPTIMIZERS and not named:
        raise UnknownName("optimizer", name, (*OPTIMIZERS, "module:Class"))


def check_duration(name: str, text: str, *, nothing: bool = False) -> None:
    """Check a duration against its setting's range, with an optional note for 0; raises ConfigError."""
    duration = Duration.parse(text)
    if "min" in duration.units() and (name not in BY_CLOCK or duration.most):
        raise ConfigError(f"{name} is {text}; give epochs (ep), steps (st), examples (ex) or a share (%)")
    if name == "duration" and "%" in duration.units():
        raise ConfigError(f"duration is {text}, a share of the run, so it can't set the run's own length")
    if name in ABOVE_NOTHING and not duration.amount and not nothing:
        raise ConfigError(f"{name} is {text}; it must be above 0{ABOVE_NOTHING[name]}")


def check_weights(config: RunConfig) -> None:
    """Refuse facts about weights if no weights are named; raises ConfigError."""
    for name in ("weights_as", "weights_grid", "weights_heads"):
        if config.weights is None and getattr(config, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} describes the weights that --weights names; give both, or neither")


def check_teacher(config: RunConfig) -> None:
    """Refuse a teacher without an objective that learns from it, and settings of distillation without a teacher, or of the
    other kind; raises ConfigError."""
    objective = config.objective
    if not isinstance(objective, ClassifyConfig):
        if config.teacher is not None:
            raise ConfigError(f"objective {objective.KIND} learns from images alone; leave out --teacher, or classify")
        return
    plain = ClassifyConfig()
    names = [field.name for field in fields(objective) if field.name.startswith("distillation")]
    given = [name for name in names if getattr(objective, name) != getattr(plain, name)]
    if config.teacher is None and given:
        raise ConfigError(
            f"objective.{given[0]} is {getattr(objective, given[0])}, but there is no teacher to learn from; give --teacher"
        )
    if objective.distillation == "hard" and "distillation_temperature" in given:
        raise ConfigError(
            f"objective.distillation_temperature is {objective.distillation_temperature:g}, but hard distillation has none; "
            "set --objective.distillation soft"
        )


def takes_no_steps(config: RunConfig) -> bool:
    """Return whether all of a run is the fit of a head."""
    return config.head == "logistic" and not Duration.parse(config.duration).amount


def list_idle(config: RunConfig, changed: Iterable[str]) -> list[str]:
    """Return those of the changed settings, by dotted name, that only training steps read, in a run that takes none."""
    if not takes_no_steps(config):
        return []
    return [name for name in changed if name.partition(".")[0] in OF_STEPS or name in OF_STEPS]


def check_number(name: str, value: float) -> None:
    """Check one number against its range."""
    if isinstance(value, int):
        check_size(value, name)
    interval = RANGES.get(name, "(-inf, inf)")
    low, high = (float(end) for end in interval[1:-1].split(", "))
    above = value > low or (value == low and interval[0] == "[")
    below = value < high or (value == high and interval[-1] == "]")
    if not (above and below and math.isfinite(value)):
        raise ConfigError(
            f"{name} is {value if isinstance(value, int) else format(value, 'g')}; it must be "
            f"{'a finite number, ' if math.isinf(value) and 'inf' in interval else ''}{describe_interval(interval)}"
        )


def describe_interval(interval: str) -> str:
    """Describe an interval in words.

    >>> describe_interval("(0, 1]"), describe_interval("[2, inf)")
    ('above 0 and at most 1', 'at least 2')
    """
    low, high = interval[1:-1].split(", ")
    parts = []
    if low != "-inf":
        parts.append(f"{'at least' if interval[0] == '[' else 'above'} {low}")
    if high != "inf":
        parts.append(f"{'at most' if interval[-1] == ']' else 'below'} {high}")
    return " and ".join(parts) or "a finite number"
