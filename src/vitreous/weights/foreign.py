"""Load other code bases' weights into a model of vitreous: recognise, map, resize, and report every change."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

from torch import Tensor

from vitreous.errors import CheckpointError, ConfigError, UnknownName, UserError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import Model, create_empty
from vitreous.model.kinds import CONFIGS
from vitreous.shapes import Size
from vitreous.storage.mmap import FileMap, release_pages
from vitreous.weights.adaptation import adapt, number_outputs
from vitreous.weights.channels import adapt_preprocess
from vitreous.weights.compatibility import check_finite, describe
from vitreous.weights.families.base import MULTI_LABEL, Family, ForeignModel, Notes
from vitreous.weights.files import Weights, read_weights
from vitreous.weights.gaps import describe_cost, fill_missing, refuse_unused
from vitreous.weights.limits import check_model
from vitreous.weights.mapping import Mapped, read_tensors
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions, Report, StatedFacts, group_names
from vitreous.weights.unknown_models import explain_unknown
from vitreous.weights.wrappers import TRAINING, attach_head, unwrap

MODULES = (
    *("timm.vit", "timm.eva", "timm.rotary", "timm.relative", "timm.parallel"),
    *("huggingface.aimv2", "beit", "google.vit", "huggingface.vit", "huggingface.dino", "huggingface.clip"),
    *(
        "huggingface.beit",
        "meta",
        "jepa",
        "linear_heads",
        "openclip",
        "torchvision",
        "google.bit",
        "google.bit_pytorch",
    ),
    *(
        "vit_pytorch",
        "mmpretrain",
        "swin",
        "timm.swin",
        "huggingface.swin",
        "timm.efficientnet",
        "huggingface.efficientnet",
    ),
)

LEAST_DEVIATION, LEAST_CROP = 1e-6, 0.01
"""Below these, an image's pixels overflow, or nothing is left of the image."""
SENSELESS = (ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError)
"""Errors raised when shapes or configurations make no sense."""


def list_families() -> dict[str, Family]:
    """Return every family by name."""
    found = {}
    for name in MODULES:
        module = import_module(f"vitreous.weights.families.{name}")
        found |= {value.name: value for value in vars(module).values() if isinstance(value, Family)}
    return found


def score_best(weights: Weights) -> float:
    """Return how certainly the best-matching family recognises weights."""
    return max(score_family(family, weights) for family in list_families().values())


def score_family(family: Family, weights: Weights) -> float:
    """Return how certainly weights belong to a family; 0 if their shapes make no sense for it."""
    try:
        return family.recognise(weights)
    except SENSELESS:
        return 0.0


def recognise(weights: Weights) -> Family:
    """Return the family that weights belong to.

    Raises:
        CheckpointError: no family fits, or two fit equally well.
    """
    scores = {family.name: score_family(family, weights) for family in list_families().values()}
    best = max(scores.values())
    if best <= 0:
        some = ", ".join(list(weights.tensors)[:4])
        raise CheckpointError(
            f"{weights.path} {explain_unknown(weights)} ({', '.join(scores)}); the file has {len(weights.tensors)} tensors, such as "
            f"{some}"
        )
    fitting = [name for name, score in scores.items() if score == best]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{weights.path} fits {' and '.join(fitting)} equally well; say which with --as {fitting[0]}"
        )
    return list_families()[fitting[0]]


