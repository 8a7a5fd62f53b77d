"""`vitreous train` and `vitreous resume`."""

import shlex
import sys
from typing import TYPE_CHECKING

from vitreous.cli.options.commands import Resume, Train
from vitreous.cli.parse import collect_named, fit_kinds, iterate_named, parse
from vitreous.cli.translate import batch_auto
from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError
from vitreous.metrics.headline import find_headline
from vitreous.settings import to_dict, to_json
from vitreous.training.progress import reporter

if TYPE_CHECKING:
    from vitreous.training.reporter import Reporter
    from vitreous.training.run import DryRun, TrainResult


def train(arguments: list[str]) -> int:
    """Run `vitreous train`."""
    arguments = batch_auto(arguments)
    options = parse_train(arguments)
    check(options, arguments)
    from vitreous.api.training import train as carry_out
    from vitreous.recipes.catalog import START
    from vitreous.training.run import DryRun

    settings = collect_named(options.settings, arguments)
    recipe_options = {name: getattr(options, name) for name in ("model", "image", "channels", "minutes")}
    recipe_options |= {name: getattr(options.settings, name) for name in START}
    how = {
        "config": options.config,
        "recipe": settings.get("recipe"),
        "out": options.out,
        "sweep": options.rates or options.sweep,
        "folds": options.folds,
        "dry_run": options.dry_run,
    }
    display = reporter(sys.stderr if options.json else None)
    try:
        found = carry_out(options.data, settings=settings, reporter=display, **how, **recipe_options)
        if isinstance(found, DryRun):
            display.close()
            show_plan(found, as_json=options.json)
            return 0
        return report_result(found, display)
    finally:
        display.close()


def show_plan(found: "DryRun", *, as_json: bool) -> None:
    """Print a description of the planned run, or only its configuration."""
    if as_json:
        print(to_json(to_dict(found.config)).decode(), end="")
        if found.folds:
            print("--folds isn't part of the configuration; give it again with --config", file=sys.stderr)
        return
    print(f"{found}\nnothing was written; leave out --dry-run to train, add --json for the whole configuration")


def parse_train(arguments: list[str]) -> Train:
    """Parse the arguments before the recipe is known, into settings of the kinds that they name."""
    return parse(Train, arguments, "train", Train(settings=fit_kinds(Train().settings, arguments)))


def check(options: Train, arguments: list[str]) -> None:
    """Raise ConfigError for options that set the same thing twice, or that have no effect."""
    path = options.settings.data.path
    if options.data is not None and path not in (DataConfig().path, options.data):
        raise ConfigError(f"two data sets are named, {options.data} and --data.path {path}; leave out one")
    if options.json and not options.dry_run:
        raise ConfigError("--json prints the configuration of a dry run; add --dry-run")
    if options.rates and not options.sweep:
        raise ConfigError("--rates are those that --sweep tries; add --sweep, or give one rate with --optimizer.lr")
    if options.minutes is not None and "--duration" in iterate_named(arguments):
        raise ConfigError(
            "--minutes and --duration (or --epochs, --steps) both say how long to train; give one of them"
        )


def resume(arguments: list[str]) -> int:
    """Run `vitreous resume`."""
    options = parse(Resume, arguments, "resume")
    from vitreous.api.training import resume as go_on

    display = reporter()
    try:
        return report_result(go_on(options.run, reporter=display, **vars(options.changes)), display)
    finally:
        display.close()


def report_result(result: "TrainResult", display: "Reporter") -> int:
    """Print how a run ended, where its results are, and what to run next; return the exit code."""
    display.close()
    run = shlex.quote(str(result.run))
    if result.stopped == "interrupted":
        print(f"interrupted; everything so far is saved. Continue with: vitreous resume {run}")
        return 128 + (result.signal or 2)
    print(f"\n{result}")
    if find_headline(result.metrics) is not None or not result.metrics:
        print(f"next: vitreous predict {run} IMAGES...   or   vitreous evaluate {run}")
    else:
        print(f"next: vitreous train DATA --recipe finetune --weights {run}")
    return 0
