"""The output of `vitreous.inspect` on models, runs and images: lines for a terminal."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import CheckpointError
from vitreous.evaluation.refit import find_refit, read_refit
from vitreous.images.config import PreprocessConfig
from vitreous.metrics.headline import find_headline, format_figure, format_reached
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.kinds import Config
from vitreous.model.resnet_config import ROOT, ResNetConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.run_folder import CHECKPOINTS, RunRecord
from vitreous.runtime.display import strip_hidden
from vitreous.shapes import Size
from vitreous.storage.snapshot import read_state
from vitreous.training.reporter import format_duration
from vitreous.weights.model_folder import ModelFolder


def describe_shape(path: str, folder: ModelFolder) -> list[str]:
    """Describe an architecture, its preprocessing and its classes."""
    config = folder.model.config
    lines = [
        f"model       {path}",
        f"shape       {describe_layers(config)}",
        f"parameters  {count.count_parameters(config):,}, {count.count_flops(config) / 1e9:.3f} GFLOPs per image",
        f"images      {config.image[0]}x{config.image[1]}, {describe_transform(folder.preprocess)}",
        *([f"positions   {config.positions}; resized by {folder.resize}"] if isinstance(config, ViTConfig) else []),
        f"classes     {describe_classes(folder.classes)}{'; several an image, or none' if folder.multilabel else ''}",
    ]
    if folder.temperature != 1:
        lines.append(
            f"calibrated  logits are divided by {folder.temperature:.4g} for probabilities; predictions stay the same"
        )
    lines.append(describe_origin(folder.origin))
    metrics = folder.origin.get("metrics")
    if isinstance(metrics, dict) and "loss" in metrics:
        lines.append(f"reached     validation {format_reached(metrics)}")
    refit = find_refit(folder.origin)
    if refit is not None:
        lines.append(f"refitted    {refit}")
    return lines


def describe_export(folder: ExportedFolder) -> list[str]:
    """Describe an exported model: what it is, its graph's inputs and outputs, and how far these were from the
    model's."""
    graph, shape = folder.graph, folder.shape
    opset = f", opset {graph.opset}" if graph.opset else ""
    proof = folder.proof
    lines = [
        f"export      {folder.path}, to {folder.target}{opset}, {graph.precision}",
        f"shape       {shape.get('description', 'unknown')}",
        f"takes       {describe_input(folder)}",
        f"gives       {', '.join(graph.outputs)}",
        f"images      {describe_transform(folder.preprocess)}",
        f"classes     {describe_classes(folder.classes)}{'; several an image, or none' if folder.multilabel else ''}",
    ]
    if graph.merge:
        lines.append(f"merges      {graph.merge} pairs of patches in each block")
    if folder.temperature != 1:
        lines.append(f"calibrated  logits are divided by {folder.temperature:.4g} for probabilities")
    lines.append(describe_origin(folder.origin))
    if isinstance(proof.get("difference"), float):
        lines.append(
            f"proof       {proof['difference']:.1e} of the largest output from torch's, by {proof.get('engine')}"
        )
    return lines


def describe_origin(origin: Mapping[str, Any]) -> str:
    """Describe where a model comes from, using only the plain values recorded about it."""
    said = ", ".join(f"{key} {value}" for key, value in origin.items() if isinstance(value, (str, int, float)))
    return f"origin      {strip_hidden(said) or 'unknown'}"


def describe_use(folder: ExportedFolder) -> str:
    """Return a command that uses an exported model."""
    named = shlex.quote(str(folder.path))
    if "logits" in folder.graph.outputs:
        return f"vitreous predict {named} IMAGES..."
    return f"vitreous embed {named} IMAGES..."


def describe_input(folder: ExportedFolder) -> str:
    """Describe the input of an exported graph."""
    graph, channels = folder.graph, folder.preprocess.channels
    shape = ", ".join("?" if graph.dynamic_image else str(side) for side in graph.image)
    if graph.inputs == "normalised":
        return f"float32 (batch, {channels}, {shape}), normalised"
    kind = "float32" if folder.preprocess.keeps_channels else "uint8"
    return f"{kind} (batch, {shape}, {channels}), 0 to 255"


def describe_transform(images: PreprocessConfig) -> str:
    """Describe how images are resized and cropped."""
    kernel = f"{images.interpolation}{'' if images.antialias else ' without antialias'}"
    rounding = "" if images.rounding == "nearest" else f", sizes rounded as by {images.rounding}"
    mode = f"{images.mode} channels as they are" if images.keeps_channels else images.mode
    return f"{mode}, resize {images.resize} ({kernel}), crop {images.crop:g}{rounding}"


def describe_classes(classes: tuple[str, ...]) -> str:
    """Count and name a model's classes."""
    if not classes:
        return "none: a model without a head, for its features or for fine-tuning"
    return f"{len(classes)}: {', '.join(map(strip_hidden, classes[:10]))}{', ...' if len(classes) > 10 else ''}"


