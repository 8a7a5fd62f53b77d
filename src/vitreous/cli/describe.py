"""What is this? A description of a model folder, a run folder, a data set or an image."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.cli.load_model import wish_of
from vitreous.cli.progress import duration
from vitreous.cli.taken_options import Taken
from vitreous.data.config import DataConfig
from vitreous.data.dataset import DIGITS, open_dataset
from vitreous.data.listing.discovery import MANIFESTS, missing
from vitreous.data.synthetic.formula import is_formula
from vitreous.errors import CheckpointError, DataError, RunError
from vitreous.images.config import DecodeConfig
from vitreous.metrics.headline import digits, headline, reached
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ROOT, ResNetConfig
from vitreous.storage.presence import is_there

if TYPE_CHECKING:
    from vitreous.images.config import PreprocessConfig
    from vitreous.run_folder import RunRecord
    from vitreous.weights.model_folder import ModelFolder


def describe(path: str, taken: Taken = Taken()) -> str:
    """Return a few lines on what a path holds; raises UserError if it is nothing that vitreous knows.

    Args:
        path: a model, weights, a run, a data set, an image, or a name on the Hub.
        taken: how a model's weights are taken.
    """
    place = Path(path)
    built_in = path == DIGITS or is_formula(path)
    if not built_in and not is_there(place):
        from vitreous.weights.hub import is_repository

        if is_repository(path):
            return model(path, taken)
        raise DataError(missing(place))
    if built_in or (place.is_file() and place.suffix.lower() in MANIFESTS):
        return data(path)
    from vitreous.weights.files import holds_weights

    if place.is_file():
        return model(path, taken) if holds_weights(place) else image(place)
    from vitreous.rate_sweep import is_sweep
    from vitreous.run_folder import is_run
    from vitreous.weights.model_folder import is_model

    if is_run(place):
        return run(place)
    if is_sweep(place):
        return sweep(place)
    return model(path, taken) if is_model(place) or holds_weights(place) else data(path)


def model(path: str, taken: Taken) -> str:
    """Describe a model folder, or somebody's weights as vitreous would load them."""
    from vitreous.weights.loading import open_model
    from vitreous.weights.model_folder import is_model

    folder, report = open_model(path, wish_of(taken))
    told = [] if report is None else [str(report)]
    assumed = [f"assumed     {note}" for note in folder.origin.get("assumed") or () if is_model(Path(path))]
    named = shlex.quote(path)
    then = f"predict {named} IMAGES..." if is_model(Path(path)) else f"convert {named} FOLDER"
    then = then if folder.classes else f"train DATA --recipe finetune --weights {named}"
    return "\n".join([*told, *shape(path, folder), *assumed, f"next: vitreous {then}"])


def shape(path: str, folder: "ModelFolder") -> list[str]:
    """Describe an architecture, its preprocessing and its classes."""
    from vitreous.model import count

    config = folder.model.config
    lines = [
        f"model       {path}",
        f"shape       {layers(config)}",
        f"parameters  {count.parameters(config):,}, {count.flops(config) / 1e9:.3f} GFLOPs an image",
        f"images      {config.image[0]}x{config.image[1]}, {transform(folder.preprocess)}",
        *([f"positions   {config.positions}; resized by {folder.resize}"] if isinstance(config, ViTConfig) else []),
        f"classes     {class_names(folder.classes)}{'; several an image, or none' if folder.several else ''}",
    ]
    origin = {key: value for key, value in folder.origin.items() if isinstance(value, (str, int, float))}
    lines.append(f"origin      {', '.join(f'{key} {value}' for key, value in origin.items()) or 'unknown'}")
    metrics = folder.origin.get("metrics")
    if isinstance(metrics, dict) and "loss" in metrics:
        lines.append(f"reached     validation {reached(metrics)}")
    return lines


