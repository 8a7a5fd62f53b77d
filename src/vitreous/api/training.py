"""`vitreous.train` and `vitreous.resume`: choose a recipe's configuration for a data set, and run it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from vitreous.api.config_layers import (
    RunOptions,
    check_request,
    lay_over,
    pin_weights,
    take_settings,
)
from vitreous.api.named_optimizer import check_optimizer, check_own, name_optimizer
from vitreous.api.new_folder import refuse_used
from vitreous.api.progress import shows_progress
from vitreous.api.run_folders import RUNS, claim_run, find_group, name_run
from vitreous.api.self_training import check_self_training, read_self_training
from vitreous.cross_validation import begin_folds, check_folds, describe_plan, plan_folds
from vitreous.data.channels import check_same, format_values, measure_channels
from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, OpenedData, is_built_in, open_dataset
from vitreous.data.sources.digits import DIGITS
from vitreous.data.sources.objects import hold
from vitreous.data.splits import check_there
from vitreous.errors import ConfigError, RunError, UnknownName
from vitreous.images.config import DecodeConfig
from vitreous.rate_search import begin_search, check_rates, plan_search
from vitreous.recipes.catalog import (
    AUTO,
    FROM_WEIGHTS,
    NONE,
    SELF_TRAINING,
    UNLABELLED,
    choose_recipe,
    configure,
)
from vitreous.recipes.options import RecipeOptions
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.self_training.rounds import begin_rounds, describe_rounds, plan_rounds, set_teacher
from vitreous.settings import TAG, from_dict, list_alternatives, merge_settings, override_settings
from vitreous.shapes import Size
from vitreous.storage.atomic import find_free_folder, give_up_claims
from vitreous.storage.presence import expand_home
from vitreous.sweeps.plan import is_sweep
from vitreous.training.assembly import find_held, open_data
from vitreous.training.callbacks import Callback, add_callbacks
from vitreous.training.changes import Changes, find_differences
from vitreous.training.config import RunConfig
from vitreous.training.config_file import read_config_file
from vitreous.training.distributed import get_world, join
from vitreous.training.duration import Duration
from vitreous.training.optimizer_class import trust_optimizers
from vitreous.training.other_names import explain_name
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.restart import find_begun, note_folder
from vitreous.training.results import DryRun, TrainResult
from vitreous.training.run import resume as resume_run
from vitreous.training.run import train as train_config
from vitreous.training.settings_check import list_idle
from vitreous.training.trial_run import dry_run as dry_run_config
from vitreous.weights.auto_weights import resolve_weights

WORDS = (("recipe", AUTO), ("weights", AUTO), ("weights", NONE))
"""Settings that are shorthand for others."""


@overload
def train(
    data: str | Path | Any = None,
    *,
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    recipe: str | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    callbacks: Sequence[Callback] = (),
    rates: Literal["auto"] | Sequence[float] = (),
    folds: int | None = None,
    unlabelled: str | Path | None = None,
    self_training: Mapping[str, Any] | None = None,
    dry_run: Literal[False] = False,
    **recipe_options: Any,
) -> TrainResult: ...
@overload
def train(
    data: str | Path | Any = None,
    *,
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    folds: int | None = None,
    unlabelled: str | Path | None = None,
    self_training: Mapping[str, Any] | None = None,
    dry_run: Literal[True],
    processes: int = 1,
    **recipe_options: Any,
) -> DryRun: ...
@shows_progress
def train(
    data: str | Path | Any = None,
    *,
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    recipe: str | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    callbacks: Sequence[Callback] = (),
    rates: Literal["auto"] | Sequence[float] = (),
    folds: int | None = None,
    unlabelled: str | Path | None = None,
    self_training: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    processes: int = 1,
    **recipe_options: Any,
) -> TrainResult | DryRun:
    """Train on a data set by a recipe, into a run folder.

    >>> result = vitreous.train("photos/")                                    # doctest: +SKIP
    >>> vitreous.load(result.run)("photos/val/cat/1.jpg").label               # doctest: +SKIP

    Args:
        data: a folder of class folders, a CSV or JSONL manifest (several labels per image in a column labels),
            "digits", or a formula such as "formula:fractals"; or a torch Dataset, a Hugging Face dataset, or a dict of
            them by split (see docs/data.md). None: the data of `config`, or digits.
        config: settings that override the recipe's, all or a few: a run folder or its config.json, a JSON or TOML file, a
            mapping, or a RunConfig. Other arguments override them.
        recipe: small, small-vit, probe, lp-ft, finetune, hyperrule, pretrain, deit, deit-iii, masked-patches, mae or noisy-student (see
            docs/recipes.md); auto: for few photographs probe, from recommended weights, otherwise small. None: the recipe of `config`, or auto.
        out: the run folder, new or empty; None: the next free runs/<data>-<recipe>-<n>.
        settings: overrides of any setting, nested as in RunConfig: {"optimizer": {"lr": 1e-3}, "seed": 1}.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        callbacks: instances of subclasses of `vitreous.Callback`, which are called at each step, evaluation and
            checkpoint.
        rates: learning rates to choose from on a part of the training images, before training on all; "auto": the
            paper's, for recipe finetune. `out` then holds all these runs.
        folds: cross-validate first, with this many folds of all images, then train on all. `out` then holds all these
            runs, and the model.
        unlabelled: with recipe noisy-student, further images to learn from, without labels: a folder, a manifest or
            packed files. `out` then holds the runs of teacher and students, and the model.
        self_training: with recipe noisy-student, how the teacher's labels are chosen, and the number of rounds:
            {"rounds": 2, "targets": "hard"} (see docs/recipes.md); settings={"teacher": "runs/a"} names the first teacher.
        dry_run: resolve everything, run one batch, write nothing, and return a description of the run.
        processes: with dry_run: the number of processes that would share each batch. torchrun starts them.
        recipe_options: what the recipe starts from: model="S/16", weights="runs/a", or "auto" or "none" (and
            weights_as="openai", say, weights_grid=(7, 28), weights_heads=6), teacher="runs/b", image=(64, 64), minutes=15; and settings by
            their names in RunConfig: duration="30ep", batch=64, optimizer={"lr": 1e-3}.

    Raises:
        UserError: an argument or the data is wrong; nothing was written.
        FailedError: the run failed; its folder keeps the last good checkpoint.
    """
    start, settings = take_settings(recipe_options, settings)
    # These are resolved below; as overrides they would come back.
    settings = {name: value for name, value in settings.items() if (name, value) not in WORDS}
    if unlabelled is not None:
        settings = merge_settings(RunConfig, settings, {"data": {"unlabelled": str(unlabelled)}})
    chosen = read_self_training(self_training)
    path = data if data is None else str(data) if isinstance(data, str | Path) else hold(data)
    options = RunOptions(path, recipe, start, settings, folds, rates, chosen)
    if processes != 1 and (processes < 1 or not dry_run):
        raise ConfigError(
            f"processes is {processes}; give a number from 1 upwards, and only with dry_run: torchrun starts processes"
        )
    if rates != "auto":
        check_rates(rates)
    with add_callbacks(callbacks), trust_optimizers(name_optimizer(settings), name_optimizer(config)), join() as world:
        reporter = world.hush(reporter or Silent())
        if folds is not None or rates:
            world.refuse_others("--folds and --rates train many models")
        begun = None if dry_run else find_begun(None if out is None else Path(out), world)
        if begun is not None:
            return resume_run(begun, reporter)
        if world.leads:
            refuse_used(out)
        if config is not None:
            options, notices = lay_over(read_config_file(config), options)
            for notice in notices:
                reporter.message(notice)
        return train_or_plan(options, out, reporter, processes if dry_run else 0)


def train_or_plan(
    options: RunOptions, out: str | Path | None, reporter: Reporter, planned: int
) -> TrainResult | DryRun:
    """Train or plan as `train` was requested to, once its options are read; raises UserError, FailedError.

    `planned`: the number of processes of a dry run; 0: no dry run.
    """
    folds, rates, world = options.folds, options.rates, get_world()
    if folds is not None and rates:
        raise ConfigError("--folds and --rates both divide the data; choose the rate first, then use --folds with it")
    if options.path is None:
        reporter.message(f"no DATA is named: the images are the built-in {DIGITS}")
    with world.take_turns():
        chosen, settled, opened = settle_options(options, reporter)
    if idle := list_idle(settled, find_differences(chosen, settled)):
        reporter.message(
            f"note: {', '.join(idle)} {'changes' if len(idle) == 1 else 'change'} nothing here: recipe {settled.recipe} fits the head without "
            "training steps; recipes lp-ft and finetune use them"
        )
    rounds, parts = None, None if folds is None else plan_folds(settled, folds)
    if settled.recipe == SELF_TRAINING:
        world.refuse_others("recipe noisy-student trains many models")
        rounds = plan_rounds(settled, options.self_training or SelfTrainingOptions())
    if planned:
        found = dry_run_config(settled if rounds is None else set_teacher(settled), reporter, planned, opened)
        folder = Path(out) if out is not None else find_free_folder(RUNS, name_run(settled))
        plan = "" if parts is None else describe_plan(parts)
        plan = plan if rounds is None else describe_rounds(rounds)
        changed = find_differences(chosen, settled)
        return replace(found, config=settled if rounds else found.config, folds=plan, changed=changed, out=str(folder))
    folder = world.share(Path(out) if out is not None else claim_run(settled) if world.leads else Path())
    try:
        note_folder(folder, world)
        reporter.message(f"run folder: {folder}")
        if parts is not None:
            return begin_folds(parts, folder, reporter)
        if rounds is not None:
            return begin_rounds(rounds, folder, reporter)
        if not rates:
            return train_config(settled, folder, reporter, opened)
        examples = open_data(settled, Silent(), opened).facts.train
        return begin_search(plan_search(settled, examples, () if rates == "auto" else tuple(rates)), folder, reporter)
    finally:
        give_up_claims(folder)


def settle_options(options: RunOptions, reporter: Reporter) -> tuple[RunConfig, RunConfig, OpenedData]:
    """Return the recipe's configuration, the same overridden by the options, and the data that the recipe looked at;
    raises UserError, FailedError."""
    recipe, settings, path = options.recipe or AUTO, options.settings, options.path or DIGITS
    if options.folds is not None:
        check_folds(options.folds, path, recipe not in UNLABELLED)
    check_request(recipe, options.start)
    check_self_training(recipe, options)
    options.check()
    check_optimizer(settings)
    opened = {name: settings[name] for name in ("data", "decode") if name in settings}
    base = override_config(RunConfig(data=DataConfig(path, test_split="once")), opened)
    check_data(base, options.folds)
    start = {**options.start, "teacher": options.start.get("teacher") or settings.get("teacher")}
    start, settings = pin_weights(start, settings, reporter)
    timed = isinstance(length := settings.get("duration"), str) and Duration.parse(length).amount > 0
    config, opened = plan_config(base.data, recipe, start, reporter, base.decode, timed=timed)
    if options.own_classes and settings["model"]["classes"] != config.model.classes:
        reporter.message(f"model.classes {settings['model']['classes']} -> {config.model.classes}, those of the data")
        settings = merge_settings(RunConfig, settings, {"model": {"classes": config.model.classes}})
    return config, override_config(config, settings), opened


def check_data(config: RunConfig, folds: int | None) -> None:
    """Raise DataError for data that doesn't exist, or can't be cross-validated, before weights are opened."""
    if folds is not None:
        open_dataset(replace(config.data, folds=folds, broken="skip"), config.decode)
    elif not is_built_in(config.data.path):
        check_there(expand_home(config.data.path))


def plan_config(
    source: DataConfig,
    recipe: str,
    recipe_options: Mapping[str, Any],
    reporter: Reporter | None = None,
    decode: DecodeConfig = DecodeConfig(),
    *,
    timed: bool = False,
) -> tuple[RunConfig, OpenedData]:
    """Return a recipe's configuration for a data set, and the data, open; see `train` for the options. `decode`: limits of
    decoding. `timed`: whether a duration replaces the recipe's own."""
    reporter = reporter or Silent()
    if recipe in UNLABELLED:
        source = replace(source, labels="optional")
    reporter.phase(f"scanning {source.path}")
    # Broken files are judged when training opens the data; a recipe only needs counts and sizes.
    lenient = replace(source, broken="skip")
    dataset = open_dataset(lenient, decode, lambda done, total: reporter.progress(done, total, {}))
    given = {name: value for name, value in recipe_options.items() if value is not None}
    if "image" in given:
        given["image"] = Size(*given["image"])
    given |= {name: str(given[name]) for name in ("weights", "teacher") if name in given}
    options = RecipeOptions(dataset.facts, source, **given)
    recipe, options = settle_weights(recipe, options, reporter, timed=timed)
    config = configure(recipe, options)
    if config.preprocess.keeps_channels:
        config = set_channel_statistics(replace(config, decode=decode), dataset, reporter)
    return config, OpenedData(dataset, lenient, decode)


