"""Choose the learning rate as the paper does, then train on everything (2010.11929, appendix B.1.1, table 4).

    SWEEP/sweep.json        the configuration, the rates, and the result of each
    SWEEP/rate-0.003/       the run of one rate, on a part of the training images; the rest of them measure it
    SWEEP/final/            the run with the best rate on all training images
    SWEEP/.lock             held while a process goes on with it

Only the last run uses the validation images. The sweep can be continued after the process dies at any instant.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.errors import ConfigError, NonFiniteLoss
from vitreous.metrics.headline import find_headline, format_named, rank_evaluation, select_judged
from vitreous.recipes.finetune import choose_tuning_share, list_rates
from vitreous.run_folder import is_run
from vitreous.storage.lock import FolderLock
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import FINAL
from vitreous.training.config import RunConfig
from vitreous.training.distributed import join
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.run import TrainResult, resume, train
from vitreous.training.run_group import Places, claim_group, read_group, write_group
from vitreous.training.settings_check import check_ranges

LAYOUT = ("vitreous_sweep", 1)
"""The key that identifies sweep.json, and its version."""
PLAN = "sweep.json"
Go = Callable[[RunConfig, Path], TrainResult]


@dataclass
class Sweep:
    """The rates to try, and the results so far."""

    config: RunConfig
    """Configuration of the last run, whose learning rate is chosen."""
    rates: tuple[float, ...]
    share: float
    """Share of the training images held out while rates are tried."""
    reached: dict[str, dict[str, float]]
    """Rate, as text -> headline (see `metrics/headline.py`) and loss on the held-out images; empty where training
    diverged."""
    places: Places = field(default_factory=dict)


def is_sweep(path: Path) -> bool:
    """Return whether a folder holds a sweep."""
    return path_exists(path / PLAN)


def plan_sweep(config: RunConfig, examples: int, given: Sequence[float] = ()) -> Sweep:
    """Return a sweep over the given rates, or by default over the paper's for data of this size.

    Raises:
        ConfigError: no rates, the same rate twice, or none given for a recipe other than finetune.
    """
    if not given and config.recipe != "finetune":
        raise ConfigError(f"recipe {config.recipe!r} has no grid of learning rates; give them with --rates")
    chosen = tuple(given) or list_rates(examples)
    if len(set(chosen)) != len(chosen) or not all(0 < rate < math.inf for rate in chosen):
        raise ConfigError(f"the rates are {', '.join(map(str, chosen))}; they must be different numbers above 0")
    if config.data.tuning_holdout:
        raise ConfigError("data.tuning_holdout is set by the sweep itself; leave it out")
    return Sweep(config, chosen, choose_tuning_share(examples), {})


def begin_sweep(sweep: Sweep, out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Run a sweep in a new folder; return the result of the last run, or of an interrupted one.

    Raises:
        RunError: the folder is in use. Also raises everything that `training.run.train` raises.
    """
    check_ranges(sweep.config)
    claim_group(out)
    with FolderLock(out):
        write_plan(sweep, out)
        return run_sweep(sweep, out, reporter or Silent())


def continue_sweep(out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Continue the sweep in a folder; raises RunError if it can't be read, RunLocked if another process is running
    it."""
    with join() as world:
        world.refuse_others(f"{out} is a sweep, many models")
    read_plan(out)
    with FolderLock(out):
        return run_sweep(read_plan(out), out, reporter or Silent())


def run_sweep(sweep: Sweep, out: Path, reporter: Reporter) -> TrainResult:
    """Try the remaining rates, then train with the best on all training images."""
    for rate in sweep.rates:
        if f"{rate:g}" in sweep.reached:
            continue
        reporter.message(f"learning rate {rate:g}, {len(sweep.reached) + 1} of {len(sweep.rates)}")
        trial = replace(sweep.config, data=replace(sweep.config.data, tuning_holdout=sweep.share), refit=False)
        try:
            result = run_rate(set_rate(trial, rate), out / f"rate-{rate:g}", reporter)
        except NonFiniteLoss as error:
            reporter.message(f"rate {rate:g} is too high: {error}")
            sweep.reached[f"{rate:g}"] = {}
        else:
            if result.stopped == "interrupted":
                return replace(result, run=out)
            sweep.reached[f"{rate:g}"] = select_judged(result.metrics)
        write_plan(sweep, out)
    chosen = choose_rate(sweep)
    reporter.message(f"{format_table(sweep)}\nlearning rate {chosen:g} is the best; training on all training images")
    result = run_rate(set_rate(sweep.config, chosen), out / FINAL, reporter)
    return replace(result, run=out) if result.stopped == "interrupted" else result


def run_rate(config: RunConfig, path: Path, reporter: Reporter) -> TrainResult:
    """Begin or continue a run."""
    return resume(path, reporter) if is_run(path) else train(config, path, reporter)


def set_rate(config: RunConfig, rate: float) -> RunConfig:
    """Return the configuration with this peak learning rate."""
    return replace(config, optimizer=replace(config.optimizer, lr=rate))


def choose_rate(sweep: Sweep) -> float:
    """Return the rate with the highest headline (accuracy, mAP), or without labels the lowest loss; ties: lowest loss.

    Raises:
        NonFiniteLoss: training diverged with every rate.
    """
    if not any(sweep.reached.values()):
        raise NonFiniteLoss("training diverged with every learning rate of the sweep; give lower ones with --rates")
    return max(sweep.rates, key=lambda rate: rank_evaluation(sweep.reached[f"{rate:g}"]))


def format_table(sweep: Sweep) -> str:
    """Return the result of each rate tried so far, one per line."""
    lines = []
    for rate in sweep.rates:
        reached = sweep.reached.get(f"{rate:g}")
        if reached is None:
            continue
        if not reached:
            lines.append(f"rate {rate:<8g} diverged")
            continue
        name = find_headline(reached)
        figure = f"{format_named(name, reached[name])}, " if name else ""
        lines.append(f"rate {rate:<8g} {figure}loss {reached['loss']:.4f}")
    return "\n".join(lines)


def write_plan(sweep: Sweep, out: Path) -> None:
    """Write sweep.json, atomically; raises StorageError."""
    values = {"rates": list(sweep.rates), "share": sweep.share, "reached": sweep.reached}
    write_group(out / PLAN, LAYOUT, sweep.config, sweep.places, values)


def read_plan(out: Path) -> Sweep:
    """Read sweep.json; raises RunError."""

    def build(config: RunConfig, places: Places, document: dict[str, Any]) -> Sweep:
        return Sweep(config, tuple(document["rates"]), float(document["share"]), dict(document["reached"]), places)

    return read_group(out / PLAN, LAYOUT, build)
