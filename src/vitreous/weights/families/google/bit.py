"""BiT's ResNets: Google's npz files (big_transfer) and timm's `resnetv2_*_bit` (timm/models/resnetv2.py)."""

from dataclasses import replace
from typing import Any

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.model.resnet_config import BIT_EPSILONS, GROUPS, ROOT, UNITS, ResNetConfig
from vitreous.weights.families.base import HALF, Family, ForeignModel, get_shape, has_tensor
from vitreous.weights.families.google.stem import KERNEL
from vitreous.weights.families.timm.arguments import read_classes, read_images, refuse_others
from vitreous.weights.families.timm.transform import has_transform, read_transform
from vitreous.weights.families.timm.vit import name_architecture
from vitreous.weights.families.timm.write import build_document, build_transform
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Layout, Rule, Table, count_units, dense_rules
from vitreous.weights.model_folder import ModelFolder

HEAD = Layout(lambda tensor: tensor.flatten(1), lambda tensor: tensor[:, :, None, None])
"""A head as a convolution: (label, feature, 1, 1) for our (label, feature)."""
FLAX_HEAD = Layout(lambda tensor: tensor.flatten(0, 2).mT, lambda tensor: tensor.mT[None, None])
"""(1, 1, feature, label) for our (label, feature)."""
SQUASHED = "images of 224 pixels, squashed to a square, bilinear; mean and deviation 0.5"


