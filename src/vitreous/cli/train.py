"""`vitreous train` and `vitreous resume`."""

import errno
import json
import shlex
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vitreous.cli.options.commands import Resume, Train
from vitreous.cli.parse import named, parse, suited
from vitreous.cli.progress import reporter
from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError, RunError
from vitreous.metrics.headline import headline, reached
from vitreous.storage.lock import never_began
from vitreous.storage.presence import is_there
from vitreous.storage.run_config import METRICS

if TYPE_CHECKING:
    from vitreous.training.config import RunConfig
    from vitreous.training.reporter import Reporter
    from vitreous.training.run import DryRun, Result


def train(arguments: list[str]) -> int:
    """Run `vitreous train`."""
    arguments = batch_auto(arguments)
    first = read(arguments)
    source = named_data(first)
    refuse_used(first.out)
    if first.rates and not first.sweep:
        raise ConfigError("--rates are those that --sweep tries; add --sweep, or give one rate with --optimizer.lr")
    if first.minutes is not None and "--duration" in named(arguments):
        raise ConfigError(
            "--minutes and --duration (or --epochs, --steps) both say how long to train; give one of them"
        )
    from vitreous.api import training as api
    from vitreous.recipes.catalog import START
    from vitreous.training.run import dry_run
    from vitreous.training.run import train as train_config
    from vitreous.training.settings_check import check_ranges

    check_ranges(first.config)
    display = reporter()
    try:
        wishes = {"model": first.model, "image": first.image, "channels": first.channels, "minutes": first.minutes}
        wishes |= {name: getattr(first.config, name) for name in START}
        base = api.plan(source, first.config.recipe, wishes, display, first.config.decode)
        config = overridden(arguments, base)
        if first.dry_run:
            shown = dry_run(config, display)
            display.close()
            show_plan(shown)
            return 0
        out = Path(first.out) if first.out else api.free_run(config)
        display.message(f"run folder: {out}")
        if first.sweep:
            return tell(api.swept(config, first.rates, out, display), display)
        return tell(train_config(config, out, display), display)
    finally:
        display.close()


def read(arguments: list[str]) -> Train:
    """Read the arguments before a recipe is known, over settings of the kinds that they name."""
    return parse(Train, arguments, "train", Train(config=suited(Train().config, arguments)))


def named_data(options: Train) -> DataConfig:
    """Return where the data is and how it is split; raises ConfigError if two places are named."""
    source = options.config.data
    if options.data is None:
        return source
    if source.path not in (DataConfig().path, options.data):
        raise ConfigError(f"two data sets are named, {options.data} and --data.path {source.path}; leave out one")
    return replace(source, path=options.data)


def overridden(arguments: list[str], base: "RunConfig") -> "RunConfig":
    """Read the arguments again, over the recipe's configuration."""
    return parse(Train, arguments, "train", Train(config=base)).config if arguments else base


def batch_auto(arguments: list[str]) -> list[str]:
    """Read `--batch auto` as `--micro-batch auto`: the recipe's batch stays, gathered from parts that fit."""
    joined = ["--micro-batch=auto" if argument == "--batch=auto" else argument for argument in arguments]
    for place in range(len(joined) - 1):
        if joined[place : place + 2] == ["--batch", "auto"]:
            joined[place] = "--micro-batch"
    return joined


def refuse_used(out: str | None) -> None:
    """Refuse a run folder that is in use before anything long begins; raises RunError."""
    if out is None:
        return
    path = Path(out)
    if is_there(path) and not path.is_dir():
        raise RunError(f"{path} is a file; --out must name a new or empty folder")
    if is_there(path) and not never_began(path, METRICS):
        go_on = (
            f"go on with it by `vitreous resume {path}`, or "
            if any((path / name).exists() for name in ("config.json", "sweep.json"))
            else ""
        )
        raise RunError(f"{path} is not empty; {go_on}choose another folder with --out")
    refuse_impossible(path)


def refuse_impossible(path: Path) -> None:
    """Refuse a folder that can't be made, or not written to: try it with a passing one; raises RunError."""
    try:
        above = next(place for place in (path, *path.absolute().parents) if is_there(place))
        with TemporaryDirectory(dir=above, prefix=".vitreous-"):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a failure of the disk, told as such when something is written
            return
        raise RunError(f"no folder can be made at {path}: {error.strerror}; choose another folder with --out") from None


def resume(arguments: list[str]) -> int:
    """Run `vitreous resume`."""
    options = parse(Resume, arguments, "resume")
    from vitreous.api import training as api

    display = reporter()
    try:
        return tell(api.resume(options.run, reporter=display, **vars(options.changes)), display)
    finally:
        display.close()


def tell(result: "Result", display: "Reporter") -> int:
    """Say how a run ended, where its results are, and what to run next; return the exit code."""
    display.close()
    run = shlex.quote(str(result.run))
    if result.outcome.stopped == "interrupted":
        print(f"interrupted; everything so far is saved. Go on with: vitreous resume {run}")
        return 128 + (result.outcome.signal or 2)
    ended = "stopped early" if result.outcome.stopped == "early" else "finished"
    labelled = headline(result.metrics) is not None
    print(f"\n{ended}{f': validation {reached(result.metrics)}' if result.metrics else ''}")
    print(f"  run     {result.run}")
    if result.model:
        print(f"  model   {result.model}")
    if result.report:
        print(f"  report  {result.report}")
    if labelled or not result.metrics:
        print(f"next: vitreous predict {run} IMAGES...   or   vitreous evaluate {run}")
    else:
        print(f"next: vitreous train DATA --recipe finetune --weights {run}")
    return 0


def show_plan(plan: "DryRun") -> None:
    """Print what a run would be."""
    from vitreous.settings import to_dict

    print(json.dumps(to_dict(plan.config), indent=2))
    image = replace(plan.config.model).image
    print(f"\nparameters   {plan.parameters:,}")
    print(f"FLOPs        {plan.flops / 1e9:.3f} G an image of {image[0]}x{image[1]} (forward)")
    print(f"memory       about {plan.memory / 2**20:,.0f} MiB in training, data aside")
    print(f"steps        {plan.steps:,} of {plan.config.batch} images ({plan.config.duration})")
    print(f"one batch    loss {plan.loss:.4f}, {plan.seconds:.2f} s (the first, so slower than later ones)")
    print("nothing was written; leave out --dry-run to train")
