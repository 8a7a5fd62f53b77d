"""`vitreous evaluate`: measure a model on labelled images, and write down what was found."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.api.names import model_name
from vitreous.cli.accuracy import ask, one_label, refuse_sets, several
from vitreous.cli.benchmark import check_benchmark, measured
from vitreous.cli.load_model import open_classifier, open_taken
from vitreous.cli.options.commands import Evaluate
from vitreous.cli.output import free_or_named, result_file
from vitreous.cli.parse import parse
from vitreous.cli.predict import write_file
from vitreous.cli.probe import PROBES, check_options, probe, probe_sources
from vitreous.cli.progress import reporter
from vitreous.errors import DataError

if TYPE_CHECKING:
    from vitreous.data.dataset import Dataset, Source
    from vitreous.images.config import DecodeConfig
    from vitreous.reports.blocks import Outcome, Part
    from vitreous.reports.evaluation.overlap import Overlap
    from vitreous.training.reporter import Reporter
    from vitreous.weights.model_folder import ModelFolder


def evaluate(arguments: list[str]) -> int:
    """Run `vitreous evaluate`."""
    options = parse(Evaluate, arguments, "evaluate")
    check_options(options)
    check_benchmark(options)
    out = folder_of(options)
    if options.json:
        result_file(options.json, options.overwrite, "--json")
    display = reporter()
    try:
        (benchmark if options.benchmark else PROTOCOLS[options.protocol])(options, out, display)
    finally:
        display.close()
    verb = "embed" if options.protocol in PROBES else "predict"  # a model that is probed may have no head
    print(f"next: vitreous {verb} {shlex.quote(options.model)} IMAGES...")
    return 0


def accuracy(options: Evaluate, out: Path, display: "Reporter") -> None:
    """Measure the model's own head."""
    from vitreous.data.sources.base import label_sets
    from vitreous.reports.blocks import Outcome
    from vitreous.reports.evaluation.overlap import overlap

    predictor = open_classifier(options.model, options.load, device=options.device, batch=options.batch)
    folder = predictor.folder
    asked = ask(options, predictor, (model_name(options.model), model_name(options.compare or "")))
    display.phase("opening the data")
    if predictor.folder.several:
        refuse_sets(options, f"{options.model} gives")
    source = labelled(options, predictor.folder, display)
    if label_sets(source) is not None:
        refuse_sets(options, f"{data_name(options)} has")
    sets = predictor.folder.several or label_sets(source) is not None
    found = (several if sets else one_label)(asked, source, display)
    seen = overlap(Path(options.model), source, folder.decode) if options.data is not None else None
    if seen is not None:
        add_seen(seen, found.parts, found.lines, found.results)
    display.close()
    print(*found.lines, sep="\n")
    tell_skipped(source)
    if options.json:
        write_file(options.json, json.dumps(found.results, indent=1) + "\n")
        print(f"\nall metrics are in {options.json}")
    lead = f"{options.model} on {len(source):,} images of {data_name(options)}, by its own head."
    save(out, Outcome(title(options), lead, found.parts, {**said(options), "results": found.results}))


def add_seen(seen: "Overlap", parts: "list[Part]", lines: list[str], results: dict[str, Any]) -> None:
    """Say everywhere how many of the measured images the model was trained on."""
    lines.append(f"\nnote: {seen}")
    parts.insert(1, seen.part())
    results["trained_on"] = asdict(seen)


def frozen(options: Evaluate, out: Path, display: "Reporter") -> None:
    """Measure the model's features by a probe."""
    from vitreous.evaluation.probes.layers import find_layer
    from vitreous.reports.blocks import Outcome
    from vitreous.reports.evaluation.overlap import overlap

    folder = open_taken(options.model, options.load)
    find_layer(folder.model, options.probe.layer)
    train, test = probe_sources(options, folder, display, lambda: run_data(options, folder.decode, display))
    found = probe(options, folder, (train, test), display)
    seen = overlap(Path(options.model), test, folder.decode) if options.data is not None else None
    parts, lines, results = [*found.parts], [*found.lines], {**found.data}
    if seen is not None:
        add_seen(seen, parts, lines, results)
    display.close()
    lead = f"{options.model}, layer {options.probe.layer}: {options.protocol} on {len(test):,} images of {data_name(options)}"
    lead += f", {'drawn' if options.protocol == 'few-shot' else 'learned'} from {len(train):,} training images"
    shown = "\n\n".join(filter(None, (lead, found.headline, str(found.table))))
    print(shown, *lines, sep="\n")
    for source in (train, test):
        tell_skipped(source)
    facts = {"layer": options.probe.layer, "precision": options.probe.precision, "train": options.probe.train}
    data = {**said(options), **facts, "train_images": len(train), "results": results}
    if options.json:
        write_file(options.json, json.dumps(results, indent=1) + "\n")
        print(f"\nall numbers are in {options.json}")
    save(out, Outcome(title(options), f"{lead}.", parts, data))


