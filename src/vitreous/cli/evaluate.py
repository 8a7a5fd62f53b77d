"""`vitreous evaluate`: measure a model on labelled images, and write a report."""

import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.api.names import name_model
from vitreous.cli.load_model import open_classifier, open_model, tell_engine
from vitreous.cli.options.evaluate import FINE_TUNE, Evaluate, check
from vitreous.cli.output import choose_stream, free_or_named, result_file, write_file
from vitreous.cli.parse import parse
from vitreous.evaluation.probes.options import PROBES
from vitreous.training.progress import reporter

if TYPE_CHECKING:
    from vitreous.api.benchmarks import BenchmarkResult
    from vitreous.api.evaluation import EvaluationResult
    from vitreous.api.probes import ProbeResult
    from vitreous.predictor import Predictor
    from vitreous.training.reporter import Reporter


def evaluate(arguments: list[str]) -> int:
    """Run `vitreous evaluate`."""
    options = parse(Evaluate, arguments, "evaluate")
    check(options)
    out = choose_folder(options)
    if options.json:
        result_file(options.json, options.overwrite, "--json")
    stream = choose_stream(options.json)
    display = reporter(stream)
    try:
        measure = benchmark if options.benchmark else probe if options.protocol in PROBES else accuracy
        found = measure(options, display)
    finally:
        display.close()
    if (signal := getattr(found, "signal", None)) is not None:
        print("interrupted; the same command continues from here")
        return 128 + signal
    say = partial(print, file=stream)
    say(found)
    say(f"\nreport: {found.save(out)}")
    if options.json:
        write_file(options.json, json.dumps(found.to_dict(), indent=1) + "\n")
        say(f"all {'metrics' if measure is accuracy else 'numbers'} are in {options.json}")
    verb = "embed" if options.protocol in PROBES else "predict"  # a probed model may have no head
    say(f"next: vitreous {verb} {shlex.quote(options.model)} IMAGES...")
    return 0


def accuracy(options: Evaluate, display: "Reporter") -> "EvaluationResult":
    """Measure the model's own head."""
    from vitreous.api.evaluation import evaluate

    model = open_classifier(
        options.model, options.load, batch=options.batch, merge=options.merge, **get_load_options(options)
    )
    names = ("split", "corruptions", "severities", "merge_curve", "packed", "speed", "batch", "broken")
    how = {name: getattr(options, name) for name in names}
    found = evaluate(model, options.data, compare=open_rival(options), **how, reporter=display)
    tell_engine(model, options.verbose)
    return found


def probe(options: Evaluate, display: "Reporter") -> "ProbeResult":
    """Measure the model's features with a probe."""
    from vitreous.api.data import OwnRun
    from vitreous.api.probes import probe

    model = open_model(options.model, options.load, **get_load_options(options))
    parts = (options.data,) if options.train is None else (options.train, options.data or OwnRun.VALIDATION)
    how = {"kind": options.protocol, "batch": options.batch, "broken": options.broken, **vars(options.probe)}
    return probe(model, *parts, compare=open_rival(options), **how, reporter=display)


def benchmark(options: Evaluate, display: "Reporter") -> "BenchmarkResult":
    """Measure the model on the user's copy of a benchmark."""
    from vitreous.api.benchmarks import benchmark

    how = {name: getattr(options, name) for name in ("protocol", "tasks", "steps", "batch", "device", "broken")}
    load = open_classifier if options.protocol == "accuracy" else open_model
    model = (
        options.model
        if options.protocol == FINE_TUNE
        else load(options.model, options.load, **get_load_options(options))
    )
    return benchmark(model, str(options.benchmark), str(options.data), **how, **vars(options.probe), reporter=display)


def get_load_options(options: Evaluate) -> dict[str, Any]:
    """Return the options that open a model, as `vitreous.load` accepts them."""
    names = ("device", "decode", "engine", "compile")
    return {"precision": options.probe.precision, **{name: getattr(options, name) for name in names}}


def open_rival(options: Evaluate) -> "Predictor | None":
    """Load the model of --compare, if there is one."""
    if options.compare is None:
        return None
    return open_model(options.compare, options.load_other.load, **{**get_load_options(options), "engine": "auto"})


def choose_folder(options: Evaluate) -> Path:
    """Return the folder for the report; raises ConfigError."""
    from vitreous.data.dataset import name_dataset

    data = options.benchmark or (name_dataset(options.data) if options.data else options.split or "validation")
    return free_or_named(options.out, f"{name_model(options.model)}-{data or 'data'}-{options.protocol}")
