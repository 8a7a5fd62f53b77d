"""Swin Transformers of both versions: what their files have in common, and those of microsoft/Swin-Transformer and torchvision."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.positions.offset_bias import OffsetBias
from vitreous.model.positions.relative import index_offsets
from vitreous.model.swin_config import SwinConfig, Windows, fit_windows
from vitreous.shapes import Size
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel, count_places, find_square, get_shape
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Layout, Rule, Table, convolution_rules, dense_rules

CONSTANTS = (r"relative_position_index$", r"relative_coords_table$", r"attn_mask$", r"^mask_token$", r"\.mask_token$")
"""Constants that their constructors make anew, and the token of masked pre-training."""
RESIZE = "bicubic"
"""How the authors' code resizes tables of offsets."""


@dataclass(frozen=True)
class Names:
    """A code base's names of a Swin Transformer's layers."""

    patches: str
    patches_norm: str
    block: Callable[[int, int], str]
    """Of a block, by stage and number."""
    merge: Callable[[int], str]
    """Of the merging into a stage."""
    norm: str = "norm"
    head: str = "head"
    attention_norm: str = "norm1"
    mlp_norm: str = "norm2"
    qkv: tuple[str, ...] = ("attn.qkv",)
    """One layer, or those of q, k and v."""
    out: str = "attn.proj"
    expand: str = "mlp.fc1"
    contract: str = "mlp.fc2"
    table: str = "attn.relative_position_bias_table"
    scale: str = "attn.logit_scale"
    biases: str = "attn.cpb_mlp"
    key_bias: bool = False
    """Version 2: whether the bias of q, k and v is one tensor, with zeros for k."""

    def count_blocks(self, tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Count the blocks of each stage."""
        found: list[int] = []
        while f"{self.block(len(found), 0)}.{self.out}.weight" in tensors:
            count = 1
            while f"{self.block(len(found), count)}.{self.out}.weight" in tensors:
                count += 1
            found.append(count)
        return tuple(found)


SHIFTED_KEY = Layout(lambda tensor: tensor, lambda tensor: torch.cat([tensor, torch.zeros_like(tensor)]))
"""The first of three biases, with zeros for the second where it is written."""


def build_table(config: SwinConfig, names: Names) -> Table:
    """Return the rules of a code base's names."""
    rules = [
        Rule("patches.embed.weight", (f"{names.patches}.weight",), convolution_rules(config.front)),
        Rule("patches.embed.bias", (f"{names.patches}.bias",)),
        *dense_rules("patches.norm", names.patches_norm),
        *dense_rules("norm", names.norm),
        *dense_rules("head", names.head),
    ]
    for stage, depth in enumerate(config.depths):
        if stage:
            merge = names.merge(stage)
            rules += [Rule(f"stages.{stage}.merge.reduce.weight", (f"{merge}.reduction.weight",))]
            rules += dense_rules(f"stages.{stage}.merge.norm", f"{merge}.norm")
        for block in range(depth):
            rules += build_block_rules(f"stages.{stage}.blocks.{block}", names.block(stage, block), names, config)
    return rules


def build_block_rules(ours: str, theirs: str, names: Names, config: SwinConfig) -> list[Rule]:
    """Return the rules of one block."""
    attention = f"{ours}.attention"
    layers = tuple(f"{theirs}.{name}" for name in names.qkv)
    rules = [Rule(f"{attention}.qkv.weight", tuple(f"{name}.weight" for name in layers))]
    if config.version == "v1":
        rules += [Rule(f"{attention}.qkv.bias", tuple(f"{name}.bias" for name in layers))]
        rules += [Rule(f"{attention}.relative.table", (f"{theirs}.{names.table}",))]
    else:
        if names.key_bias:
            bias = (f"{layers[0]}.bias",)
            rules += [Rule(f"{attention}.q_bias", bias, SHIFTED_KEY, part=(0, 1, 3))]
            rules += [Rule(f"{attention}.v_bias", bias, part=(2, 3, 3))]
        elif len(layers) == 1:
            whose = layers[0].removesuffix(".qkv")
            rules += [Rule(f"{attention}.{part}_bias", (f"{whose}.{part}_bias",)) for part in "qv"]
        else:
            rules += [Rule(f"{attention}.{part}_bias", (f"{layers[at]}.bias",)) for part, at in (("q", 0), ("v", 2))]
        rules += [Rule(f"{attention}.q_norm.log_scale", (f"{theirs}.{names.scale}",))]
        rules += dense_rules(f"{attention}.relative.expand", f"{theirs}.{names.biases}.0")
        rules += [Rule(f"{attention}.relative.contract.weight", (f"{theirs}.{names.biases}.2.weight",))]
    for own, other in (
        ("attention_norm", names.attention_norm), ("attention.out", names.out), ("mlp_norm", names.mlp_norm),
        ("mlp.expand", names.expand), ("mlp.contract", names.contract),
    ):  # fmt: skip
        rules += dense_rules(f"{ours}.{own}", f"{theirs}.{other}")
    return rules


@dataclass(frozen=True)
class StatedShape:
    """What lies beside a file about the sizes that its tensors don't show."""

    image: tuple[int, int] | None = None
    windows: Windows = ()
    """Of each stage, before they are cut to the stage's map; or one for all."""
    trained: Windows = ()


def read_config(weights: Weights, names: Names, stated: StatedShape) -> tuple[SwinConfig, list[str]]:
    """Read the architecture from names and shapes; return assumptions as well.

    Raises:
        CheckpointError: windows that neither the file nor what lies beside it tells, or that contradict each other.
    """
    tensors, where, assumed = weights.tensors, str(weights.path), list[str]()
    width, channels, *patch = get_shape(tensors, f"{names.patches}.weight", where)
    depths = names.count_blocks(tensors)
    firsts = [names.block(stage, 0) for stage in range(len(depths))]
    said = stated.windows * (len(depths) if len(stated.windows) == 1 else 1)
    second = f"{firsts[0]}.{names.scale}" in tensors
    hidden = get_shape(tensors, f"{firsts[0]}.{names.expand}.weight", where)[0]
    if hidden % width:
        raise CheckpointError(
            f"{where}: its MLPs are {hidden} wide, which is no multiple of its width, {width}; vitreous builds Swin Transformers of a "
            "whole mlp_ratio alone"
        )
    if not any(re.fullmatch(rf"{re.escape(firsts[0])}\..*(\bqkv\.|\bquery\.|\bq_)bias", name) for name in tensors):
        raise CheckpointError(
            f"{where}: its q, k and v have no biases (qkv_bias), and vitreous builds Swin Transformers with them alone"
        )
    found = [
        read_window(tensors, first, names, said[place] if said else None, where) for place, first in enumerate(firsts)
    ]
    if None in found and not said:
        assumed.append("windows of 8x8 patches for images of 256x256 (no configuration tells)")
    windows = [known or (8, 8) for known in found]
    last = 2 ** (len(depths) - 1)
    image = stated.image or (windows[-1][0] * patch[0] * last, windows[-1][1] * patch[1] * last)
    if stated.image is None:
        assumed.append(
            f"images of {Size(*image)}, whose last map is one window (--image ROWS COLS makes it see another size)"
        )
    config = SwinConfig(
        image=image,
        patch=(patch[0], patch[1]),
        channels=channels,
        version="v2" if second else "v1",
        width=width,
        depths=depths,
        heads=tuple(get_shape(tensors, f"{first}.{names.scale if second else names.table}", where)[0 if second else 1] for first in firsts),
        windows=tuple(windows),
        mlp_factor=hidden // width,
        classes=get_shape(tensors, f"{names.head}.weight", where)[0] if f"{names.head}.weight" in tensors else 0,
    )  # fmt: skip
    if second:
        config = replace(config, trained_windows=read_trained(tensors, firsts, names, stated, config))
    return config, assumed


def cut_windows(
    tensors: Mapping[str, Tensor], names: Names, image: tuple[int, int], window: tuple[int, int]
) -> Windows:
    """Return each stage's windows: this one, cut to the stage's map of images of this size, by the file's own patches."""
    _, _, *patch = tensors[f"{names.patches}.weight"].shape
    depths = names.count_blocks(tensors)
    ones, windows = (1,) * len(depths), (window,) * len(depths)
    return fit_windows(SwinConfig(image, (patch[0], patch[1]), depths=depths, heads=ones, windows=windows), window)


def read_window(
    tensors: Mapping[str, Tensor], first: str, names: Names, said: tuple[int, int] | None, where: str
) -> tuple[int, int] | None:
    """Return a stage's window: from the table of its first block or from constants, else as stated; None if nothing tells.

    Raises:
        CheckpointError: a table of a window that is neither a square nor the stated one.
    """
    attention = f"{first}.{names.table}".rpartition(".")[0]
    if f"{first}.{names.table}" in tensors:
        rows = tensors[f"{first}.{names.table}"].shape[0]
        if said is not None and count_places(Size(*said), table=True) == rows:
            return said
        side = find_square(rows, table=True)
        if side is None:
            stated = (
                ""
                if said is None
                else f", and a window of {Size(*said)}, which is stated, has {count_places(Size(*said), table=True)}"
            )
            raise CheckpointError(f"{where}: a table of {rows} offsets is not that of a square window{stated}")
        return side.rows, side.cols
    offsets = tensors.get(f"{attention}.relative_coords_table")
    if offsets is not None and offsets.ndim == 4:
        return (offsets.shape[1] + 1) // 2, (offsets.shape[2] + 1) // 2
    return said


def read_trained(
    tensors: Mapping[str, Tensor], firsts: list[str], names: Names, stated: StatedShape, config: SwinConfig
) -> Windows:
    """Return the windows that offsets are scaled by: as stated, or from the largest offset of the constants.

    That is log2(1 + 8 (window - 1) / (trained - 1)) / 3. Nothing is returned where they are the windows themselves.
    """
    found = []
    for stage, first in enumerate(firsts):
        said = stated.trained[stage] if stated.trained else (0, 0)
        offsets = tensors.get(f"{first}.{names.table}".rpartition(".")[0] + ".relative_coords_table")
        if not any(said) and offsets is not None and offsets.ndim == 4:
            largest = offsets[0, -1, -1].double().tolist()
            said = tuple(
                round(1 + 8 * (side - 1) / (2 ** (3 * one) - 1)) if one > 0 else side
                for side, one in zip(config.windows[stage], largest, strict=True)
            )
        found.append(said if any(said) else config.windows[stage])
    return () if tuple(found) == config.windows else tuple(found)


AUTHORS = Names(
    "patch_embed.proj",
    "patch_embed.norm",
    lambda stage, block: f"layers.{stage}.blocks.{block}",
    lambda stage: f"layers.{stage - 1}.downsample",
)
MARK = "layers.0.blocks.0.attn.proj.weight"


def is_swin(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are the names of the authors' blocks, of either version, which timm's share."""
    attention = "layers.0.blocks.0.attn."
    named = {"patch_embed.proj.weight", "patch_embed.norm.weight", MARK} <= set(tensors)
    return named and (f"{attention}relative_position_bias_table" in tensors or f"{attention}logit_scale" in tensors)


def recognise(weights: Weights) -> float:
    """The authors' names, with merging at the end of a stage."""
    return 1.0 if is_swin(weights.tensors) and "layers.0.downsample.reduction.weight" in weights.tensors else 0.0


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes and constants."""
    config, assumed = read_config(weights, AUTHORS, StatedShape())
    crop = 1.0 if min(config.image) > 256 else 224 / 256
    images = PreprocessConfig(size=config.image, rounding="torchvision", crop=crop, interpolation="bicubic", **IMAGENET)
    assumed.append(f"the authors' transform: bicubic, crop {crop:g}, ImageNet's mean and deviation")
    return ForeignModel(config, images, RESIZE, weights.tensors, tuple(assumed), ignored=CONSTANTS)


TORCHVISION = Names(
    "features.0.0",
    "features.0.2",
    lambda stage, block: f"features.{2 * stage + 1}.{block}",
    lambda stage: f"features.{2 * stage}",
    expand="mlp.0",
    contract="mlp.3",
    key_bias=True,
)
SCALED = {
    ("v1", 96, 6): 232,
    ("v1", 96, 18): 246,
    ("v1", 128, 18): 238,
    ("v2", 96, 6): 260,
    ("v2", 96, 18): 260,
    ("v2", 128, 18): 272,
}
"""Shorter side that images are scaled to, by version, width and blocks of the third stage (torchvision's transforms)."""


def recognise_torchvision(weights: Weights) -> float:
    """torchvision's numbers of layers."""
    return float({"features.0.0.weight", "features.0.2.weight", "features.1.0.attn.qkv.weight"} <= set(weights.tensors))


def interpret_torchvision(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes and constants."""
    config, assumed = read_config(weights, TORCHVISION, StatedShape())
    scaled = SCALED.get((config.version, config.width, config.depths[2] if len(config.depths) > 2 else 0))
    images = PreprocessConfig(
        size=config.image,
        rounding="torchvision",
        crop=min(config.image) / scaled if scaled and scaled >= min(config.image) else 1.0,
        interpolation="bicubic",
        **IMAGENET,
    )
    assumed.append("the transform of torchvision's weights of this size")
    return ForeignModel(config, images, RESIZE, weights.tensors, tuple(assumed), ignored=CONSTANTS)


def explain_unwritable_torchvision(config: SwinConfig) -> str | None:
    """Say what torchvision's model can't express, if anything."""
    if len(set(config.windows)) > 1:
        return f"torchvision has the same windows in every stage, not {config.windows}"
    if config.trained_windows:
        return "torchvision scales offsets by the windows themselves, not by those of training"
    if config.channels != 3 or not config.classes or config.norm_eps != 1e-5:
        return "torchvision's model has three channels, a head and norms with an epsilon of 1e-5"
    return None


def build_constants(config: SwinConfig) -> dict[str, Tensor]:
    """Return the constants that torchvision's constructors make and its files hold: they show the windows of version 2."""
    found = {}
    for stage, depth in enumerate(config.depths):
        window = Size(*config.windows[stage])
        for block in range(depth):
            attention = f"{TORCHVISION.block(stage, block)}.attn"
            found[f"{attention}.relative_position_index"] = index_offsets("bias", window, 0).flatten()
            if config.version == "v2":
                offsets = OffsetBias(config.stage(stage)).coordinates
                table = offsets.view(1, 2 * window.rows - 1, 2 * window.cols - 1, 2)
                found[f"{attention}.relative_coords_table"] = table.clone()
    return found


FAMILY = Family(
    "swin", "microsoft/Swin-Transformer", recognise, interpret, lambda config: build_table(config, AUTHORS), kind="swin"
)
TORCHVISION_FAMILY = Family(
    "torchvision-swin",
    "torchvision (swin_*)",
    recognise_torchvision,
    interpret_torchvision,
    lambda config: build_table(config, TORCHVISION),
    unwritable=explain_unwritable_torchvision,
    constants=build_constants,
    kind="swin",
)
