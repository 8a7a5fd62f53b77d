"""DINOv2's and DINOv3's classifiers as facebookresearch's hub builds them (`dinov2_*_lc`, `dinov3_*_lc`): backbone.*, linear_head.*.

The head reads [class] of the last block, or of the last four, and the mean over the patches.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.weights.families import meta
from vitreous.weights.families.base import Family, ForeignModel
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table, dense_rules

BACKBONE, HEAD = "backbone.", "linear_head"


def read_backbone(weights: Weights) -> Weights:
    """Return the backbone alone."""
    inside = {name.removeprefix(BACKBONE): one for name, one in weights.tensors.items() if name.startswith(BACKBONE)}
    return replace(weights, tensors=inside)


def find_family(weights: Weights) -> Family | None:
    """Return the family of the backbone, if the file is one of these."""
    if f"{HEAD}.weight" not in weights.tensors:
        return None
    inside = read_backbone(weights)
    found = (family for family in (meta.DINOV2_FAMILY, meta.DINOV3_FAMILY) if family.recognise(inside) > 0)
    return next(found, None)


def recognise(family: Family, weights: Weights) -> float:
    """The backbone of that family beside a linear head; more certain than either alone."""
    return 2.5 if find_family(weights) is family else 0.0


def interpret(family: Family, weights: Weights, name: str | None) -> ForeignModel:
    """Read the backbone as its family does, and the head by its width.

    Raises:
        CheckpointError: a head that reads anything but some [class] tokens and a mean.
    """
    found = family.interpret(read_backbone(weights), name)
    config = found.model
    assert isinstance(config, ViTConfig)
    classes, inputs = weights.tensors[f"{HEAD}.weight"].shape
    layers, rest = divmod(inputs, config.width)
    if rest or layers < 2 or layers - 1 > config.depth:
        raise CheckpointError(
            f"{weights.path}: its linear head reads {inputs} values; expected a multiple of the width {config.width}: [class] of "
            "one or more blocks, and the mean over the patches"
        )
    config = replace(config, classes=classes, pool="class+mean", pool_layers=layers - 1)
    own = {name: one for name, one in weights.tensors.items() if not name.startswith(BACKBONE)}
    tensors: Mapping[str, Tensor] = {**found.tensors, **own}
    notes = (f"[class] of the last {layers - 1} blocks, as the width of the head tells",) if layers > 2 else ()
    return replace(found, model=config, tensors=tensors, assumed=(*found.assumed, *notes))


def table2(config: ViTConfig) -> Table:
    """Return the rules of DINOv2's backbones and their head."""
    return [*meta.dinov2_table(config), *dense_rules("head", HEAD)]


def table3(config: ViTConfig) -> Table:
    """Return the rules of DINOv3's backbones and their head."""
    return [*meta.dinov3_table(config), *dense_rules("head", HEAD)]


DINOV2 = Family(
    "dinov2-linear",
    "facebookresearch/dinov2, a linear head on [class] and patches",
    lambda weights: recognise(meta.DINOV2_FAMILY, weights),
    lambda weights, name: interpret(meta.DINOV2_FAMILY, weights, name),
    table2,
)
DINOV3 = Family(
    "dinov3-linear",
    "facebookresearch/dinov3, a linear head on [class] and patches",
    lambda weights: recognise(meta.DINOV3_FAMILY, weights),
    lambda weights, name: interpret(meta.DINOV3_FAMILY, weights, name),
    table3,
)
