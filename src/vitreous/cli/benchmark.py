"""`vitreous evaluate --benchmark`: ImageNet's other test sets and VTAB-1k, on the user's own copies."""

from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.load_model import open_classifier
from vitreous.cli.options.commands import Evaluate
from vitreous.cli.options.loading import LoadOther
from vitreous.cli.probe import OF_ACCURACY, changed, written
from vitreous.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from vitreous.cli.accuracy import Answers
    from vitreous.training.reporter import Reporter

VTAB, FINE_TUNE = "vtab", "fine-tune"


def check_benchmark(options: Evaluate) -> None:
    """Raise UserError for a benchmark that there is not, or options that don't go with it."""
    from vitreous.evaluation.benchmarks.imagenet_sets import SETS

    if options.benchmark not in (None, VTAB, *SETS):
        raise UnknownName("benchmark", options.benchmark, (VTAB, *SETS))
    if options.benchmark == VTAB:
        check_vtab(options)
    elif options.tasks:
        raise ConfigError("--tasks are for --benchmark vtab; leave them out")
    elif options.protocol == FINE_TUNE:
        raise ConfigError("--protocol fine-tune is for --benchmark vtab; elsewhere: vitreous train --recipe finetune")
    elif options.benchmark is not None and options.protocol != "accuracy":
        raise ConfigError(f"{options.benchmark} is measured by the model's own head; leave out --protocol")
    if options.steps != Evaluate("").steps and options.protocol != FINE_TUNE:
        raise ConfigError("--steps are for --protocol fine-tune; leave them out")
    if options.benchmark is not None and options.data is None:
        raise ConfigError(f"name your copy of the benchmark: vitreous evaluate {options.model} COPY --benchmark ...")
    if options.benchmark is not None:
        check_unread(options)


def check_unread(options: Evaluate) -> None:
    """Raise ConfigError for options that no benchmark reads."""
    for name in [*changed(options, Evaluate("")), *changed(options.load_other, LoadOther())]:
        if name in ("compare", *vars(LoadOther()), *OF_ACCURACY):
            raise ConfigError(f"{written(name)} doesn't go with --benchmark; leave it out")


def check_vtab(options: Evaluate) -> None:
    """Raise UserError for options that don't go with VTAB."""
    from vitreous.evaluation.benchmarks.vtab_tasks import task_named

    for name in options.tasks:
        task_named(name)
    if options.protocol == "accuracy":
        raise ConfigError(
            "VTAB's tasks have classes of their own, to be learned: add --protocol linear (a probe) or fine-tune (the paper's)"
        )
    if options.steps < 1:
        raise ConfigError(f"steps is {options.steps}; it must be at least 1")
    if options.probe.train or options.probe.shots not in ((1, 5, 10, 25), ("all",)):
        raise ConfigError("a probe on VTAB learns from the benchmark's 1,000 images; leave out --train and --shots")


def measured(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure a model on a benchmark."""
    if options.benchmark != VTAB:
        return imagenet(options, display)
    from vitreous.cli.vtab import fine_tuned, probed

    return (fine_tuned if options.protocol == FINE_TUNE else probed)(options, display)


def imagenet(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure the model's own head on one of ImageNet's other test sets."""
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluation.benchmarks.imagenet import Loading, score
    from vitreous.reports.evaluation.imagenet import lines, parts

    predictor = open_classifier(options.model, options.load, device=options.device, batch=options.batch)
    display.phase("opening the data")
    loading = Loading(
        options.batch, "auto", options.broken, lambda done, total: display.progress(done, total, {}), display.phase
    )
    found = score(predictor, str(options.benchmark), Path(str(options.data)), loading)
    shown = lines(found)
    if found.skipped:
        shown.append(f"{len(found.skipped):,} files can't be read and were left out; the first: {found.skipped[0][1]}")
    return Answers(parts(found), found.to_dict(), shown)
