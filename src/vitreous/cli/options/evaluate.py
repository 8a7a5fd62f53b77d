"""Which options of `vitreous evaluate` go together: checked before a model or data is opened. Imports no torch."""

from dataclasses import fields

from vitreous.cli.options.commands import Evaluate
from vitreous.cli.options.loading import Load, LoadOther
from vitreous.errors import ConfigError
from vitreous.evaluation.probes.options import PROBES, READERS, check_solver

OF_ACCURACY = ("split", "corruptions", "severities", "merge", "merge_curve", "packed", "speed")
"""Options of Evaluate that only accuracy reads."""
VTAB, FINE_TUNE = "vtab", "fine-tune"


def check(options: Evaluate) -> None:
    """Raise UserError for options that the protocol or the benchmark doesn't read."""
    check_protocol(options)
    fine_tuned = options.protocol == FINE_TUNE or options.steps != Evaluate.steps
    if options.benchmark is not None or options.tasks or fine_tuned:
        check_benchmark(options)
    for name in find_changes(options.load_other, LoadOther()):
        if options.compare is None:
            raise ConfigError(f"{format_option(name)} describes the weights of --compare; give both, or neither")


def check_protocol(options: Evaluate) -> None:
    """Raise ConfigError for an option that the protocol doesn't read."""
    given = [("train", PROBES)] if options.train is not None else []
    given += [(name, READERS.get(name, PROBES)) for name in options.probe.list_changed()]
    given += [(name, ("accuracy",)) for name in find_changes(options, Evaluate("")) if name in OF_ACCURACY]
    for name, readers in given:
        if options.protocol not in readers:
            raise ConfigError(
                f"{format_option(name)} is for --protocol {' or '.join(readers)}, not for {options.protocol}; leave it out"
            )
    check_solver(options.protocol, options.probe)


def check_benchmark(options: Evaluate) -> None:
    """Raise UserError for an unknown benchmark, or options that don't go with it."""
    from vitreous.api.benchmarks import AS_IT_IS, LEARNS_ALL, check_request

    check_request(options.benchmark, options.protocol, options.tasks, options.steps, options.probe)
    if options.benchmark == VTAB and options.train is not None:
        raise ConfigError(f"{LEARNS_ALL}; leave out train and shots")
    if options.protocol == FINE_TUNE and (options.load != Load() or options.decode):
        raise ConfigError(AS_IT_IS)
    if options.data is None:
        raise ConfigError(f"name your copy of the benchmark: vitreous evaluate {options.model} COPY --benchmark ...")
    for name in [*find_changes(options, Evaluate("")), *find_changes(options.load_other, LoadOther())]:
        if name in ("compare", *vars(LoadOther()), *OF_ACCURACY):
            raise ConfigError(f"{format_option(name)} doesn't go with --benchmark; leave it out")


def format_option(name: str) -> str:
    """Return an option as it is typed to change its default."""
    return f"--no-{name}" if name in ("cache", "speed") else f"--{name.replace('_', '-')}"


def find_changes(given: Evaluate | LoadOther, standard: Evaluate | LoadOther) -> list[str]:
    """Return the names of the settings that differ from `standard`."""
    return [one.name for one in fields(given) if getattr(given, one.name) != getattr(standard, one.name)]
