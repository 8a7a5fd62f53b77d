"""`vitreous evaluate --benchmark`: ImageNet's other test sets and VTAB-1k, on the user's own copies."""

from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.options import Evaluate
from vitreous.cli.probe import PROBES, grid
from vitreous.cli.taken import open_taken
from vitreous.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluate.benchmarks.vtab import Probe
    from vitreous.evaluate.features import Features
    from vitreous.training.reporter import Reporter

VTAB = "vtab"


def check_benchmark(options: Evaluate) -> None:
    """Raise UserError for a benchmark that there is not, or options that don't go with it."""
    from vitreous.evaluate.benchmarks.imagenet_sets import SETS
    from vitreous.evaluate.benchmarks.vtab_tasks import task_named

    if options.tasks and options.benchmark != VTAB:
        raise ConfigError("--tasks are for --benchmark vtab; leave them out")
    if options.benchmark is None:
        return
    if options.benchmark not in (VTAB, *SETS):
        raise UnknownName("benchmark", options.benchmark, (VTAB, *SETS))
    if options.data is None:
        raise ConfigError(f"name your copy of the benchmark: vitreous evaluate {options.model} COPY --benchmark ...")
    if options.compare or options.corruptions:
        raise ConfigError("--compare and --corruptions don't go with --benchmark; leave them out")
    for name in options.tasks:
        task_named(name)
    probed = options.protocol in PROBES
    if options.benchmark == VTAB and not probed:
        raise ConfigError("VTAB's tasks have classes of their own, so a probe learns them: add --protocol linear")
    if options.benchmark != VTAB and probed:
        raise ConfigError(f"{options.benchmark} is measured by the model's own head; leave out --protocol")
    if options.benchmark == VTAB and (options.probe.train or options.probe.shots not in ((1, 5, 10, 25), ("all",))):
        raise ConfigError("a probe on VTAB learns from the benchmark's 1,000 images; leave out --train and --shots")


def measured(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure a model on a benchmark."""
    return vtab(options, display) if options.benchmark == VTAB else imagenet(options, display)


def imagenet(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure the model's own head on one of ImageNet's other test sets."""
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluate.benchmarks.imagenet import Loading, score
    from vitreous.evaluate.benchmarks.imagenet_parts import lines, parts
    from vitreous.predict import Predictor

    predictor = Predictor(open_taken(options.model, options.taken), device=options.device, batch=options.batch)
    display.phase("opening the data")
    loading = Loading(
        options.batch, "auto", options.broken, lambda done, total: display.progress(done, total, {}), display.phase
    )
    found = score(predictor, str(options.benchmark), Path(str(options.data)), loading)
    shown = lines(found)
    if found.skipped:
        shown.append(f"{len(found.skipped):,} files can't be read and were left out; the first: {found.skipped[0][1]}")
    return Answers(parts(found), found.to_dict(), shown)


def vtab(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure the model's features on the tasks of VTAB-1k."""
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluate.benchmarks.vtab import Reading, run_vtab
    from vitreous.evaluate.benchmarks.vtab_parts import lines, parts
    from vitreous.evaluate.features import FeatureOptions

    def told(said: str, done: int, total: int) -> None:
        display.phase(said)
        display.progress(done, total, {})

    asked, folder = options.probe, open_taken(options.model, options.taken)
    how = FeatureOptions(asked.layer, asked.precision, options.batch, options.device, cache=asked.cache)
    reading = Reading(options.tasks, options.broken)
    found = run_vtab(folder, Path(str(options.data)), vtab_probe(options), how, reading, told)
    return Answers(parts(found), found.to_dict(), lines(found))


def vtab_probe(options: Evaluate) -> "Probe":
    """Return what learns a task and is measured on it."""
    asked = options.probe
    from vitreous.evaluate import few_shot as few
    from vitreous.evaluate import linear as straight
    from vitreous.evaluate.knn import KNNOptions, knn

    def least_squares(train: "Features", test: "Features") -> tuple[float, str]:
        found = few.few_shot(train, test, None, ("all",), grid(asked, few.L2_GRID) or (few.L2,), 1).at("all")
        return found.mean, f"l2 {found.l2[0]:g}"

    def linear(train: "Features", test: "Features") -> tuple[float, str]:
        values = asked.rates if asked.solver == "sgd" else grid(asked, straight.L2_GRID)
        found = straight.linear_probe(train, test, straight.LinearOptions(asked.solver, values))
        return found.accuracy, f"{'rate' if asked.solver == 'sgd' else 'l2'} {found.chosen:g}"

    def neighbours(train: "Features", test: "Features") -> tuple[float, str]:
        votes = asked.votes or ("temperature" if asked.metric == "cosine" else "uniform")
        found = knn(train, test, KNNOptions(asked.k, asked.metric, votes))
        return found.accuracy, f"k {found.chosen}"

    return {"few-shot": least_squares, "linear": linear, "knn": neighbours}[options.protocol]