def load_foreign(path: str | Path, options: LoadOptions = LoadOptions()) -> tuple[ModelFolder, Report]:
    """Read foreign weights into a model of vitreous.

    Raises:
        CheckpointError: damaged, hostile or unknown weights, or tensors that don't match and weren't allowed to differ.
        ConfigError: an option that can't be satisfied.
    """
    weights = unwrap(replace(read_weights(path), stated=options.stated), score_best)
    family, variant = choose_family(weights, options.family)
    weights = attach_head(weights, family.table(CONFIGS[family.kind]()))
    foreign = interpret_weights(family, weights, variant)
    check_told(foreign, weights)
    check_images(foreign.preprocess, foreign.model.channels, str(weights.path))
    foreign = replace(foreign, assumed=(*foreign.assumed, *describe_images(foreign, weights)))
    check_model(foreign.model, sum(one.numel() for one in weights.tensors.values()), str(weights.path))
    model, theirs = create_empty(foreign.model), dict(foreign.tensors)
    patterns = (*foreign.ignored, *TRAINING)
    ignored = [name for name in theirs if any(re.search(pattern, name) for pattern in patterns)]
    given, finish = list(theirs), partial(finish_tensor, str(weights.path), weights.maps)
    foreign = replace(foreign, tensors={})  # used tensors are released while the next one is made
    weights.tensors.clear()
    mapped = read_tensors(family.table(foreign.model), theirs, model.state_dict(), foreign.model.depth, finish)
    refuse_shapes(mapped, model, foreign, str(weights.path))
    ignored = [name for name in ignored if name not in mapped.used]
    unused = [name for name in given if name not in mapped.used and name not in ignored]
    refuse_unused(unused, mapped.used, foreign.model, options, str(weights.path))
    new = fill_missing(mapped, model, foreign.model, options, str(weights.path))
    check_finite(mapped.tensors, str(weights.path), weights.maps)
    model.load_state_dict(mapped.tensors, strict=False, assign=True)
    origin = {"family": family.name, "file": weights.path.name, "assumed": list(foreign.assumed)}
    origin |= {"told": str(weights.stated)} if str(weights.stated) else {}
    classes = foreign.classes or number_outputs(model.config.classes)
    preprocess = adapt_preprocess(replace(foreign.preprocess, size=tuple(model.config.image)), model.config.channels)
    multilabel = weights.config.get("problem_type") == MULTI_LABEL
    folder = ModelFolder(model.eval(), preprocess, DecodeConfig(), classes, origin, foreign.resize, multilabel)
    folder, changes = adapt(folder, options)
    report = Report(
        source=str(weights.path),
        origin=f"{family.name}: {family.title}",
        model=describe(folder.model.config),
        mapped=len(mapped.tensors) - len(new),
        resized=changes.resized,
        channels=changes.channels,
        head=changes.head or describe_head(model, new),
        new=tuple(new),
        unused=tuple(unused),
        ignored=len(ignored) + len(weights.aside),
        beside=group_names((*ignored, *weights.aside)),
        assumed=foreign.assumed,
        notes=(*weights.notes, *describe_told(weights), *describe_cost(unused, mapped.used, new)),
    )
    return folder, report