def transform(images: "PreprocessConfig") -> str:
    """Say how images are resized and cropped."""
    kernel = f"{images.interpolation}{'' if images.antialias else ' without antialias'}"
    rounding = "" if images.rounding == "nearest" else f", sizes rounded as by {images.rounding}"
    mode = f"{images.mode} channels as they are" if isinstance(images.mode, int) else images.mode
    return f"{mode}, resize {images.resize} ({kernel}), crop {images.crop:g}{rounding}"


def class_names(classes: tuple[str, ...]) -> str:
    """Count and name a model's classes."""
    if not classes:
        return "none: a model without head, for its features or for fine-tuning"
    return f"{len(classes)}: {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"


def layers(config: ViTConfig | ResNetConfig) -> str:
    """Say what a model is made of."""
    if isinstance(config, ResNetConfig):
        units = "+".join(map(str, config.units))
        plain = (config.root, config.root_channels) == ("7x7", ROOT)
        root = "" if plain else f", root {config.root} of {config.root_channels} channels"
        return f"ResNet of {units} units, width {config.width}{root}, last map a grid of {config.grid}"
    stem = config.stem
    under = {"none": "", "conv": f" on {len(stem.convolutions)} convolutions"}.get(
        stem.kind, f" on a ResNet of {'+'.join(map(str, stem.units)) or 'no'} units, width {stem.width}"
    )
    along = "attention along rows and columns in turn, " if config.block.attention == "axial" else ""
    return (
        f"width {config.width}, depth {config.depth}, heads {config.heads}, MLP {config.mlp}, {along}"
        f"patches {config.patch[0]}x{config.patch[1]} in a grid of {config.grid}{under}"
    )


def sweep(path: Path) -> str:
    """Describe a sweep over learning rates."""
    from vitreous.rate_sweep import FINAL, best, read, table
    from vitreous.run_folder import is_run

    found = read(path)
    left = [f"{rate:g}" for rate in found.rates if f"{rate:g}" not in found.reached]
    config = found.config
    lines = [
        f"sweep       {path}",
        f"recipe      {config.recipe} on {config.data.path}, rates on {1 - found.share:.0%} of the training images",
    ]
    lines += table(found).splitlines()
    lines.append(f"left        {', '.join(left)}" if left else f"best        {best(found):g}")
    done = not left and is_run(path / FINAL)
    return "\n".join(
        [
            *lines,
            f"next: vitreous {f'inspect {shlex.quote(str(path / FINAL))}' if done else f'resume {shlex.quote(str(path))}'}",
        ]
    )


