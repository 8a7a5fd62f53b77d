"""Weights of other code bases into our model: recognised, mapped, resized, and every change told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from torch import Tensor

from vitreous.checkpoints.family import Family, Reading
from vitreous.checkpoints.fit import check_finite, describe
from vitreous.checkpoints.folder import ModelFolder
from vitreous.checkpoints.mapped import FileMap, release
from vitreous.checkpoints.mapping import Mapped, read
from vitreous.checkpoints.weights import Weights, read_weights
from vitreous.errors import CheckpointError, UnknownName, UserError
from vitreous.images.config import DecodeConfig
from vitreous.model.kinds import Model, create, empty
from vitreous.model.vit import ViT
from vitreous.shapes import Size

MODULES = ("timm", "timm_eva", "google", "hf_vit", "hf_dino", "hf_clip", "meta", "openclip", "torchvision", "bit")
ALLOWED = ("missing", "unused")


@dataclass(frozen=True)
class Report:
    """What became of somebody's weights on their way into our model."""

    source: str
    origin: str
    """The family, and who writes such files."""
    model: str
    mapped: int
    """Tensors of ours that were made from theirs."""
    resized: str = ""
    """Position grid: from, to, rule; empty where it stayed."""
    head: str = "kept"
    """kept, sliced, new or none."""
    new: tuple[str, ...] = ()
    """Tensors of ours that were initialised, since theirs has none."""
    unused: tuple[str, ...] = ()
    """Tensors of theirs that have no place in our model."""
    ignored: int = 0
    """Tensors of theirs that belong to something else, such as a text tower."""
    assumed: tuple[str, ...] = ()
    """What the file didn't tell."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"source      {self.source}", f"origin      {self.origin}", f"model       {self.model}"]
        lines.append(
            f"tensors     {self.mapped} mapped, {len(self.new)} new, {len(self.unused)} unused, {self.ignored} ignored"
        )
        lines += [f"positions   {self.resized}"] if self.resized else []
        lines.append(f"head        {self.head}")
        lines += [f"new         {name}" for name in self.new[:10]]
        lines += [f"unused      {name}" for name in self.unused[:10]]
        lines += [f"assumed     {note}" for note in self.assumed]
        return "\n".join([*lines, *(f"note        {note}" for note in self.notes)])


@dataclass(frozen=True)
class Wish:
    """How weights are to be taken."""

    family: str | None = None
    """The family, or family:variant; None: recognised (--as)."""
    image: tuple[int, int] | None = None
    """Rows and columns of images that the model shall see; None: those of the file."""
    rule: str | None = None
    """How the position grid is resized; None: as its origin does."""
    allow: tuple[str, ...] = field(default=())
    """What may differ: missing (tensors of ours that theirs lacks), unused (theirs that ours lacks)."""


def families() -> dict[str, Family]:
    """Return every family by name."""
    found = {}
    for name in MODULES:
        module = import_module(f"vitreous.checkpoints.families.{name}")
        found |= {value.name: value for value in vars(module).values() if isinstance(value, Family)}
    return found


def recognise(weights: Weights) -> Family:
    """Return the family that weights belong to.

    Raises:
        CheckpointError: no family fits, or two fit equally well.
    """
    scores = {family.name: family.recognise(weights) for family in families().values()}
    best = max(scores.values())
    if best <= 0:
        some = ", ".join(list(weights.tensors)[:4])
        raise CheckpointError(
            f"{weights.path} is of no family that vitreous knows ({', '.join(scores)}); it has {len(weights.tensors)} tensors, "
            f"such as {some}"
        )
    fitting = [name for name, score in scores.items() if score == best]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{weights.path} fits {' and '.join(fitting)} equally well; say which with --as {fitting[0]}"
        )
    return families()[fitting[0]]


def load_foreign(path: str | Path, wish: Wish = Wish()) -> tuple[ModelFolder, Report]:
    """Read somebody's weights into our model.

    Raises:
        CheckpointError: damaged, hostile or unknown weights, or tensors that don't fit and weren't allowed to differ.
        ConfigError: a wish that can't be met.
    """
    for name in wish.allow:
        if name not in ALLOWED:
            raise UnknownName("difference to allow", name, ALLOWED)
    weights = read_weights(path)
    family, variant = chosen(weights, wish.family)
    reading = understood(family, weights, variant)
    model, theirs = empty(reading.model), dict(reading.tensors)
    ignored = [name for name in theirs if any(re.search(pattern, name) for pattern in reading.ignored)]
    given, finish = list(theirs), partial(finished, weights.maps)
    reading = replace(reading, tensors={})  # what was used is let go while the next is made
    weights.tensors.clear()
    mapped = read(family.table(reading.model), theirs, model.state_dict(), reading.model.depth, finish)
    new = refuse_gaps(mapped, model, reading, wish, str(weights.path))
    unused = [name for name in given if name not in mapped.used and name not in ignored]
    if unused and "unused" not in wish.allow:
        raise CheckpointError(
            f"{weights.path}: {len(unused)} tensors have no place in {describe(reading.model)}: {', '.join(unused[:3])}"
            f"{' ...' if len(unused) > 3 else ''}; if they don't matter, use --allow unused"
        )
    check_finite(mapped.tensors, str(weights.path), weights.maps)
    model.load_state_dict(mapped.tensors, strict=False, assign=True)
    model = placed(model.eval(), reading, wish)
    resized = moved(reading, model, wish.rule or reading.resize)
    origin = {"family": family.name, "file": weights.path.name, "assumed": list(reading.assumed)}
    preprocess = replace(reading.preprocess, size=tuple(model.config.image))
    classes = reading.classes or tuple(f"class {number}" for number in range(model.config.classes))
    folder = ModelFolder(model, preprocess, DecodeConfig(), classes, origin, wish.rule or reading.resize)
    report = Report(
        source=str(weights.path),
        origin=f"{family.name}: {family.title}",
        model=describe(model.config),
        mapped=len(mapped.tensors) - len(new),
        resized=resized,
        head="kept" if model.config.classes else "none",
        new=tuple(new),
        unused=tuple(unused),
        ignored=len(ignored),
        assumed=reading.assumed,
        notes=weights.notes,
    )
    return folder, report


def finished(maps: Sequence[FileMap], made: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Widen a tensor to float32, and give back the pages that it was read from.

    What a mapped file holds as it is needed stays mapped; everything else is copied, once.
    """
    whole = made.float().contiguous()
    release(sources, maps)
    return whole


