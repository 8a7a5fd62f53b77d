"""EfficientNets in other code bases' files: what timm's and transformers' have in common."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.efficientnet_config import EfficientNetConfig, plan_efficientnet
from vitreous.weights.families.base import get_shape
from vitreous.weights.mapping import Rule, Table, dense_rules

COUNTED = (r"num_batches_tracked$",)
"""torch's batch norms count their batches, which no output depends on."""
STRIDES = EfficientNetConfig.strides
"""Of every published EfficientNet; no tensor shows them."""
STATISTICS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class UnitNames:
    """The names of a unit's layers, each without the suffix of its tensors."""

    expand: tuple[str, str]
    """Convolution and norm."""
    depthwise: tuple[str, str]
    squeeze: str
    excite: str
    contract: tuple[str, str]


@dataclass(frozen=True)
class Names:
    """The names of layers in a code base's files."""

    root: tuple[str, str]
    last: tuple[str, str]
    head: str
    unit: Callable[[int, int, int, bool], UnitNames]
    """From a unit's stage, its number there and over all stages, and whether it expands."""


def build_table(config: EfficientNetConfig, names: Names) -> Table:
    """Return the rules."""
    rules = [
        *list_normed_rules("root", names.root),
        *list_normed_rules("norm", names.last),
        *dense_rules("head", names.head),
    ]
    number = 0
    for place, stage in enumerate(plan_efficientnet(config)):
        for index, unit in enumerate(stage):
            ours = f"stages.{place}.{index}"
            theirs = names.unit(place, index, number, unit.inner != unit.inputs)
            rules += list_normed_rules(f"{ours}.expand", theirs.expand)
            rules += list_normed_rules(f"{ours}.depthwise", theirs.depthwise)
            rules += dense_rules(f"{ours}.excitation.squeeze", theirs.squeeze)
            rules += dense_rules(f"{ours}.excitation.excite", theirs.excite)
            rules += list_normed_rules(f"{ours}.contract", theirs.contract)
            number += 1
    return rules


def list_normed_rules(ours: str, theirs: tuple[str, str]) -> list[Rule]:
    """Return the rules of a convolution and its norm."""
    conv, norm = theirs
    return [
        Rule(f"{ours}.conv.weight", (f"{conv}.weight",)),
        *(Rule(f"{ours}.norm.{name}", (f"{norm}.{name}",)) for name in STATISTICS),
    ]


def read_shape(
    tensors: Mapping[str, Tensor], names: Names, units: Iterable[int], stated: EfficientNetConfig, where: str
) -> EfficientNetConfig:
    """Read the architecture from the shapes of tensors.

    Args:
        tensors: theirs, by name.
        names: of their layers.
        units: of each stage.
        stated: what no tensor shows: the images, padding, and epsilon and momentum of batch norms.
        where: the file, for messages.

    Raises:
        CheckpointError: the stages are not seven, or excitation is not computed from a quarter of a unit's input.
    """
    units = tuple(units)
    if len(units) != len(STRIDES):
        raise CheckpointError(
            f"{where} has units in {len(units)} stages; vitreous reads EfficientNets of {len(STRIDES)} (B0 to B8, L2)"
        )
    root, channels, *_ = get_shape(tensors, f"{names.root[0]}.weight", where)
    inputs, number, widths, kernels, expansions = root, 0, [], [], []
    for place, count in enumerate(units):
        first = names.unit(place, 0, number, True)
        expands = f"{first.expand[1]}.running_mean" in tensors and f"{first.contract[1]}.running_mean" in tensors
        unit = names.unit(place, 0, number, expands)
        inner, _, kernel, _ = get_shape(tensors, f"{unit.depthwise[0]}.weight", where)
        squeezed = get_shape(tensors, f"{unit.squeeze}.weight", where)[0]
        if squeezed != max(1, inputs // EfficientNetConfig.squeeze):
            raise CheckpointError(
                f"{where}: excitation in stage {place} is computed from {squeezed} channels, but an EfficientNet's from a quarter "
                f"of {inputs}"
            )
        widths.append(get_shape(tensors, f"{unit.contract[0]}.weight", where)[0])
        kernels.append(kernel)
        expansions.append(inner // inputs)
        inputs, number = widths[-1], number + count
    head = tensors.get(f"{names.head}.weight")
    return replace(
        stated,
        channels=channels,
        root_channels=root,
        units=units,
        widths=tuple(widths),
        kernels=tuple(kernels),
        strides=STRIDES,
        expansions=tuple(expansions),
        last_channels=get_shape(tensors, f"{names.last[0]}.weight", where)[0],
        classes=0 if head is None else head.shape[0],
    )


def explain_unlike(config: EfficientNetConfig) -> str | None:
    """Say what no other code base's EfficientNet has, if anything."""
    if config.strides != STRIDES:
        return f"the strides of its stages are {config.strides}, but in every published EfficientNet {STRIDES}"
    if config.squeeze != EfficientNetConfig.squeeze:
        return f"its squeeze is {config.squeeze}, but in every published EfficientNet {EfficientNetConfig.squeeze}"
    return None