def benchmark(options: Evaluate, out: Path, display: "Reporter") -> None:
    """Measure the model on the user's copy of a benchmark."""
    from vitreous.images.config import DecodeConfig
    from vitreous.reports.blocks import Outcome
    from vitreous.reports.evaluation.overlap import overlap_of_files

    found = measured(options, display)
    seen = overlap_of_files(Path(options.model), Path(str(options.data)), DecodeConfig())
    if seen is not None:
        add_seen(seen, found.parts, found.lines, found.results)
    display.close()
    print(*found.lines, sep="\n")
    if options.json:
        write_file(options.json, json.dumps(found.results, indent=1) + "\n")
        print(f"\nall numbers are in {options.json}")
    how = {"accuracy": ", by its own head", "fine-tune": ": trained on each task"}.get(
        options.protocol, f", layer {options.probe.layer}: {options.protocol}"
    )
    lead = f"{options.model} on {options.benchmark}, the copy in {options.data}{how}."
    data = {**said(options), "benchmark": options.benchmark, "results": found.results}
    save(out, Outcome(title(options), lead, found.parts, data))


PROTOCOLS = {"accuracy": accuracy} | dict.fromkeys(PROBES, frozen)


def save(out: Path, found: "Outcome") -> None:
    """Write the report and say where it is."""
    from vitreous.reports.blocks import write_outcome

    print(f"\nreport: {write_outcome(out, found)}")


def tell_skipped(source: "Source") -> None:
    """Say which files of the data were left out."""
    filled = getattr(source, "filled", 0)
    if filled:
        print(f"\n{filled:,} JPEGs of the data lack their last bytes; what is missing of them is grey")
    skipped = getattr(source, "skipped", ())
    if skipped:
        print(f"\n{len(skipped):,} files of the data can't be read and were left out; the first: {skipped[0][1]}")


def title(options: Evaluate) -> str:
    """Name an evaluation: the model, the data, the protocol."""
    from vitreous.data.dataset import called

    if options.benchmark:
        how = "" if options.protocol == "accuracy" else f": {options.protocol}"
        return f"{model_name(options.model)} on {options.benchmark}{how}"
    data = called(options.data) if options.data else "its validation part"
    return f"{model_name(options.model)} on {data}: {options.protocol}"


def said(options: Evaluate) -> dict[str, Any]:
    """Return what report.json says of the request."""
    taken = {name: value for name, value in asdict(options.load).items() if value}
    how = {"taken": taken} if taken else {}
    return {"protocol": options.protocol, "model": options.model, **how, "data": options.data}


def data_name(options: Evaluate) -> str:
    """Name the images that are measured on."""
    return options.data or "its run's validation part"


def folder_of(options: Evaluate) -> Path:
    """Return the folder that the report goes to; raises ConfigError."""
    from vitreous.data.dataset import called

    data = options.benchmark or (called(options.data) if options.data else "validation")
    return free_or_named(options.out, f"{model_name(options.model)}-{data or 'data'}-{options.protocol}")


def labelled(options: Evaluate, folder: "ModelFolder", display: "Reporter") -> "Source":
    """Return the labelled images to measure on: those that are named, or the validation part of the model's run."""
    from vitreous.data.dataset import open_source
    from vitreous.data.label_sets import open_label_sets
    from vitreous.data.listing.manifest import has_label_sets

    if options.data is not None and has_label_sets(Path(options.data)):
        return open_label_sets(Path(options.data), folder.classes, folder.decode, options.broken)[0]
    if options.data is not None:
        return open_source(options.data, folder.classes, folder.decode, options.broken)
    return run_data(options, folder.decode, display).validation


def run_data(options: Evaluate, decode: "DecodeConfig", display: "Reporter") -> "Dataset":
    """Return the data of the run that a model belongs to; raises DataError if there is none."""
    from vitreous.data.dataset import open_dataset
    from vitreous.reports.run.contents import data_of
    from vitreous.run_folder import is_run, read_run
    from vitreous.training.run import fingerprint

    path = Path(options.model)
    run = path if is_run(path) else path.resolve().parent
    if not is_run(run):
        raise DataError(f"{path} belongs to no run, so name the labelled images: vitreous evaluate {path} DATA")
    record = read_run(run).config
    config = data_of(record, run)
    if options.broken == "skip":
        config = replace(config, broken="skip")
    dataset = open_dataset(config, decode)
    if fingerprint(dataset) != record["data"]["fingerprint"]:
        display.message(
            "note: the data has changed since the run began; images that were trained on may be among these"
        )
    return dataset