def moved(reading: Reading, model: Model, rule: str) -> str:
    """Say from which position grid to which, and how; nothing where there is no grid, or it stayed."""
    if not isinstance(model, ViT) or model.config.image == reading.model.image:
        return ""
    learned = model.config.positions in ("learned", "learned2d", "relative", "bias")
    return f"{reading.model.grid} -> {model.config.grid} by {rule if learned else 'their formula'}"


def understood(family: Family, weights: Weights, variant: str | None) -> Reading:
    """Let a family read weights.

    Raises:
        CheckpointError: their shapes, or what lies beside them, make no sense to it.
    """
    try:
        return family.interpret(weights, variant)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise CheckpointError(
            f"{weights.path} has the names of {family.title}, but its shapes or the configuration beside it make no sense "
            f"({reason})"
        ) from error


def chosen(weights: Weights, name: str | None) -> tuple[Family, str | None]:
    """Return the family and the variant: as the user says, or recognised."""
    if name is None:
        return recognise(weights), None
    family, _, variant = name.partition(":")
    known = families()
    owners = [one for one in known.values() if family in one.variants]
    fitting = [one for one in owners if one.recognise(weights) > 0]
    if fitting or family not in known:  # a variant may have a family's name: google's npz read as timm reads them
        owners = fitting or owners
        if len(owners) != 1:
            raise UnknownName("family", family, known)
        return owners[0], family
    return known[family], variant or None


def refuse_gaps(mapped: Mapped, model: Model, reading: Reading, wish: Wish, where: str) -> list[str]:
    """Check shapes and completeness; fill what may be missing; return the names that are new."""
    expected = model.state_dict()
    wrong = [
        f"{name} is {'x'.join(map(str, tensor.shape))}, expected {'x'.join(map(str, expected[name].shape))}"
        for name, tensor in mapped.tensors.items()
        if tensor.shape != expected[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{where} doesn't fit {describe(reading.model)}: {'; '.join(wrong[:3])}")
    if not mapped.missing:
        return []
    if "missing" not in wish.allow:
        name, looked = next(iter(mapped.missing.items()))
        raise CheckpointError(
            f"{where} lacks {len(mapped.missing)} tensors that {describe(reading.model)} needs, such as {name} "
            f"({' + '.join(looked) or 'no rule'}); to initialise them instead, use --allow missing"
        )
    fresh = create(reading.model).state_dict()
    mapped.tensors |= {name: fresh[name] for name in mapped.missing}
    return list(mapped.missing)


def placed(model: Model, reading: Reading, wish: Wish) -> Model:
    """Resize the model to the wished resolution, by its origin's rule."""
    if wish.image is None or tuple(wish.image) == tuple(model.config.image):
        return model
    return model.resized(Size(*wish.image), wish.rule or reading.resize)