def describe_layers(config: Config) -> str:
    """Describe a model's layers."""
    if isinstance(config, ResNetConfig):
        units = "+".join(map(str, config.units))
        kind = "" if config.unit == "bottleneck" else f"{config.unit} "
        plain = (config.root, config.root_channels) == ("7x7", ROOT)
        root = "" if plain else f", root {config.root} of {config.root_channels} channels"
        root += f", stages of {'+'.join(map(str, config.stage_channels))} channels" if config.stage_channels else ""
        bend = "" if config.activation == "relu" else f", {config.activation.upper()}"
        bend += "" if config.norm == "group" else f", {config.norm} norm"
        return f"ResNet of {units} {kind}units, width {config.width}{root}{bend}, last map a grid of {config.grid}"
    if isinstance(config, EfficientNetConfig):
        units, widths = ("+".join(map(str, values)) for values in (config.units, config.widths))
        return (
            f"EfficientNet of {units} units of {widths} channels, {config.last_channels} features, {config.padding} padding, "
            f"batch norm of epsilon {config.norm_eps:g}, last map a grid of {config.grid}"
        )
    if isinstance(config, SwinConfig):
        kind = "Swin" if config.version == "v1" else "SwinV2"
        each = ", ".join(f"{Size(*window)} in {grid}" for window, grid in zip(config.windows, config.maps, strict=True))
        blocks, heads = ("+".join(map(str, values)) for values in (config.depths, config.heads))
        return f"{kind} of {blocks} blocks, width {config.width}, heads {heads}, windows of {each} patches"
    stem = config.stem
    under = {"none": "", "conv": f" on {len(stem.convolutions)} convolutions"}.get(
        stem.kind, f" on a ResNet of {'+'.join(map(str, stem.units)) or 'no'} units, width {stem.width}"
    )
    along = "attention along rows and columns in turn, " if config.block.attention == "axial" else ""
    return (
        f"width {config.width}, depth {config.depth}, heads {config.heads}, MLP {config.mlp_width}, {along}"
        f"patches {config.patch[0]}x{config.patch[1]} in a grid of {config.grid}{under}"
    )


def describe_progress(path: Path, record: RunRecord) -> str:
    """Describe a run's progress and results, and how to continue."""
    config, steps = record.config["config"], record.config["steps"]
    trained = [entry for entry in record.metrics if entry["kind"] == "train"]
    measured = [entry for entry in record.metrics if entry["kind"] == "evaluation"]
    at = max([entry["step"] for entry in trained + measured] + record.checkpoints, default=0)
    done = at >= steps or has_ended(record)
    lines = [
        f"run         {path}",
        f"recipe      {config['recipe']} on {config['data']['path']}, {record.config['parameters']:,} parameters",
        f"progress    step {at:,} of {steps:,}"
        + (f", {format_duration(trained[-1]['seconds'])} of training" if trained else "")
        + (", stopped early" if done and at < steps else ""),
        f"checkpoints {', '.join(map(str, record.checkpoints)) or 'none'}",
    ]
    if measured:
        learned = (
            " (on images that it learned from)" if (record.config.get("data") or {}).get("validation_learned") else ""
        )
        lines.append(f"validation  {describe_validation(measured)}{learned}")
    if (refit := read_refit(record.model)) is not None:
        lines.append(f"refitted    {refit}")
    labelled = not measured or find_headline(measured[-1]) is not None
    named = shlex.quote(str(path))
    onwards = f"evaluate {named}" if labelled else f"train DATA --recipe finetune --weights {named}"
    lines.append(f"next: vitreous {onwards if done else f'resume {named}'}")
    return "\n".join(lines)


def describe_validation(measured: list[dict[str, Any]]) -> str:
    """Describe the last and the best evaluation: accuracy or mAP, or without labels the loss."""
    last = measured[-1]
    name = find_headline(last) or "loss"
    best = (min if name == "loss" else max)(measured, key=lambda entry: entry[name])
    best = next(
        (entry for entry in reversed(measured) if entry.get("best")), best
    )  # of equal ones, the one that was kept
    return f"{format_reached(last)} last, {format_figure(name, best[name])} best (step {best['step']:,})"


def has_ended(record: RunRecord) -> bool:
    """Return whether a run has reached its end, planned or early, by its newest checkpoint."""
    newest = record.path / CHECKPOINTS / f"step-{max(record.checkpoints, default=0)}"
    try:
        return bool(read_state(newest)["state"]["finished"])
    except CheckpointError:
        return False


def describe_channels(mode: str) -> str:
    """Describe the channels of an image whose mode has no name.

    >>> describe_channels("5;16")
    '5 channels of 16 bits (kept as they are by `vitreous train`)'
    >>> describe_channels("3;F")
    '3 channels of floating point (brought to 8 bits; kept as they are by `vitreous train --channels 3`)'
    """
    number, _, bits = mode.partition(";")
    option = f" --channels {number}" if int(number) <= 4 else ""
    reduced = "brought to 8 bits; " if number in ("3", "4") and bits != "8" else ""
    said = "floating point" if bits == "F" else f"{bits} bits"
    return f"{number} channels of {said} ({reduced}kept as they are by `vitreous train{option}`)"


def describe_levels(low: float, high: float, mode: str) -> str:
    """Describe how the values of an image with more than 8 bits per channel become grey, and how to use their full
    range.

    >>> describe_levels(0, 4080, "I;16")
    '0 to 4080 of 0 to 65535, so the brightest becomes 16 of 255; if white is 4095: --decode.levels 0 4095'
    """
    if mode.endswith("F"):
        return f"{low:g} to {high:g} in floating point, for which black and white have to be given: --decode.levels BLACK WHITE"
    description = f"{low:g} to {high:g} of 0 to 65535"
    if low < 0 or high > 65_535:
        return f"{description}, the others clipped; to set black and white: --decode.levels BLACK WHITE"
    if high >= 32_768 or high == low:
        return description
    white = max(255, 2 ** int(high).bit_length() - 1)
    seen = round(high * 255 / 65_535)
    return f"{description}, so the brightest becomes {seen} of 255; if white is {white}: --decode.levels 0 {white}"