def finish_tensor(where: str, maps: Sequence[FileMap], made: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Widen a tensor to float32, and release the pages that it was read from.

    Tensors of a mapped file that need no change stay mapped; everything else is copied, once.

    Raises:
        CheckpointError: the tensor holds no real numbers, as in a quantised model.
    """
    if not made.is_floating_point():
        shape = "x".join(map(str, made.shape)) or "one value"
        raise CheckpointError(f"{where} has weights of {made.dtype} (shape {shape}), but vitreous reads only floats")
    whole = made.float().contiguous()
    release_pages(sources, maps)
    return whole


def describe_head(model: Model, new: Sequence[str]) -> str:
    """Describe the origin of the head."""
    if not model.config.classes:
        return "none"
    return "new" if any(name.startswith("head.") and name != "head.bias" for name in new) else "kept"


def interpret_weights(family: Family, weights: Weights, variant: str | None) -> ForeignModel:
    """Let a family read weights.

    Raises:
        CheckpointError: their shapes, or the files next to them, make no sense for it.
    """
    try:
        return family.interpret(weights, variant)
    except UserError:
        raise
    except SENSELESS as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise CheckpointError(
            f"{weights.path} has the names of {family.title}, but its shapes or the configuration next to it make no sense "
            f"({reason})"
        ) from error


def check_told(foreign: ForeignModel, weights: Weights) -> None:
    """Raise ConfigError for statements of the user that contradict the file."""
    config, told = foreign.model, weights.stated
    if told == StatedFacts():
        return
    if not isinstance(config, ViTConfig):
        raise ConfigError(
            f"--grid and --heads are for ViTs, but {weights.path} holds {describe(config)}; leave them out"
        )
    if told.grid is not None and Size(*told.grid) != config.grid:
        raise ConfigError(
            f"--grid {told.grid[0]} {told.grid[1]}, but {weights.path} states that its grid is {config.grid}; leave it out "
            "(--image ROWS COLS changes the size that the model sees)"
        )
    if told.heads is not None and told.heads != config.heads:
        raise ConfigError(f"--heads {told.heads}, but {weights.path} states that it has {config.heads}; leave it out")


def describe_told(weights: Weights) -> Notes:
    """Return the user's statements about the file, for the report."""
    return (f"{weights.stated}, as you say",) if weights.stated != StatedFacts() else ()


def check_images(images: PreprocessConfig, channels: int, where: str) -> None:
    """Refuse impossible preprocessing before the weights are read.

    Raises:
        CheckpointError: mean or deviation aren't finite numbers or are too few, a deviation is nearly zero or less, or
            the crop is impossible.
    """
    for name, values in (("mean", images.mean), ("deviation", images.std)):
        sound = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        least = LEAST_DEVIATION if name == "deviation" else -math.inf
        sound = sound and all(math.isfinite(value) and value > least for value in values)
        if not sound or len(values) not in (1, 3, channels):
            raise CheckpointError(
                f"the configuration next to {where} gives the {name} of images as {str(list(values))[:80]}; "
                f"expected one finite number{f' above {least:g}' if name == 'deviation' else ''}, or one per channel"
            )
    if not LEAST_CROP <= images.crop <= 1:
        raise CheckpointError(
            f"the configuration next to {where} keeps {images.crop:g} of an image's side; expected {LEAST_CROP:g} to 1"
        )


def describe_images(foreign: ForeignModel, weights: Weights) -> Notes:
    """Describe how the images' preprocessing differs from the configuration: an unsupported kernel, other channels."""
    images, channels = foreign.preprocess, foreign.model.channels
    config = weights.config.get("pretrained_cfg") or weights.config.get("preprocess_cfg") or weights.config
    kernel = config.get("interpolation") if isinstance(config, dict) else None
    notes = []
    if isinstance(kernel, str) and kernel != images.interpolation:
        notes.append(
            f"images resized by the {images.interpolation} kernel; the original one ({kernel[:40]}) isn't supported"
        )
    if channels > 1 and any(len(values) not in (1, channels) for values in (images.mean, images.std)):
        notes.append(f"mean and deviation of each of the {channels} channels: the average of the given ones")
    return tuple(notes)


def choose_family(weights: Weights, name: str | None) -> tuple[Family, str | None]:
    """Return the family and the variant: from the user, or recognised."""
    if name is None:
        return recognise(weights), None
    family, _, variant = name.partition(":")
    known = list_families()
    owners = [one for one in known.values() if family in one.variants]
    fitting = [one for one in owners if one.recognise(weights) > 0]
    if fitting or family not in known:  # a variant may have a family's name: google's npz as timm reads them
        owners = fitting or owners
        if len(owners) != 1:
            raise UnknownName("family", family, known)
        return owners[0], family
    return known[family], variant or None


def refuse_shapes(mapped: Mapped, model: Model, foreign: ForeignModel, where: str) -> None:
    """Raise CheckpointError for tensors with other shapes than the model needs."""
    expected = model.state_dict()
    wrong = [
        f"{name} is {'x'.join(map(str, tensor.shape))}, expected {'x'.join(map(str, expected[name].shape))}"
        for name, tensor in mapped.tensors.items()
        if tensor.shape != expected[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{where} doesn't fit {describe(foreign.model)}: {'; '.join(wrong[:3])}")
