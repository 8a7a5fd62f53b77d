"""`vitreous.sweep`: train with several settings and seeds, and compare the runs."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vitreous.api.config_layers import RunOptions, check_kinds, lay_over, take_settings
from vitreous.api.named_optimizer import name_optimizer
from vitreous.api.progress import shows_progress
from vitreous.api.training import WORDS, settle_options
from vitreous.data.dataset import name_dataset
from vitreous.data.sources.objects import hold, is_object
from vitreous.errors import ConfigError, check_path
from vitreous.settings import flatten, merge_settings
from vitreous.storage.hashing import hash_bytes
from vitreous.sweeps.grid import BESIDE, Variant, combine_variants, list_file_variants, list_variants, nest
from vitreous.sweeps.plan import SweepPlan, build_cells, open_plan
from vitreous.sweeps.processes import Sharing
from vitreous.sweeps.result import SweepResult
from vitreous.sweeps.run import carry_out_sweep, claim_sweep
from vitreous.training.assembly import open_data
from vitreous.training.callbacks import Callback, add_callbacks
from vitreous.training.config import RunConfig
from vitreous.training.config_file import ConfigFile, read_config_file
from vitreous.training.distributed import join
from vitreous.training.optimizer_class import trust_optimizers
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.run_inputs import hash_dataset
from vitreous.training.settings_check import check_ranges

SWEEPS = Path("sweeps")
MOST_SEEDS = 1000


@shows_progress
def sweep(
    data: str | Path | Any = None,
    grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | Path | None = None,
    *,
    seeds: int = 1,
    jobs: int = 1,
    processes: int = 1,
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    recipe: str | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    callbacks: Sequence[Callback] = (),
    **recipe_options: Any,
) -> SweepResult:
    """Train with every combination of some settings, with several seeds each, and compare them on validation images.

    Called again with the same arguments, it continues where it was killed; with more values or seeds, it adds their runs.

    >>> found = vitreous.sweep("photos", {"optimizer.lr": [1e-3, 3e-3]}, seeds=3)         # doctest: +SKIP
    >>> print(found), found.best.variant                                                   # doctest: +SKIP

    Args:
        data: as in `train`.
        grid: a list of values for each setting, by dotted name or nested as in RunConfig, of which every combination is
            tried; or a list of the settings to try; or a JSON or TOML file with one of these. recipe, model, image,
            channels, minutes and weights may vary too. None: only the seed varies.
        seeds: runs of each combination, with seeds from `settings["seed"]` (0) upwards.
        jobs: runs at the same time, each in its own process with its share of the cores, or with its own GPU if there
            are enough.
        processes: processes of each run; see docs/scaling.md.
        config: settings of all runs, as in `train`.
        recipe: the recipe of all runs.
        out: the folder for the runs; None: sweeps/<data>-<hash of the common settings and of the names that vary>.
        settings: overrides of any setting, for all runs.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        callbacks: as in `train`; they are called for runs in this process, so not with `jobs` or `processes`.
        recipe_options: what the recipes of all runs start from, and settings by name, as in `train`.

    Raises:
        UserError: an argument or the data is wrong; nothing was trained.
        FailedError: a run failed; divergence doesn't count, as it is a result.
    """
    sharing = Sharing(jobs, processes)
    if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"--seeds is {seeds!r}; it must be 1 to {MOST_SEEDS:,}")
    if out is not None:
        check_path("out", out)
    start, shared = take_settings(recipe_options, settings)
    listed = list_file_variants(str(grid)) if isinstance(grid, str | Path) else list_variants(grid or {})
    variants = combine_variants(listed, [{}])
    named = [
        name_optimizer(shared),
        name_optimizer(config),
        *(flatten(one).get("optimizer.name") for one in variants),
    ]
    path = data if data is None else str(data) if isinstance(data, str | Path) else hold(data)
    common = RunOptions(path, recipe, start, shared)
    file = None if config is None else read_config_file(config)
    with add_callbacks(callbacks), trust_optimizers(*named), join() as world, ExitStack() as stack:
        reporter = world.hush(reporter or Silent())
        if not sharing.here:
            world.refuse_others("--jobs and --processes start processes")
        with world.take_turns():
            configs = [
                (one, *settle(common, one, file, Silent() if place else reporter)) for place, one in enumerate(variants)
            ]
        if not sharing.here and (callbacks or is_object(configs[0][1].data.path)):
            raise ConfigError("callbacks and objects can't be passed to other processes; leave out jobs and processes")
        cells = build_cells(configs, seeds)
        folder = Path(out) if out is not None else SWEEPS / name_sweep(common, variants, file, configs[0][1])
        if world.leads:
            stack.enter_context(claim_sweep(folder))
        with world.take_turns():
            plan = open_plan(folder, cells) if world.leads else SweepPlan(folder, cells)
        reporter.message(
            f"{len(variants)} settings, {seeds} seeds: {len(plan.pending)} of {len(cells)} runs to do, in {folder}"
        )
        signal = carry_out_sweep(plan, sharing, reporter)
        reporter.close()
        return SweepResult.take(plan, signal)


def settle(common: RunOptions, variant: Variant, file: ConfigFile | None, reporter: Reporter) -> tuple[RunConfig, str]:
    """Return the complete configuration of a variant, and the hash of its data; raises UserError."""
    start = {**common.start, **{name: variant[name] for name in BESIDE[1:] if name in variant}}
    check_kinds(common.settings, start)
    own = nest({name: value for name, value in variant.items() if name not in BESIDE})
    settings = merge_settings(RunConfig, common.settings, own)
    settings = {name: value for name, value in settings.items() if (name, value) not in WORDS}
    options = RunOptions(common.data, variant.get("recipe", common.recipe), start, settings)
    if file is not None:
        options, _ = lay_over(file, options)
    _, config, opened = settle_options(options, reporter)
    check_ranges(config)
    return config, hash_dataset(open_data(config, Silent(), opened))


def name_sweep(common: RunOptions, variants: Sequence[Variant], file: ConfigFile | None, config: RunConfig) -> str:
    """Return a name that the same command finds again, with more values or seeds too."""
    said = {
        "data": common.data,
        "recipe": common.recipe,
        "start": {name: value for name, value in common.start.items() if value is not None},
        "settings": common.settings,
        "file": None if file is None else [file.settings, file.start],
        "names": sorted({name for one in variants for name in one}),
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return f"{name_dataset(config.data.path)}-{hash_bytes(text.encode(errors='surrogateescape'))[:6]}"