def run(path: Path) -> str:
    """Describe a run folder; raises RunError for one whose files lack what a run writes."""
    from vitreous.run_folder import read_run

    record = read_run(path)
    try:
        return progress(path, record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        lacking = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(
            f"config.json or metrics.jsonl in {path} isn't what a run writes ({lacking}); was it changed by hand?"
        ) from error


def progress(path: Path, record: "RunRecord") -> str:
    """Say how far a run is, what it reached, and how to go on."""
    config, steps = record.config["config"], record.config["steps"]
    trained = [entry for entry in record.metrics if entry["kind"] == "train"]
    measured = [entry for entry in record.metrics if entry["kind"] == "evaluation"]
    at = max([entry["step"] for entry in record.metrics] + record.checkpoints, default=0)
    done = at >= steps or has_ended(record)
    lines = [
        f"run         {path}",
        f"recipe      {config['recipe']} on {config['data']['path']}, {record.config['parameters']:,} parameters",
        f"progress    step {at:,} of {steps:,}"
        + (f", {duration(trained[-1]['seconds'])} of training" if trained else "")
        + (", stopped early" if done and at < steps else ""),
        f"checkpoints {', '.join(map(str, record.checkpoints)) or 'none'}",
    ]
    if measured:
        lines.append(f"validation  {validation(measured)}")
    labelled = not measured or headline(measured[-1]) is not None
    named = shlex.quote(str(path))
    onwards = f"evaluate {named}" if labelled else f"train DATA --recipe finetune --weights {named}"
    lines.append(f"next: vitreous {onwards if done else f'resume {named}'}")
    return "\n".join(lines)


def validation(measured: list[dict[str, Any]]) -> str:
    """Say what the last and the best evaluation found: accuracy or mAP, or without labels the loss."""
    last = measured[-1]
    name = headline(last) or "loss"
    best = (min if name == "loss" else max)(measured, key=lambda entry: entry[name])
    return f"{reached(last)} last, {digits(name, best[name])} best (step {best['step']:,})"


def has_ended(record: "RunRecord") -> bool:
    """Tell whether a run has reached its end, planned or early, as its newest checkpoint says."""
    from vitreous.run_folder import CHECKPOINTS
    from vitreous.storage.snapshot import read_state

    newest = record.path / CHECKPOINTS / f"step-{max(record.checkpoints, default=0)}"
    try:
        return bool(read_state(newest)["state"]["finished"])
    except CheckpointError:
        return False


def data(path: str) -> str:
    """Describe a data set as training would see it, broken files left out and listed."""
    report = open_dataset(DataConfig(path, broken="skip")).report
    skip = " --data.broken skip" if report.broken else ""
    return f"{report}\nnext: vitreous train {shlex.quote(path)}{skip}"


def image(path: Path) -> str:
    """Describe an image file."""
    from vitreous.images.decode import decode, probe, read, value_range
    from vitreous.images.pillow import channels_in

    bytes_read = read(path, DecodeConfig())
    info = probe(bytes_read, DecodeConfig(truncated="fill"), str(path))
    found = value_range(bytes_read, DecodeConfig())
    kept = channels_in(info.mode) if ";" in info.mode and info.mode[0].isdigit() else None
    if not info.mode.endswith("F"):
        decode(bytes_read, DecodeConfig(), kept or "RGB", name=str(path))
    turned = f", EXIF orientation {info.orientation} applied" if info.orientation != 1 else ""
    frames = f", the first of {info.frames} frames is used" if info.frames > 1 else ""
    values = f"\nvalues      {levels(*found, info.mode)}" if found else ""
    size = f"{info.size.rows} rows x {info.size.cols} cols"
    mode = f"mode {info.mode}" if kept is None else channels(info.mode)
    return f"image       {path}\n{info.format:11} {size}, {mode}{turned}{frames}{values}"


def channels(mode: str) -> str:
    """Say what an image holds that has no name as a mode.

    >>> channels("5;16")
    '5 channels of 16 bits (kept as they are by `vitreous train`)'
    >>> channels("3;F")
    '3 channels of floating point (brought to 8 bits; kept as they are by `vitreous train --channels 3`)'
    """
    number, _, bits = mode.partition(";")
    option = f" --channels {number}" if int(number) <= 4 else ""
    reduced = "brought to 8 bits; " if number in ("3", "4") else ""
    said = "floating point" if bits == "F" else f"{bits} bits"
    return f"{number} channels of {said} ({reduced}kept as they are by `vitreous train{option}`)"


def levels(low: float, high: float, mode: str) -> str:
    """Say how the values of an image of more than 8 bits a channel become grey, and what would use the range they take.

    >>> levels(0, 4080, "I;16")
    '0 to 4080 of 0 to 65535, so the brightest becomes 16 of 255; if white is 4095: --decode.levels 0 4095'
    """
    if mode.endswith("F"):
        return (
            f"{low:g} to {high:g} in floating point, whose black and white have to be said: --decode.levels BLACK WHITE"
        )
    told = f"{low:g} to {high:g} of 0 to 65535"
    if low < 0 or high > 65_535:
        return f"{told}, the others clipped; to say what black and white are: --decode.levels BLACK WHITE"
    if high >= 32_768 or high == low:
        return told
    white = max(255, 2 ** int(high).bit_length() - 1)
    seen = round(high * 255 / 65_535)
    return f"{told}, so the brightest becomes {seen} of 255; if white is {white}: --decode.levels 0 {white}"
