"""Choose the learning rate as the paper does, then train on everything (2010.11929, appendix B.1.1, table 4).

    SWEEP/sweep.json        the configuration, the rates, and what each reached
    SWEEP/rate-0.003/       the run of one rate, on a part of the training images; the rest of them measure it
    SWEEP/final/            the run with the best rate on all training images
    SWEEP/.lock             held while a process goes on with it

The validation images are touched by the last run alone. Whatever instant the process dies, the sweep goes on.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.errors import ConfigError, NonFiniteLoss, RunError
from vitreous.metrics.headline import headline, judged, rank, written
from vitreous.recipes.finetune import rates, tuning_share
from vitreous.run_folder import is_run
from vitreous.settings import distinct_keys, from_dict, to_dict, to_json
from vitreous.storage.atomic import storing, write_atomically
from vitreous.storage.lock import FolderLock, never_began
from vitreous.storage.presence import is_there
from vitreous.storage.relocation import located, places
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.run import Result, resume, train
from vitreous.training.settings_check import check_ranges

FORMAT_KEY, SWEEP_FORMAT = "vitreous_sweep", 1
PLAN, FINAL = "sweep.json", "final"
Go = Callable[[RunConfig, Path], Result]


@dataclass
class Sweep:
    """What is tried, and what came out so far."""

    config: RunConfig
    """Of the last run; its learning rate is chosen."""
    rates: tuple[float, ...]
    share: float
    """Of the training images, held out while rates are tried."""
    reached: dict[str, dict[str, float]]
    """Rate, as text -> headline (see `metrics/headline.py`) and loss on the held-out images; nothing where training diverged."""
    places: dict[str, dict[str, str]] = field(default_factory=dict)
    """Where the configuration's paths were when the sweep began (see `storage/relocation.py`)."""


def is_sweep(path: Path) -> bool:
    """Tell whether a folder holds a sweep."""
    return is_there(path / PLAN)


def plan_sweep(config: RunConfig, examples: int, given: Sequence[float] = ()) -> Sweep:
    """Return a sweep over some rates, by default the paper's for data of this size.

    Raises:
        ConfigError: no rates, the same twice, or (not for recipe finetune) none given.
    """
    if not given and config.recipe != "finetune":
        raise ConfigError(f"recipe {config.recipe!r} has no grid of learning rates; give them with --rates")
    chosen = tuple(given) or rates(examples)
    if len(set(chosen)) != len(chosen) or not all(0 < rate < math.inf for rate in chosen):
        raise ConfigError(f"the rates {', '.join(map(str, chosen))} must be different numbers above 0")
    if config.data.tuning_holdout:
        raise ConfigError("data.tuning_holdout is set by the sweep itself; leave it out")
    return Sweep(config, chosen, tuning_share(examples), {})


def begin(sweep: Sweep, out: Path, reporter: Reporter | None = None) -> Result:
    """Carry out a sweep in a new folder; return the last run's result, or that of a run that was interrupted.

    Raises:
        RunError: the folder is in use. Whatever `training.run.train` raises.
    """
    check_ranges(sweep.config)
    if is_there(out) and (not out.is_dir() or not never_began(out)):
        raise RunError(f"{out} is not empty; choose another folder with --out, or go on with `vitreous resume {out}`")
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
    with FolderLock(out):
        write(sweep, out)
        return carry_out(sweep, out, reporter or Silent())


def go_on(out: Path, reporter: Reporter | None = None) -> Result:
    """Go on with the sweep in a folder; raises RunError if it can't be read, RunLocked if another process goes on with it."""
    read(out)
    with FolderLock(out):
        return carry_out(read(out), out, reporter or Silent())


