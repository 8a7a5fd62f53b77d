"""BiT's ResNets as big_transfer's own PyTorch code saves them (google-research/big_transfer, bit_pytorch/models.py)."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.model.resnet_config import BIT_EPSILONS, ResNetConfig
from vitreous.weights.families.base import Family, ForeignModel, get_shape
from vitreous.weights.families.google.bit import HEAD, SQUASHED, build_config, build_preprocess
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table, count_units, dense_rules

BODY = r"body\.block{stage}\.unit{unit}\."
PARTS = (
    ("norm1", "gn1"),
    ("conv1", "conv1"),
    ("norm2", "gn2"),
    ("conv2", "conv2"),
    ("norm3", "gn3"),
    ("conv3", "conv3"),
)
MARKS = ("root.conv.weight", "head.gn.weight", "body.block1.unit01.gn1.weight")


def table(config: ResNetConfig) -> Table:
    """Return the rules. Numbers of blocks and units are counted from 1, units in two digits."""
    rules = [
        *dense_rules("root.conv", "root.conv"),
        *dense_rules("norm", "head.gn"),
        *dense_rules("head", "head.conv", HEAD),
    ]
    for stage, count in enumerate(config.units):
        for unit in range(count):
            ours, theirs = f"stages.{stage}.{unit}", f"body.block{stage + 1}.unit{unit + 1:02d}"
            rules.append(Rule(f"{ours}.project.weight", (f"{theirs}.downsample.weight",)))
            for own, other in PARTS:
                rules += dense_rules(f"{ours}.{own}", f"{theirs}.{other}")
    return rules


def recognise(weights: Weights) -> float:
    """bit_pytorch's names."""
    return 1.0 if all(name in weights.tensors for name in MARKS) else 0.0


def count_classes(tensors: Mapping[str, Tensor]) -> int:
    """Return the outputs of the head."""
    return tensors["head.conv.weight"].shape[0] if "head.conv.weight" in tensors else 0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture; the file says nothing about images."""
    tensors = dict(weights.tensors)
    outputs, channels, *_ = get_shape(tensors, "root.conv.weight", str(weights.path))
    units = count_units(tensors, BODY, first=1)
    config = build_config((outputs, channels), units, count_classes(tensors), (224, 224))
    config = replace(config, epsilons=BIT_EPSILONS)
    return ForeignModel(config, build_preprocess(config), DEFAULT_RULE, tensors, (SQUASHED,))


FAMILY = Family("bit-pytorch", "google-research/big_transfer (bit_pytorch)", recognise, interpret, table, kind="resnet")
