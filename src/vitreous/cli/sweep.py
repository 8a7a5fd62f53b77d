"""`vitreous sweep`: train with several settings and seeds, and compare the runs."""

import json
import shlex
import sys

from vitreous.cli.options.sweeps import Sweep
from vitreous.cli.parse import collect_named, fit_kinds, parse
from vitreous.cli.train import join_processes
from vitreous.cli.translate import batch_auto
from vitreous.errors import ConfigError
from vitreous.sweeps.grid import Variant, combine_variants, list_file_variants, list_variants, read_variations
from vitreous.training.progress import reporter


def sweep(arguments: list[str]) -> int:
    """Run `vitreous sweep`."""
    arguments = batch_auto(arguments)
    options = parse(Sweep, arguments, "sweep", Sweep(settings=fit_kinds(Sweep().settings, arguments)))
    variants = read_variants(options)
    from vitreous.api.sweeps import sweep as carry_out
    from vitreous.training.config import START

    settings = collect_named(options.settings, arguments)
    start = {name: getattr(options, name) for name in ("model", "image", "channels", "minutes")}
    start |= {name: getattr(options.settings, name) for name in START}
    how = {name: getattr(options, name) for name in ("seeds", "jobs", "processes", "config", "out")}
    with join_processes(options.process_timeout) as world:
        display = world.hush(reporter(sys.stderr if options.json else None))
        try:
            found = carry_out(
                options.data,
                variants,
                recipe=settings.get("recipe"),
                settings=settings,
                reporter=display,
                **how,
                **start,
            )
        finally:
            display.close()
        if world.leads:
            print(json.dumps(found.to_dict(), indent=2) if options.json else f"\n{found}")
        if found.signal is not None:
            if world.leads:
                print(
                    f"interrupted with {found.done} of {found.cells} runs done; the same command continues",
                    file=sys.stderr,
                )
            return 128 + found.signal
        if world.leads and not options.json:
            print(
                f"next: vitreous runs {shlex.quote(str(found.folder))} --sort best   or   vitreous board {shlex.quote(str(found.folder))}"
            )
        return 0


def read_variants(options: Sweep) -> list[Variant]:
    """Return the combinations that --grid and --set name; raises ConfigError."""
    given = list_variants(read_variations(options.set), "--set")
    if options.grid is None and given == [{}] and options.seeds == 1:
        raise ConfigError("a sweep needs something to vary: --set optimizer.lr=1e-3,3e-3, --grid FILE or --seeds 3")
    return combine_variants(list_file_variants(options.grid) if options.grid else [{}], given)
