"""Choose the learning rate as the paper does, then train on everything (2010.11929, appendix B.1.1, table 4).

    SEARCH/rates.json       the configuration, the rates, and the result of each; earlier versions called it sweep.json
    SEARCH/rate-0.003/   the run of one rate, on a part of the training images, measured on the rest of them
    SEARCH/final/           the run with the best rate on all training images
    SEARCH/.lock   held while a process works on it

Only the last run uses the validation images. The search can be continued after the process dies at any instant.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, NonFiniteLoss, RunError, is_number
from vitreous.metrics.headline import find_headline, format_named, rank_evaluation, select_judged
from vitreous.recipes.finetune import choose_tuning_share, list_rates
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import FINAL
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter
from vitreous.training.resolve import check_pseudo_labels
from vitreous.training.run import TrainResult
from vitreous.training.run_group import (
    Places,
    begin_group,
    begin_or_resume,
    continue_group,
    read_group,
    read_version,
    write_group,
)
from vitreous.training.run_inputs import hash_dataset
from vitreous.training.settings_check import check_ranges, takes_no_steps

LAYOUT = ("vitreous_rates", 1)
"""The key that identifies rates.json, and its version."""
PLAN = "rates.json"
FORMER_LAYOUT, FORMER_PLAN = ("vitreous_sweep", 1), "sweep.json"
"""The same in earlier versions; a search that began with them keeps them."""
Go = Callable[[RunConfig, Path], TrainResult]


@dataclass
class RateSearch:
    """The rates to try, and the results so far."""

    config: RunConfig
    """Configuration of the last run, whose learning rate is chosen."""
    rates: tuple[float, ...]
    share: float
    """Share of the training images held out while rates are tried."""
    results: dict[str, dict[str, float]]
    """Rate, as text -> headline (see `metrics/headline.py`) and loss on the held-out images; empty if training
    diverged."""
    places: Places = field(default_factory=dict)
    former: bool = False
    """Whether an earlier version began it, under `FORMER_PLAN`."""
    images: str = ""
    """Hash of the images and their labels; empty in files of earlier versions."""


def is_search(path: Path) -> bool:
    """Return whether a folder holds a search for the learning rate."""
    return path_exists(path / PLAN) or is_former(path)


def is_former(path: Path) -> bool:
    """Return whether a folder holds a search that an earlier version began; today a file of that name belongs to a
    sweep."""
    key, version = FORMER_LAYOUT
    return read_version(path / FORMER_PLAN, key) == version


def plan_search(config: RunConfig, examples: int, given: Sequence[float] = ()) -> RateSearch:
    """Return a search over the given rates or, by default, over the paper's rates for data of this size.

    Raises:
        ConfigError: no rates, the same rate twice, none given for a recipe other than finetune, or a run without steps.
    """
    if takes_no_steps(config):
        raise ConfigError(
            "--rates tries rates of training steps, but this run has no steps; leave it out, or use recipe lp-ft or finetune"
        )
    if not given and config.recipe != "finetune":
        raise ConfigError(f"recipe {config.recipe!r} has no grid of learning rates; give them with --rates")
    check_rates(given)
    chosen = tuple(given) or list_rates(examples)
    if config.data.tuning_holdout:
        raise ConfigError("data.tuning_holdout is set by the search itself; leave it out")
    return RateSearch(config, chosen, choose_tuning_share(examples), {})


def check_rates(rates: Sequence[float]) -> None:
    """Raise ConfigError unless the rates to try are numbers above 0 that differ in their first six digits."""
    numbers = all(map(is_number, rates))
    if (
        not numbers
        or len({f"{rate:g}" for rate in rates}) != len(rates)
        or not all(0 < rate < math.inf for rate in rates)
    ):
        raise ConfigError(
            f"the rates are {', '.join(map(str, rates))}; they must be numbers above 0 that differ in their first six digits"
        )


def begin_search(search: RateSearch, out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Search in a new folder; return the result of the last run, or of the run that was interrupted.

    Raises:
        RunError: the folder is in use. Also raises everything that `training.run.train` raises.
    """
    check_ranges(search.config)
    if search.config.data.pseudo_labels is not None:
        for config in (search.config, set_trial(search)):
            check_pseudo_labels(config, open_dataset(config.data, config.decode))
    return begin_group(out, replace(search, images=hash_images(search)), write_plan, run_search, reporter)


