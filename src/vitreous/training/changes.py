"""The settings that may change when a run is resumed. Everything else is settled when it begins."""

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
"""Changes that affect the order of sums, and so the bits from here on."""
MOST_THREADS = 1024


@dataclass(frozen=True)
class Changes:
    """The changes from here on; None: unchanged."""

    duration: str | None = None
    """Length of the whole run, including the part already done: longer than planned, even if it has finished, or
    shorter. The schedule is laid out anew over that length from here on, so these are not the bits of a run that
    began with it. 15min: by the speed so far."""
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
    """Checkpoints kept, newest first; at least 2. Never changes a number."""
    micro_batch: int | None = None
    """Examples that pass through the model at once; from here on sums round differently, and batch norm normalises so
    many at a time, which changes more than rounding."""
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None
    """Where to train; from here on sums round differently."""
    shard: Literal["none", "all"] | int | None = None
    """How the model is divided among several processes; from here on sums round differently."""
    threads: int | None = None
    """Threads of the CPU; from here on sums may round differently."""
    accept_changes: bool = False
    """Resume although config.json was changed by hand; the changes are recorded in it."""

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
        ConfigError: minutes for a run without a checkpoint, or an impossible number of threads.
    """
    given = {name: value for name in SETTINGS if (value := getattr(changes, name)) is not None}
    if changes.threads is not None and not 1 <= changes.threads <= MOST_THREADS:
        raise ConfigError(f"--threads is {changes.threads}; it must be at least 1 and at most {MOST_THREADS}")
    if "duration" in given:
        given["duration"] = convert_minutes(given["duration"], step, seconds)
    return replace(config, **given)


def convert_minutes(duration: str, step: int, seconds: float) -> str:
    """Return a run's length with minutes as steps, by the time that `step` of them took; raises ConfigError."""
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
    """List the options for changes, as they are typed."""
    return ", ".join(f"--{field.name.replace('_', '-')}" for field in fields(Changes) if field.name != "accept_changes")
