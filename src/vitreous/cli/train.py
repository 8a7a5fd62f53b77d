"""`vitreous train` and `vitreous resume`."""

import os
import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vitreous.cli.options.training import Processes, Resume, Train
from vitreous.cli.parse import collect_named, fit_kinds, iterate_named, parse
from vitreous.cli.translate import batch_auto
from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError
from vitreous.metrics.headline import find_headline
from vitreous.settings import to_dict, to_json
from vitreous.training.progress import reporter

if TYPE_CHECKING:
    from vitreous.training.distributed import World
    from vitreous.training.reporter import Reporter
    from vitreous.training.results import DryRun, TrainResult

NOTE = "VITREOUS_RUN_NOTE"
"""The name that `vitreous.training.restart` also has, a module that imports torch."""


def train(arguments: list[str]) -> int:
    """Run `vitreous train`."""
    arguments = batch_auto(arguments)
    options = parse_train(arguments)
    check(options, arguments)
    if is_to_launch(options.launch, arguments) and not options.dry_run:
        return start_processes("train", options.launch, arguments)
    with join_processes(options.launch.process_timeout) as world:
        return train_here(options, arguments, world)


def train_here(options: Train, arguments: list[str], world: "World") -> int:
    """Train in this process, alone or as one of several."""
    from vitreous.api.training import train as carry_out
    from vitreous.training.config import START
    from vitreous.training.results import DryRun

    settings = collect_named(options.settings, arguments)
    recipe_options = {name: getattr(options, name) for name in ("model", "image", "channels", "minutes")}
    recipe_options |= {name: getattr(options.settings, name) for name in (*START, "teacher")}
    how = {
        "config": options.config,
        "recipe": settings.get("recipe"),
        "out": options.out,
        "rates": options.rates,
        "folds": options.folds,
        "unlabelled": options.unlabelled,
        "self_training": collect_named(options.self_training, arguments, "self-training."),
        "dry_run": options.dry_run,
        **({"processes": options.launch.processes} if options.dry_run else {}),
    }
    display = world.hush(reporter(sys.stderr if options.json else None))
    try:
        found = carry_out(options.data, settings=settings, reporter=display, **how, **recipe_options)
        if isinstance(found, DryRun):
            display.close()
            if world.leads:
                show_plan(found, as_json=options.json)
            return 0
        return report_result(found, display) if world.leads else agree(found)
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
    """Parse the arguments before the recipe is known, into the kinds of settings that they name."""
    return parse(Train, arguments, "train", Train(settings=fit_kinds(Train().settings, arguments)))


def check(options: Train, arguments: list[str]) -> None:
    """Raise ConfigError for options that set the same thing twice, or that have no effect."""
    path = options.settings.data.path
    if options.data is not None and path not in (DataConfig().path, options.data):
        raise ConfigError(f"two data sets are named, {options.data} and --data.path {path}; leave out one")
    if options.json and not options.dry_run:
        raise ConfigError("--json prints the configuration of a dry run; add --dry-run")
    if options.minutes is not None and "--duration" in iterate_named(arguments):
        raise ConfigError(
            "--minutes and --duration (or --epochs, --steps) both set how long to train; give one of them"
        )
    if options.rates and "--optimizer.lr" in iterate_named(arguments):
        raise ConfigError("--rates and --optimizer.lr (or --lr) both set the learning rate; give one of them")


def resume(arguments: list[str]) -> int:
    """Run `vitreous resume`."""
    options = parse(Resume, arguments, "resume")
    if is_to_launch(options.launch, arguments):
        return start_processes("resume", options.launch, arguments)
    from vitreous.api.training import resume as go_on

    with join_processes(options.launch.process_timeout) as world:
        display = world.hush(reporter())
        try:
            result = go_on(options.run, reporter=display, optimizer=options.optimizer, **vars(options.changes))
            return report_result(result, display) if world.leads else agree(result)
        finally:
            display.close()


def is_to_launch(options: Processes, arguments: list[str]) -> bool:
    """Return whether to start further processes; one that was started so doesn't. Raises ConfigError for options
    without effect."""
    asked, launched = "--processes" in iterate_named(arguments), os.environ.get("TORCHELASTIC_RUN_ID")
    if NOTE in os.environ:
        return False
    if asked and launched:
        raise ConfigError("torchrun starts the processes itself; leave out --processes")
    if options.restarts and not asked:
        raise ConfigError("--restarts is for --processes; under torchrun use its own --max-restarts")
    return asked


def start_processes(command: str, options: Processes, arguments: list[str]) -> int:
    """Start the processes of a run; when they are restarted, they find the run folder of the first start again."""
    from vitreous.training.launch import launch

    with TemporaryDirectory(prefix="vitreous-") as folder:
        os.environ[NOTE] = str(Path(folder) / "run")
        try:
            return launch([command, *arguments], options.processes, options.restarts)
        finally:
            del os.environ[NOTE]


def join_processes(timeout: float) -> "AbstractContextManager[World]":
    """Connect to the other processes of this run, if there are any."""
    from vitreous.training.distributed import join

    return join(timeout)


def agree(result: "TrainResult") -> int:
    """Return the exit code of a process that prints nothing, being one of several."""
    return 128 + (result.signal or 2) if result.stopped == "interrupted" else 0


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
