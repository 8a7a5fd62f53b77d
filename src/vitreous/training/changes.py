"""The settings that may change when a run is resumed. Everything else is fixed when it begins."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from vitreous.errors import ConfigError
from vitreous.settings import flatten, from_dict, to_dict
from vitreous.training.config import RunConfig
from vitreous.training.duration import Duration
from vitreous.training.settings_check import check_duration

SETTINGS = ("duration", "workers", "checkpoint_every", "keep_checkpoints", "micro_batch", "device", "shard")
"""Fields of `Changes` that replace the run's setting of the same name."""
ROUNDING = ("micro_batch", "device", "threads", "processes", "shard", "machine", "torch")
"""Changes that affect the order of summation, and so the bits of all later steps."""
MOST_THREADS = 1024


@dataclass(frozen=True)
class Changes:
    """The changes that apply from the step at which the run is resumed; None: unchanged."""

    duration: str | None = None
    """Length of the whole run, including the part already done. It may be longer than planned, even if the run has
    finished, or shorter. The remaining steps follow the schedule for the new length, so their bits are not those of a
    run that began with that length. 15min: converted by the speed so far."""
    data: str | None = None
    """New path of the data, if it was moved; its contents must be the same."""
    validation: str | None = None
    """New path of separate validation data, if it was moved."""
    teacher: str | None = None
    """New path of the teacher, if it was moved; its weights must be the same."""
    workers: int | Literal["auto"] | None = None
    """Processes that decode and augment; 0: none. Never changes a number."""
    checkpoint_every: str | None = None
    """Interval between checkpoints, a duration. Never changes a number."""
    keep_checkpoints: int | None = None
    """Number of the newest checkpoints that are kept; at least 2. Never changes a number."""
    micro_batch: int | None = None
    """Examples that pass through the model at the same time. From here on sums round differently, and batch norm
    normalises this many examples at a time, which changes more than rounding."""
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None
    """Where to train; from here on sums round differently."""
    shard: Literal["none", "all"] | int | None = None
    """How the model is divided among several processes; from here on sums round differently."""
    threads: int | None = None
    """Threads of the CPU; from here on sums may round differently."""
    accept_changes: bool = False
    """Resume even though config.json was changed by hand; the changes are recorded in it."""

    def __bool__(self) -> bool:
        """Return whether there is any change."""
        return self != AS_BEFORE


AS_BEFORE = Changes()


def apply_changes(config: RunConfig, changes: Changes, step: int, seconds: float) -> RunConfig:
    """Return the configuration with the changes applied.

    Args:
        config: the run's configuration so far.
        changes: what to change.
        step: the run's current step.
        seconds: the time that these steps took, for converting minutes.

    Raises:
        ConfigError: the duration is in minutes but the run has no checkpoint, or the number of threads is impossible.
    """
    given = {name: value for name in SETTINGS if (value := getattr(changes, name)) is not None}
    if changes.threads is not None and not 1 <= changes.threads <= MOST_THREADS:
        raise ConfigError(f"--threads is {changes.threads}; it must be at least 1 and at most {MOST_THREADS}")
    if "duration" in given:
        given["duration"] = convert_minutes(given["duration"], step, seconds)
    return replace(config, **given)


def convert_minutes(duration: str, step: int, seconds: float) -> str:
    """Return a run's length with minutes converted to steps, by the time that the first `step` steps took; raises
    ConfigError."""
    check_duration("duration", duration)
    length = Duration.parse(duration)
    if length.unit != "min":
        return duration
    if not step or not seconds:
        raise ConfigError(
            f"--duration {duration}: without a checkpoint the speed isn't known; give 40ep (epochs) or 2500st (steps)"
        )
    return f"{max(step, round(length.amount * 60 * step / seconds))}st"


def find_differences(before: RunConfig | dict[str, Any], now: RunConfig | dict[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that differ, by their current dotted name: the old and the new value."""
    old, new = (flatten(to_dict(from_dict(RunConfig, one) if isinstance(one, dict) else one)) for one in (before, now))
    names = dict.fromkeys((*old, *new))
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def format_differences(differences: dict[str, list[Any]], most: int = 4) -> str:
    """Format the differences.

    >>> format_differences({"seed": [0, 1]})
    'seed 0 -> 1'
    """
    said = [f"{name} {before} -> {now}" for name, (before, now) in differences.items()]
    more = f" and {len(said) - most} more" if len(said) > most else ""
    return ", ".join(said[:most]) + more


def format_options() -> str:
    """List the options for changes, as they are written on the command line."""
    return ", ".join(f"--{field.name.replace('_', '-')}" for field in fields(Changes) if field.name != "accept_changes")