def build_config(kernel: tuple[int, int], units: tuple[int, ...], classes: int, image: tuple[int, int]) -> ResNetConfig:
    """Return the architecture; `kernel` is the first convolution's outputs and inputs."""
    outputs, channels = kernel
    return ResNetConfig(image, channels, units, max(1, outputs // ROOT), classes)


def build_preprocess(config: ResNetConfig) -> PreprocessConfig:
    """Return the authors' transform of images for evaluation, at the model's resolution."""
    return PreprocessConfig(
        size=config.image, resize="squash", rounding="torchvision", crop=1.0, interpolation="bilinear", **HALF
    )


UNIT = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("norm3", "norm3"),
    ("conv3", "conv3"),
    ("project", "downsample.conv"),
)
"""Parts of a unit: ours and timm's."""
TIMM_MARKS = ("stem.conv.weight", "stages.0.blocks.0.conv3.weight", "stages.0.blocks.0.norm3.weight", "norm.weight")
ELSEWHERE = r"running_mean|^stem\.norm|downsample\.norm|\.se\."
"""Names that timm's other ResNets have."""
READ = ("in_chans", "num_classes", "global_pool")
"""Arguments of timm's constructor that tensors show, or that have one possible value here."""
TIMM_NAMES = {(UNITS[layers], width): f"resnetv2_{layers}x{width}_bit" for layers in (50, 101) for width in (1, 3)}
TIMM_NAMES |= {(UNITS[152], width): f"resnetv2_152x{width}_bit" for width in (2, 4)}


def timm_table(config: ResNetConfig) -> Table:
    """Return timm's rules."""
    rules = [
        *dense_rules("root.conv", "stem.conv"),
        *dense_rules("norm", "norm"),
        *dense_rules("head", "head.fc", HEAD),
    ]
    for stage, count in enumerate(config.units):
        for unit in range(count):
            for ours, theirs in UNIT:
                rules += dense_rules(f"stages.{stage}.{unit}.{ours}", f"stages.{stage}.blocks.{unit}.{theirs}")
    return rules


def recognise_timm(weights: Weights) -> float:
    """timm's names; certain if a config.json names an architecture."""
    tensors = weights.tensors
    if not all(name in tensors for name in TIMM_MARKS) or has_tensor(tensors, ELSEWHERE):
        return 0.0
    return 2.0 if "architecture" in weights.config else 1.0


def interpret_timm(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes, the preprocessing from config.json."""
    tensors, where = weights.tensors, str(weights.path)
    architecture = name_architecture(weights, name)
    if architecture and "_bit" not in architecture:
        raise CheckpointError(f"{where}: {architecture} is not one of BiT's ResNets, which alone vitreous builds")
    refuse_others(weights, READ, "a ResNet of BiT")
    outputs, channels, *_ = get_shape(tensors, "stem.conv.weight", where)
    config = build_config(
        (outputs, channels),
        count_units(tensors, r"stages\.{stage}\.blocks\.{unit}\."),
        tensors["head.fc.weight"].shape[0] if "head.fc.weight" in tensors else 0,
        read_images(weights) or (224, 224),
    )
    images, assumed = read_transform(weights, build_preprocess(config)), () if has_transform(weights) else (SQUASHED,)
    return ForeignModel(config, images, DEFAULT_RULE, tensors, assumed, read_classes(weights, config.classes))


def explain_unwritable(config: ResNetConfig) -> str | None:
    """Say what BiT's files can't express, if anything."""
    if config.norm != "group":
        return f"BiT's ResNets have group norm, not {config.norm} norm"
    if config.unit != "bottleneck" or config.groups != GROUPS:
        return (
            f"BiT's ResNets have bottleneck units with norms of {GROUPS} groups, not {config.unit} ones with "
            f"{config.groups}"
        )
    if config.activation != "relu":
        return f"BiT's ResNets have ReLU after their norms, not {config.activation.upper()}"
    if (config.root, config.root_channels) != ("7x7", ROOT):
        return f"BiT's ResNets have a root of 7x7 and {ROOT} channels, not {config.root} and {config.root_channels}"
    if config.stage_channels:
        return f"the channels of BiT's ResNets double from stage to stage; here they are {config.stage_channels}"
    return None


def explain_unwritable_timm(config: ResNetConfig) -> str | None:
    """Say what timm can't express, if anything."""
    if (config.units, config.width) in TIMM_NAMES:
        return explain_unwritable(config)
    return f"timm has only {', '.join(TIMM_NAMES.values())}"


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return config.json, as `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it."""
    config = folder.model.config
    assert isinstance(config, ResNetConfig)
    transform = build_transform(config, folder.preprocess, "stem.conv", "head.fc")
    name = TIMM_NAMES[config.units, config.width]
    return build_document(folder, name, config.features, transform, {"global_pool": "avg"})


ROOM = "resnet/"
"""The prefix of all of Google's names."""
CONV = "standardized_conv2d/kernel"
ENTRY = f"{ROOM}root_block/{CONV}"


def google_table(config: ResNetConfig) -> Table:
    """Return the rules of Google's names."""
    rules = [
        Rule("root.conv.weight", (ENTRY,), KERNEL),
        *google_norm("norm", ROOM),
        Rule("head.weight", (f"{ROOM}head/conv2d/kernel",), FLAX_HEAD),
        Rule("head.bias", (f"{ROOM}head/conv2d/bias",)),
    ]
    for stage, count in enumerate(config.units):
        for unit in range(count):
            ours, theirs = f"stages.{stage}.{unit}", f"{ROOM}block{stage + 1}/unit{unit + 1:02d}"
            rules.append(Rule(f"{ours}.project.weight", (f"{theirs}/a/proj/{CONV}",), KERNEL))
            for number, letter in enumerate("abc", start=1):
                rules += google_norm(f"{ours}.norm{number}", f"{theirs}/{letter}/")
                rules.append(Rule(f"{ours}.conv{number}.weight", (f"{theirs}/{letter}/{CONV}",), KERNEL))
    return rules


def google_norm(ours: str, theirs: str) -> list[Rule]:
    """Return the rules of a group norm."""
    names = (("weight", "gamma"), ("bias", "beta"))
    return [Rule(f"{ours}.{own}", (f"{theirs}group_norm/{other}",)) for own, other in names]


def recognise_google(weights: Weights) -> float:
    """big_transfer's names."""
    return 1.0 if ENTRY in weights.tensors and f"{ROOM}group_norm/gamma" in weights.tensors else 0.0


def interpret_google(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture; the file says nothing about images."""
    tensors = weights.tensors
    *_, channels, outputs = get_shape(tensors, ENTRY, str(weights.path))
    head = tensors.get(f"{ROOM}head/conv2d/kernel")
    units = count_units(tensors, f"{ROOM}block{{stage}}/unit{{unit}}/", first=1)
    config = build_config((outputs, channels), units, 0 if head is None else head.shape[-1], (224, 224))
    if name != "timm":
        config = replace(config, epsilons=BIT_EPSILONS)
    return ForeignModel(
        config, build_preprocess(config), DEFAULT_RULE, tensors, (SQUASHED, f"epsilons: {config.epsilons}")
    )


VARIANTS = {
    "authors": "kernels standardised with an epsilon of 1e-10, as by the authors' code",
    "timm": "kernels standardised with an epsilon of 1e-8, as timm computes the same files",
}
FAMILY = Family(
    "bit",
    "google-research/big_transfer npz",
    recognise_google,
    interpret_google,
    google_table,
    VARIANTS,
    explain_unwritable,
    container="npz",
    kind="resnet",
)
TIMM_FAMILY = Family(
    "timm-bit",
    "timm (resnetv2_*_bit)",
    recognise_timm,
    interpret_timm,
    timm_table,
    unwritable=explain_unwritable_timm,
    sidecars=sidecars,
    kind="resnet",
)