def settle_weights(
    recipe: str, options: RecipeOptions, reporter: Reporter, *, timed: bool
) -> tuple[str, RecipeOptions]:
    """Return the recipe and its options with "auto" and "none" resolved for this data, and report the choice."""
    chosen = choose_recipe(options, timed=timed) if recipe == AUTO else recipe
    weights = options.weights
    if weights == NONE:
        weights = None
    elif weights is None and chosen in FROM_WEIGHTS and recipe in (AUTO, "probe", "lp-ft"):
        weights = AUTO
    if recipe == AUTO and weights == AUTO and options.weights is None:
        reporter.message(
            f"{options.facts.train:,} training images are too few to learn from alone, so recipe {chosen} starts from "
            "pre-trained weights (--weights none: from scratch)"
        )
    if weights == AUTO:
        weights = resolve_weights(AUTO, reporter)
    return chosen, replace(options, weights=weights)


def set_channel_statistics(config: RunConfig, dataset: Dataset, reporter: Reporter) -> RunConfig:
    """Return a configuration with the mean and deviation of the training images' channels, unless weights state them;
    raises UserError."""
    check_same(config.data.path, dataset.report.all_modes, config.preprocess.channels)
    channels = f"{config.preprocess.channels} channels, kept as they are"
    if config.weights is not None:
        reporter.message(
            f"{channels}; mean and deviation are those of the weights (set --preprocess.mean and .std for others)"
        )
        return config
    mean, std = measure_channels(dataset.train, config.decode, config.preprocess)
    reporter.message(
        f"{channels}; training images have mean {format_values(mean)}, deviation {format_values(std)} on a scale of 0 to 1"
    )
    return replace(config, preprocess=replace(config.preprocess, mean=mean, std=std))


