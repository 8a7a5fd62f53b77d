"""`vitreous.inspect`: the contents of a path."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitreous.api.descriptions import (
    describe_channels,
    describe_export,
    describe_levels,
    describe_progress,
    describe_shape,
    describe_use,
)
from vitreous.api.loading import open_weights
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.cross_validation import CrossValidation, is_folds
from vitreous.cross_validation import read_plan as read_folds
from vitreous.data.config import DataConfig
from vitreous.data.dataset import is_built_in, open_dataset
from vitreous.data.listing.discovery import INSTEAD, MANIFESTS, explain_missing
from vitreous.data.listing.scan_report import ScanReport
from vitreous.data.sources.hub_sets import is_hub_set
from vitreous.data.sources.packed_data import is_packed
from vitreous.data.splits import check_there
from vitreous.engines.exported_folder import ExportedFolder, load_export
from vitreous.errors import DataError, RunError, UserError, check_path
from vitreous.evaluation.probes.stored_features import read_features
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import ImageInfo, decode, probe, read, read_value_range
from vitreous.images.pillow import count_mode_channels
from vitreous.rate_search import RateSearch, choose_rate, format_table, is_search
from vitreous.rate_search import read_plan as read_search
from vitreous.run_folder import MODEL, RunRecord, is_run, read_run
from vitreous.self_training.rounds import SelfTraining, is_self_training
from vitreous.self_training.rounds import read_plan as read_rounds
from vitreous.storage.presence import path_exists
from vitreous.storage.remote import find_url
from vitreous.storage.run_config import FINAL, suggest_run
from vitreous.sweeps.plan import is_sweep
from vitreous.training.reporter import Reporter
from vitreous.weights.auto_weights import is_named
from vitreous.weights.exported import is_export
from vitreous.weights.files import has_weights
from vitreous.weights.model_folder import ModelFolder, is_model


@dataclass(frozen=True, eq=False, repr=False)
class InspectionResult(Result):
    """The contents of a path."""

    path: str
    kind: Literal["model", "export", "run", "rates", "folds", "self-training", "data", "image"]
    facts: (
        ModelFolder | ExportedFolder | RunRecord | RateSearch | CrossValidation | SelfTraining | ScanReport | ImageInfo
    )
    """The object itself: the loaded model, the run's record, the rate search, the cross-validation, the findings in the
    data, the image's header."""
    description: str
    """A few lines for people; the last suggests what to do next."""

    def __str__(self) -> str:
        return self.description


@shows_progress
def inspect(
    path: str | Path, *, progress: bool | None = None, reporter: Reporter | None = None, **load: Any
) -> InspectionResult:
    """Describe the contents of a path: a model folder, an export, a file of weights, a run, a rate search, a data set or an
    image.

    >>> found = vitreous.inspect("runs/photos-1")                                        # doctest: +SKIP
    >>> found.kind, found.facts.config["parameters"]                                     # doctest: +SKIP
    ('run', 21589632)

    Args:
        path: a folder, a file, the URL of shards or parquet files, "digits", a formula such as "formula:atoms?classes=10", or
            hf:owner/name for a data set on the Hub, or owner/name or a short name for a model.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress of downloads instead of that display.
        load: how a model's weights are loaded, as in `vitreous.load`.

    Raises:
        UserError: the path holds nothing that vitreous knows, or can't be read.
    """
    check_path("the path to inspect", path)
    named, place = str(path), Path(path)
    built_in = is_built_in(named)
    remote = find_url(place) is not None or is_hub_set(place)
    if not built_in and not remote and not path_exists(place):
        if is_named(named):
            return inspect_model(named, load, reporter)
        raise DataError(explain_missing(place))
    refuse_features(place)
    if built_in or is_hub_set(place) or is_packed(place) or (place.is_file() and place.suffix.lower() in MANIFESTS):
        return inspect_data(named)
    if is_export(place):
        return inspect_export(place)
    if place.is_file():
        return inspect_model(named, load) if has_weights(place) else inspect_image(place)
    for is_kind, describe in FOLDERS:
        if is_kind(place):
            return describe(place)
    return inspect_model(named, load) if is_model(place) or has_weights(place) else inspect_data(named)


def inspect_model(path: str, load: Mapping[str, Any], reporter: Reporter | None = None) -> InspectionResult:
    """Describe a model folder, or foreign weights as vitreous would load them."""
    folder, report = open_weights(path, load, reporter)
    notes = [] if report is None else [str(report)]
    assumed = [f"assumed     {note}" for note in folder.origin.get("assumed") or () if is_model(Path(path))]
    named = shlex.quote(path)
    then = f"predict {named} IMAGES..." if is_model(Path(path)) else f"convert {named} FOLDER"
    then = then if folder.classes else f"train DATA --recipe finetune --weights {named}"
    lines = [*notes, *describe_shape(path, folder), *assumed, f"next: vitreous {then}"]
    return InspectionResult(path, "model", folder, "\n".join(lines))


