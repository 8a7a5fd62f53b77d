"""Adapt a loaded model to other images or fewer classes, and report the changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.factory import create_empty
from vitreous.model.kinds import name_kind
from vitreous.model.meta_device import rebuild
from vitreous.model.positions.resize import ALL_RULES
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Size
from vitreous.weights.channels import change_channels
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions

MOST_CLASSES = 10_000_000
"""Most classes of a new head."""


@dataclass(frozen=True)
class Changes:
    """The changes made to a model after loading it, in words; empty where there are none."""

    resized: str = ""
    channels: str = ""
    head: str = ""


def adapt(folder: ModelFolder, options: LoadOptions) -> tuple[ModelFolder, Changes]:
    """Change a loaded model as the options say. Don't use the given folder afterwards: tensors are shared with it.

    Raises:
        ConfigError: an option that can't be satisfied.
    """
    resized = channels = head = ""
    if options.rule is not None:
        if options.rule not in ALL_RULES:
            raise UnknownName("resize rule", options.rule, ALL_RULES)
        folder = replace(folder, resize=options.rule)
    if options.image is not None and tuple(options.image) != tuple(folder.model.config.image):
        folder, resized = resize_model(folder, Size(*options.image))
    if options.window is not None:
        folder, windowed = rewindow_model(folder, Size(*options.window))
        resized = "; ".join(one for one in (resized, windowed) if one)
    if options.channels is not None and options.channels != folder.model.config.channels:
        folder, channels = change_channels(folder, options.channels, options.channel_rule)
    if options.labels is not None and options.labels != folder.classes:
        unnamed = is_numbered(folder.classes) and not set(options.labels) <= set(folder.classes)
        folder, head = (name_outputs if unnamed else slice_head)(folder, options.labels)
    if options.classes is not None:
        folder, head = replace_head(folder, options.classes)
    return folder, Changes(resized, channels, head)


def resize_model(folder: ModelFolder, image: Size) -> tuple[ModelFolder, str]:
    """Return a model for images of another size, and a description of how its position grid was resized."""
    rule = folder.resize
    old, model = folder.model.config, folder.model.resize(image, rule, share=True)
    said = ""
    if isinstance(model, ViT):
        learned = model.config.positions in ("learned", "learned2d", "relative", "bias")
        said = f"{old.grid} -> {model.config.grid} by {rule if learned else 'their formula'}"
    return replace(folder, model=model, preprocess=replace(folder.preprocess, size=tuple(image)), ranges={}), said


def rewindow_model(folder: ModelFolder, window: Size) -> tuple[ModelFolder, str]:
    """Return a Swin Transformer with other windows, and a description of the change; raises ConfigError for another model."""
    model = folder.model
    if not isinstance(model, Swin):
        raise ConfigError(
            f"--window {window.rows} {window.cols} is for the windows of a Swin Transformer, but this is {name_kind(model.config.KIND)}; leave it out"
        )
    other = model.rewindow(tuple(window), folder.resize)
    if other.config.windows == model.config.windows:
        return folder, ""
    old, new = (", ".join(str(Size(*one)) for one in config.windows) for config in (model.config, other.config))
    rule = folder.resize if model.config.version == "v1" else "their formula"
    return replace(folder, model=other), f"windows {old} -> {new}, offsets by {rule}"


def number_outputs(count: int) -> tuple[str, ...]:
    """Return names for outputs without names."""
    return tuple(f"class {number}" for number in range(count))


def is_numbered(classes: Sequence[str]) -> bool:
    """Return whether these are numbers rather than names."""
    return tuple(classes) == number_outputs(len(classes))


def name_outputs(folder: ModelFolder, labels: Sequence[str]) -> tuple[ModelFolder, str]:
    """Return a model whose unnamed outputs get these names, in their order.

    Raises:
        ConfigError: another number of names than of outputs, a doubled name, or no head.
    """
    count = len(folder.classes)
    if not count:
        raise ConfigError(
            f"this model has no head, so there are no outputs to name ({len(labels):,} labels were given)"
        )
    if len(labels) != count:
        raise ConfigError(
            f"{len(labels):,} labels were given, but the model has {count:,} outputs without names; give a name "
            "for each, in their order"
        )
    check_distinct(labels)
    return replace(folder, classes=tuple(labels)), f"kept, its {count:,} outputs named as you say"


def replace_head(folder: ModelFolder, classes: int | Sequence[str]) -> tuple[ModelFolder, str]:
    """Return a model with a new head of zeros in place of any old one.

    Args:
        folder: the model.
        classes: how many, or their names.

    Raises:
        ConfigError: no classes, or a doubled name.
    """
    count = classes if isinstance(classes, int) else len(classes)
    if not 1 <= count <= MOST_CLASSES:
        raise ConfigError(f"a new head for {count:,} classes; it takes 1 to {MOST_CLASSES:,}")
    names = number_outputs(classes) if isinstance(classes, int) else tuple(classes)
    check_distinct(names)
    model = folder.model
    biased = {"head_bias": True} if isinstance(model, ViT) else {}
    config = replace(model.config, classes=len(names), **biased)
    empty = create_empty(config)
    weights = {
        name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] not in model.heads
    }
    weights |= {
        f"{name}.{own}": torch.zeros(tensor.shape)
        for name, head in empty.heads.items()
        for own, tensor in head.state_dict().items()
    }
    old = f"; the old one, for {len(folder.classes):,}, was left out" if folder.classes else ""
    said = f"new, of zeros, for {len(names):,} classes: untrained{old}"
    return replace(folder, model=rebuild(model, config, weights, share=True), classes=names, multilabel=False), said


def check_distinct(names: Sequence[str]) -> None:
    """Raise ConfigError for a name that is repeated, or empty."""
    for name, count in Counter(names).items():
        if count > 1 or not name:
            raise ConfigError(
                f"the class {name!r} is named {count} times; names must differ" if name else "a class has no name"
            )


def slice_head(folder: ModelFolder, labels: Sequence[str]) -> tuple[ModelFolder, str]:
    """Return a model that knows only these classes, in this order, by their rows of the head.

    A label is a class's whole name, or one of its synonyms, such as "tench" for "tench, Tinca tinca". Probabilities are
    then normalised over these classes alone.

    Raises:
        UnknownName: no such class. ConfigError: a label that two classes have, or that is repeated; or no head.
    """
    count = len(folder.classes)
    if not count:
        raise ConfigError("this model has no head, so there are no classes to choose from")
    rows = [find_row(label, folder.classes) for label in labels]
    double = next((label for label, row in zip(labels, rows, strict=True) if rows.count(row) > 1), None)
    if double is not None:
        raise ConfigError(f"the class {double!r} is named twice")
    model, weights = folder.model, folder.model.state_dict()
    weights |= {name: tensor[rows] for name, tensor in weights.items() if name.rpartition(".")[0] in model.heads}
    other = rebuild(model, replace(model.config, classes=len(rows)), weights, share=True)
    return replace(folder, model=other, classes=tuple(labels)), f"sliced: {len(rows):,} of {count:,} classes"


def find_row(label: str, classes: Sequence[str]) -> int:
    """Return a class's index, by its name or by one of the synonyms in it; raises ConfigError unless exactly one
    matches."""
    found = [row for row, name in enumerate(classes) if name == label]
    found = found or [row for row, name in enumerate(classes) if label in map(str.strip, name.split(","))]
    if not found:
        raise UnknownName("class", label, classes)
    if len(found) > 1:
        raise ConfigError(f"{len(found)} classes are called {label!r} ({', '.join(classes[row] for row in found[:3])})")
    return found[0]


def knows_all(classes: Sequence[str], labels: Sequence[str]) -> bool:
    """Return whether each of these labels is the whole name of exactly one of the classes."""
    count = Counter(classes)
    return len(set(labels)) == len(labels) and all(count[label] == 1 for label in labels)