def carry_out(sweep: Sweep, out: Path, reporter: Reporter) -> Result:
    """Try the rates that are left, then train with the best on everything."""
    for rate in sweep.rates:
        if f"{rate:g}" in sweep.reached:
            continue
        reporter.message(f"learning rate {rate:g}, {len(sweep.reached) + 1} of {len(sweep.rates)}")
        data = replace(sweep.config.data, tuning_holdout=sweep.share)
        try:
            result = one(at_rate(replace(sweep.config, data=data), rate), out / f"rate-{rate:g}", reporter)
        except NonFiniteLoss as error:
            reporter.message(f"rate {rate:g} is too high: {error}")
            sweep.reached[f"{rate:g}"] = {}
        else:
            if result.outcome.stopped == "interrupted":
                return replace(result, run=out)
            sweep.reached[f"{rate:g}"] = judged(result.metrics)
        write(sweep, out)
    chosen = best(sweep)
    reporter.message(f"{table(sweep)}\nlearning rate {chosen:g} is the best; training on all training images")
    result = one(at_rate(sweep.config, chosen), out / FINAL, reporter)
    return replace(result, run=out) if result.outcome.stopped == "interrupted" else result


def one(config: RunConfig, path: Path, reporter: Reporter) -> Result:
    """Begin a run, or go on with it."""
    return resume(path, reporter) if is_run(path) else train(config, path, reporter)


def at_rate(config: RunConfig, rate: float) -> RunConfig:
    """Return the configuration with this peak learning rate."""
    return replace(config, optimizer=replace(config.optimizer, lr=rate))


def best(sweep: Sweep) -> float:
    """Return the rate of the highest headline (accuracy, mAP), at an equal one of the least loss; without labels of that.

    Raises:
        NonFiniteLoss: training diverged with every rate.
    """
    if not any(sweep.reached.values()):
        raise NonFiniteLoss("training diverged with every learning rate of the sweep; give lower ones with --rates")
    return max(sweep.rates, key=lambda rate: rank(sweep.reached[f"{rate:g}"]))


def table(sweep: Sweep) -> str:
    """Return what each rate reached that has been tried, one a line."""
    lines = []
    for rate in sweep.rates:
        reached = sweep.reached.get(f"{rate:g}")
        if reached is None:
            continue
        if not reached:
            lines.append(f"rate {rate:<8g} diverged")
            continue
        name = headline(reached)
        figure = f"{written(name, reached[name])}, " if name else ""
        lines.append(f"rate {rate:<8g} {figure}loss {reached['loss']:.4f}")
    return "\n".join(lines)


def write(sweep: Sweep, out: Path) -> None:
    """Write sweep.json, atomically; raises StorageError."""
    config = sweep.config
    document = {
        FORMAT_KEY: SWEEP_FORMAT,
        "config": to_dict(config),
        "places": sweep.places or places((config.data.path, config.data.validation, config.weights), out),
        "rates": list(sweep.rates),
        "share": sweep.share,
        "reached": sweep.reached,
    }
    write_atomically(out / PLAN, to_json(document))


def at_places(config: RunConfig, known: Mapping[str, Any], out: Path) -> RunConfig:
    """Return the configuration with paths that lead from this folder to what they led to when the sweep began."""

    def now(path: str | None) -> str | None:
        if path is None or Path(path).expanduser().resolve() == Path(known.get(path, {}).get("absolute", "")):
            return path
        return located(path, known, out)

    data = replace(config.data, path=now(config.data.path) or "", validation=now(config.data.validation))
    return replace(config, data=data, weights=now(config.weights))


def read(out: Path) -> Sweep:
    """Read sweep.json; raises RunError."""
    try:
        document: dict[str, Any] = json.loads((out / PLAN).read_bytes(), object_pairs_hook=distinct_keys)
        if document[FORMAT_KEY] != SWEEP_FORMAT:
            raise RunError(f"{out / PLAN} is of version {document[FORMAT_KEY]}; this vitreous reads {SWEEP_FORMAT}")
        config = from_dict(RunConfig, document["config"], "config")
        known = dict(document.get("places") or {})
        reached = dict(document["reached"])
        return Sweep(at_places(config, known, out), tuple(document["rates"]), float(document["share"]), reached, known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(
            f"{out / PLAN} can't be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