def inspect_export(path: Path) -> InspectionResult:
    """Describe an exported model."""
    found = load_export(path)
    return InspectionResult(
        str(path), "export", found, "\n".join([*describe_export(found), f"next: {describe_use(found)}"])
    )


def inspect_search(path: Path) -> InspectionResult:
    """Describe a rate search."""
    found = read_search(path)
    left = [f"{rate:g}" for rate in found.rates if f"{rate:g}" not in found.results]
    config = found.config
    lines = [
        f"rates       {path}",
        f"recipe      {config.recipe} on {config.data.path}, rates on {1 - found.share:.0%} of the training images",
    ]
    lines += format_table(found).splitlines()
    lines.append(f"left        {', '.join(left)}" if left else f"best        {choose_rate(found):g}")
    done = not left and is_run(path / FINAL)
    then = f"inspect {shlex.quote(str(path / FINAL))}" if done else f"resume {shlex.quote(str(path))}"
    return InspectionResult(str(path), "rates", found, "\n".join([*lines, f"next: vitreous {then}"]))


def inspect_folds(path: Path) -> InspectionResult:
    """Describe a cross-validation."""
    found = read_folds(path)
    lines = [
        f"folds       {path}",
        f"recipe      {found.config.recipe} on {found.config.data.path}, {found.folds} folds",
    ]
    lines += str(found).splitlines()
    named = shlex.quote(str(path))
    then = f"predict {named} IMAGES..." if is_model(path / MODEL) else f"resume {named}"
    return InspectionResult(str(path), "folds", found, "\n".join([*lines, f"next: vitreous {then}"]))


def inspect_rounds(path: Path) -> InspectionResult:
    """Describe a self-training."""
    found = read_rounds(path)
    config, options = found.config, found.options
    named = shlex.quote(str(path))
    lines = [
        f"rounds      {path}",
        f"recipe      {config.recipe} on {config.data.path} and {config.data.unlabelled}, {options.rounds} round{'s'[: options.rounds > 1]}, {options.targets} labels",
        *str(found).splitlines(),
        f"next: vitreous {f'predict {named} IMAGES...' if is_model(path / MODEL) else f'resume {named}'}",
    ]
    return InspectionResult(str(path), "self-training", found, "\n".join(lines))


def inspect_run(path: Path) -> InspectionResult:
    """Describe a run folder; raises RunError if its files lack what a run writes."""
    record = read_run(path)
    try:
        return InspectionResult(str(path), "run", record, describe_progress(path, record))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        lacking = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(
            f"config.json or metrics.jsonl in {path} isn't what a run writes ({lacking}); was it changed by hand?"
        ) from error


def refuse_features(path: Path) -> None:
    """Raise a DataError that names the command for a file that `vitreous.embed` wrote."""
    try:
        found = read_features(path)
    except UserError:
        return
    raise DataError(
        f"{path} holds vectors of {len(found.names):,} image{'s' * (len(found.names) != 1)} by {found.facts.get('model', 'a model')}; "
        f"`vitreous similar IMAGE --in {shlex.quote(str(path))}` searches them"
    )


def refuse_sweep(path: Path) -> InspectionResult:
    """Raise a RunError that names the command for a sweep."""
    raise RunError(f"{path} is a sweep; `vitreous runs {shlex.quote(str(path))}` compares its runs{suggest_run(path)}")


FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], InspectionResult]], ...] = (
    (is_run, inspect_run),
    (is_search, inspect_search),
    (is_folds, inspect_folds),
    (is_self_training, inspect_rounds),
    (is_sweep, refuse_sweep),
)
"""How each kind of folder that training writes is recognised and described."""


def inspect_data(path: str) -> InspectionResult:
    """Describe a data set as training would see it, with broken files left out and listed."""
    report = open_dataset(DataConfig(path, broken="skip", test_split="once")).report
    skip = " --data.broken skip" if report.broken else ""
    return InspectionResult(path, "data", report, f"{report}\nnext: vitreous train {shlex.quote(path)}{skip}")


def inspect_image(path: Path) -> InspectionResult:
    """Describe an image file; raises DataError for a data file in a form that can't be read."""
    if path.suffix.lower() in INSTEAD:
        check_there(path)
    bytes_read = read(path, DecodeConfig())
    info = probe(bytes_read, DecodeConfig(truncated="fill"), str(path))
    found = read_value_range(bytes_read, DecodeConfig())
    kept = count_mode_channels(info.mode) if ";" in info.mode and info.mode[0].isdigit() else None
    if not info.mode.endswith("F"):
        decode(bytes_read, DecodeConfig(), kept or "RGB", name=str(path))
    turned = f", EXIF orientation {info.orientation} applied" if info.orientation != 1 else ""
    frames = f", the first of {info.frames} frames is used" if info.frames > 1 else ""
    values = f"\nvalues      {describe_levels(*found, info.mode)}" if found else ""
    size = f"{info.size.rows} rows x {info.size.cols} cols"
    mode = f"mode {info.mode}" if kept is None else describe_channels(info.mode)
    described = f"image       {path}\n{info.format:11} {size}, {mode}{turned}{frames}{values}"
    return InspectionResult(str(path), "image", info, described)