def continue_search(out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Continue the search in a folder; raises RunError if it can't be read or its images have changed, RunLocked if another
    process is running it."""

    def check(search: RateSearch) -> None:
        if search.images and hash_images(search) != search.images:
            raise RunError(
                f"the images have changed since the rate search in {out} began, so its figures no longer compare; restore "
                "them, or start again in another folder"
            )

    return continue_group(out, "a rate search", read_plan, run_search, reporter, check)


def hash_images(search: RateSearch) -> str:
    """Identify the images of the last run, which include those of all other runs; raises DataError."""
    return hash_dataset(open_dataset(search.config.data, search.config.decode))


def run_search(search: RateSearch, out: Path, reporter: Reporter) -> TrainResult:
    """Try the remaining rates, then train with the best on all training images."""
    for rate in search.rates:
        if f"{rate:g}" in search.results:
            continue
        reporter.message(f"learning rate {rate:g}, {len(search.results) + 1} of {len(search.rates)}")
        try:
            result = begin_or_resume(set_rate(set_trial(search), rate), out / f"rate-{rate:g}", reporter)
        except NonFiniteLoss as error:
            reporter.message(f"rate {rate:g} is too high: {error}")
            search.results[f"{rate:g}"] = {}
        else:
            if result.stopped == "interrupted":
                return replace(result, run=out)
            search.results[f"{rate:g}"] = select_judged(result.metrics)
        write_plan(search, out)
    chosen = choose_rate(search)
    reporter.message(f"{format_table(search)}\nlearning rate {chosen:g} is the best; training on all training images")
    result = begin_or_resume(set_rate(search.config, chosen), out / FINAL, reporter)
    return replace(result, run=out) if result.stopped == "interrupted" else result


def set_trial(search: RateSearch) -> RunConfig:
    """Return the configuration with which rates are tried."""
    return replace(search.config, data=replace(search.config.data, tuning_holdout=search.share), refit=False)


def set_rate(config: RunConfig, rate: float) -> RunConfig:
    """Return the configuration with this peak learning rate."""
    return replace(config, optimizer=replace(config.optimizer, lr=rate))


def choose_rate(search: RateSearch) -> float:
    """Return the rate with the highest headline (accuracy, mAP) or, without labels, the lowest loss; ties: lowest loss.

    Raises:
        NonFiniteLoss: training diverged with every rate.
    """
    if not any(search.results.values()):
        raise NonFiniteLoss("training diverged with every learning rate; give lower ones with --rates")
    return max(search.rates, key=lambda rate: rank_evaluation(search.results[f"{rate:g}"]))


def format_table(search: RateSearch) -> str:
    """Return the result of each rate tried so far, one per line."""
    lines = []
    for rate in search.rates:
        reached = search.results.get(f"{rate:g}")
        if reached is None:
            continue
        if not reached:
            lines.append(f"rate {rate:<8g} diverged")
            continue
        name = find_headline(reached)
        figure = f"{format_named(name, reached[name])}, " if name else ""
        lines.append(f"rate {rate:<8g} {figure}loss {reached['loss']:.4f}")
    return "\n".join(lines)


def write_plan(search: RateSearch, out: Path) -> None:
    """Write rates.json, atomically; raises StorageError."""
    values = {"rates": list(search.rates), "share": search.share, "images": search.images, "reached": search.results}
    name, layout = (FORMER_PLAN, FORMER_LAYOUT) if search.former else (PLAN, LAYOUT)
    write_group(out / name, layout, search.config, search.places, values)


def read_plan(out: Path) -> RateSearch:
    """Read rates.json; raises RunError."""
    former = is_former(out)

    def build(config: RunConfig, places: Places, document: dict[str, Any]) -> RateSearch:
        rates, reached = tuple(document["rates"]), dict(document["reached"])
        images = str(document.get("images", ""))
        return RateSearch(config, rates, float(document["share"]), reached, places, former, images)

    return read_group(out / FORMER_PLAN, FORMER_LAYOUT, build) if former else read_group(out / PLAN, LAYOUT, build)