def override_config(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with nested settings replaced; raises ConfigError for unknown names or wrong types."""
    for part, members in list_alternatives(RunConfig).items():
        given = settings.get(part)
        if not isinstance(given, Mapping):
            continue
        kind = members.get(str(given.get(TAG)), type(getattr(config, part)))
        own = {TAG, *(one.name for one in fields(kind))}
        for name in given:
            if name not in own and any(name in {one.name for one in fields(member)} for member in members.values()):
                raise ConfigError(
                    f"--{part}.{name.replace('_', '-')} is for another kind of {part} than this run's; --recipe, --model, --weights and --config choose the kind"
                )
    return override_settings(config, settings)


@shows_progress
def resume(
    run: str | Path,
    *,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    callbacks: Sequence[Callback] = (),
    optimizer: str | None = None,
    **changes: Any,
) -> TrainResult:
    """Continue an interrupted run, rate search, cross-validation or self-training; the results are the same bit for
    bit.

    >>> vitreous.resume("runs/photos-small-1", duration="40ep", data="/new/place/photos")   # doctest: +SKIP

    Args:
        run: the run folder.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        callbacks: as in `train`.
        optimizer: the run's optimizer, if its class isn't from torch. Its code runs only if you name it here.
        changes: settings that differ from now on, such as duration, data or workers: see `training/changes.py`. They
            are recorded in config.json. `data` may also be the object that the run was begun with.

    Raises:
        RunError: there is no run, or it is in use or from another version, or its data or config.json has changed.
        ConfigError: a change that is not allowed, or changes to a rate search.
    """
    known = [field.name for field in fields(Changes)]
    for name in changes:
        if name not in known:
            if meant := explain_name(name, known):
                raise ConfigError(f"unknown change on resume {name!r}; {meant}")
            raise UnknownName("change on resume", name, known)
    if not isinstance(changes.get("data"), str | Path | None):
        changes |= find_held(Path(run), changes.pop("data"))
    check_own(Path(run), optimizer)
    if is_sweep(Path(run)):
        raise RunError(f"{run} is a sweep; continue it with the command that began it")
    named = {name: str(value) if isinstance(value, Path) else value for name, value in changes.items()}
    requested, group = from_dict(Changes, named), find_group(Path(run))
    if requested and group is not None:
        raise ConfigError(
            f"{run} is a {group[0]}, which continues as it began; change its last run once it is done: {run}/final"
        )
    with add_callbacks(callbacks), trust_optimizers(optimizer):
        return resume_run(Path(run), reporter, requested) if group is None else group[1](Path(run), reporter)
