"""Check that weights belong to an architecture, before anything is copied; the error names the differences in one
line."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.model.efficientnet_config import EfficientNetConfig, find_efficientnet_name
from vitreous.model.kinds import Config
from vitreous.model.names import SIZES, Shape
from vitreous.model.resnet_config import (
    BASIC_UNITS,
    GROUPS,
    ROOT,
    UNITS,
    EpsilonConfig,
    ResNetConfig,
    StemConfig,
    plan_hybrid,
)
from vitreous.model.swin_config import PATCH, SHAPES, VERSIONS, SwinConfig
from vitreous.runtime.threads import count_cores
from vitreous.shapes import Size
from vitreous.storage.mmap import FileMap, iterate_windows, release_pages

MOST = 3
"""Most names listed for each kind of difference."""
LARGE, MOST_THREADS = 64 * 2**20, 4
"""Bytes of weights from which several threads check them, and the most threads."""


def describe(config: Config) -> str:
    """Describe an architecture briefly, such as "S/16 for 224x224 images (width 384, depth 12, heads 6, mlp 1536)"."""
    if not isinstance(config, ViTConfig):
        name = (
            name_resnet(config)
            if isinstance(config, ResNetConfig)
            else name_efficientnet(config)
            if isinstance(config, EfficientNetConfig)
            else name_swin(config)
        )
        return f"{name} for {Size(*config.image)} images ({config.classes} classes)"
    details = f"width {config.width}, depth {config.depth}, heads {config.heads}, mlp {config.mlp_width}"
    return f"{name_vit(config)} for {Size(*config.image)} images ({details}, {config.classes} classes)"


def name_resnet(config: ResNetConfig) -> str:
    """Return "R50x1", or the units of a ResNet that has no name."""
    norms = "" if config.norm == "group" else f", {config.norm} norm"
    stages = f", stages of {'+'.join(map(str, config.stage_channels))}" if config.stage_channels else ""
    plain = ("7x7", ROOT, (), GROUPS, "relu", "group")
    shape = (config.root, config.root_channels, config.stage_channels, config.groups, config.activation, config.norm)
    if shape != plain:
        return f"a ResNet of {_describe_units(config)} on a root of {config.root}, {config.root_channels} channels{stages}{norms}"
    known = {"bottleneck": UNITS, "basic": BASIC_UNITS}.get(config.unit, {})
    layers = next((layers for layers, units in known.items() if units == config.units), None)
    return f"R{layers}x{config.width}" if layers else f"a ResNet of {_describe_units(config)}"


def name_efficientnet(config: EfficientNetConfig) -> str:
    """Return "EfficientNet-B0", or the units of an EfficientNet that has no name."""
    size = find_efficientnet_name(config)
    if size:
        return f"EfficientNet-{size}"
    return f"an EfficientNet of {'+'.join(map(str, config.units))} units, {config.last_channels} features"


def name_swin(config: SwinConfig) -> str:
    """Return "Swin-T", or the blocks of a Swin Transformer that has no name."""
    shape = (config.width, config.depths, config.heads)
    kind = next(kind for kind, version in VERSIONS.items() if version == config.version)
    letter = next((letter for letter, known in SHAPES.items() if known == shape), None)
    if letter and config.mlp_factor == SwinConfig.mlp_factor and config.patch == PATCH:
        return f"{kind}-{letter}"
    return f"a {kind} of {'+'.join(map(str, config.depths))} blocks, width {config.width}"


def name_vit(config: ViTConfig) -> str:
    """Return "S/16", "R50+B/16" or "Axial-S/16"; if there is no such name, the patch and the stem."""
    axial = config.block.attention == "axial"
    shape = Shape(config.width, config.depth // 2 if axial else config.depth, config.heads, config.mlp_width)
    letter = next((f"Axial-{name}" if axial else name for name, known in SIZES.items() if known == shape), None)
    patch, stem = Size(*config.patch), replace(config.stem, epsilons=EpsilonConfig())
    for name in [f"R{layers}+" for layers in ("", *UNITS)] if letter and stem.kind == "resnet" else []:
        # the number in the name of a hybrid with only a root is half of its patch
        number = patch.rows // 2 if name == "R+" else patch.rows
        if plan_hybrid(f"{name}{letter}/{number}", Size(number, number)) == (stem, patch):
            return f"{name}{letter}/{number}"
    cut = f"{patch.rows}" if patch.rows == patch.cols else f"{patch.rows}x{patch.cols}"
    return (
        f"{letter}/{cut}{_describe_stem(stem)}"
        if letter
        else f"{'an Axial-ViT' if axial else 'a ViT'} with patch {cut}{_describe_stem(stem)}"
    )


def _describe_stem(stem: StemConfig) -> str:
    """Describe the stem of a ViT without a name of its own."""
    if stem.kind == "conv":
        return f" on {len(stem.convolutions)} convolutions"
    if stem.kind == "none":
        return ""
    return f" on a ResNet of {_describe_units(stem)}" if stem.units else f" on a ResNet's root of width {stem.width}"


def _describe_units(config: ResNetConfig | StemConfig) -> str:
    kind = f"{config.unit} " if isinstance(config, ResNetConfig) and config.unit != "bottleneck" else ""
    return f"{'+'.join(map(str, config.units))} {kind}units of width {config.width}"


PARTS = {
    "blocks": r"(stages\.\d+\.)?blocks\.\d+\.",
    "units": r"stages\.\d+\.\d+\.",
    "stem units": r"patches\.stem\.stages\.\d+\.\d+\.",
}
"""The repeated parts of a model: blocks of an encoder or of a Swin's stages, a ResNet's or EfficientNet's units, a stem's units."""


def count_depths(names: Iterable[str]) -> dict[str, int]:
    """Count the blocks and units in parameter names."""
    listed = list(names)
    return {
        part: len({match.group() for name in listed if (match := re.match(pattern, name))})
        for part, pattern in PARTS.items()
    }


def check_depth(tensors: Mapping[str, Tensor], config: Config, source: str) -> None:
    """Refuse weights with more or fewer blocks or units, before building a model with as many as a file claims.

    Raises:
        CheckpointError: how many there are, and what was expected.
    """
    found = count_depths(tensors)
    expected = {"units" if isinstance(config, (ResNetConfig, EfficientNetConfig)) else "blocks": config.depth}
    if isinstance(config, ViTConfig):
        expected = {"blocks": config.depth, "stem units": sum(config.stem.units)}
    for part, count in expected.items():
        if found[part] != count:
            raise CheckpointError(f"{source} holds weights of {found[part]} {part}, expected {describe(config)}")


def check_grid(config: ViTConfig, source: str, grid: Size, rule: str) -> None:
    """Refuse positions for a grid of patches other than the architecture's.

    Args:
        config: that architecture.
        source: where the weights come from, for the message.
        grid: the grid of patches that the weights' positions belong to.
        rule: the rule that would map them onto another grid.

    Raises:
        CheckpointError: the grids differ, and the model learned its positions.
    """
    if grid != config.grid and config.positions == "learned":
        raise CheckpointError(
            f"{source} has positions for a grid of {grid} patches, but {describe(config)} needs {config.grid}; "
            f"load it at its own size and resize the model (rule {rule})"
        )


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: Config, source: str) -> None:
    """Refuse weights that aren't exactly what an architecture needs.

    Args:
        tensors: the weights, by parameter name.
        expected: what the architecture needs, by parameter name; only shapes matter (the meta device suffices).
        config: that architecture.
        source: where the weights come from, for the message.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape or of a type that would lose digits.
    """
    shapes = [
        f"{name} is {_format_dims(tensors[name])}, expected {_format_dims(expected[name])}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    differences = [
        _format_items("missing", [name for name in expected if name not in tensors]),
        _format_items("unexpected", [name for name in tensors if name not in expected]),
        _format_items("of another shape", shapes),
    ]
    if any(differences):
        counted = " and ".join(f"{count} {part}" for part, count in count_depths(tensors).items() if count)
        found = f"{counted or 'no blocks'} of width {_read_width(tensors)}"
        raise CheckpointError(
            f"{source} holds another architecture ({found}), but {describe(config)} was expected: "
            + "; ".join(filter(None, differences))
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise CheckpointError(
                f"{source}: {name} is {tensor.dtype}, expected float32 (float16 and bfloat16 are widened)"
            )


def check_finite(tensors: Mapping[str, Tensor], source: str, maps: Sequence[FileMap] = ()) -> None:
    """Refuse weights that hold NaN or infinities; raises CheckpointError naming the first such tensor.

    Pages of the given mapped files are released as soon as they have been checked. Large files are checked by several
    threads, since a single one waits for the pages half of the time.
    """
    waiting = iter(tensors.items())  # shared: each thread takes the next
    found: dict[str, int] = {}

    def look() -> None:
        for name, tensor in waiting:
            if bad := _explain_not_finite(tensor, maps):
                found[name] = bad

    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    threads = 1 if size < LARGE else min(MOST_THREADS, count_cores())
    if threads == 1:
        look()
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(look) for _ in range(threads)]:
                done.result()
    for name in tensors:
        if name in found:
            raise CheckpointError(
                f"{source}: {name} has {found[name]} of {tensors[name].numel()} values NaN or infinite; these "
                "weights are ruined"
            )


def _explain_not_finite(tensor: Tensor, maps: Sequence[FileMap]) -> int:
    """Count the values that are NaN or infinite."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    bad = 0
    for window in iterate_windows(tensor):
        if _is_suspicious(window):
            bad += int((~torch.isfinite(_is_plain(window))).sum())
        release_pages([window], maps)
    return bad


INFINITE = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80}
"""The bits of infinity; those of NaN are larger."""


def _is_plain(values: Tensor) -> Tensor:
    """Widen floats of 8 bits, whose finiteness torch can't check."""
    return values.float() if values.element_size() == 1 else values


def _is_suspicious(values: Tensor) -> bool:
    """Return quickly whether values may hold NaN or infinities, by their sum, which one thread computes at memory
    speed."""
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64, *INFINITE):
        return not torch.isfinite(_is_plain(values)).all()
    if values.dtype in INFINITE:
        bits = values.view(torch.int16).numpy() & np.int16(0x7FFF)
        return bool(bits.max(initial=0) >= INFINITE[values.dtype])
    with np.errstate(all="ignore"):
        return not math.isfinite(values.numpy().sum())


def _format_items(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
    return f"{kind}: {', '.join(items[:MOST])}{more}" if items else ""


def _format_dims(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _read_width(tensors: Mapping[str, Tensor]) -> int | str:
    norm, head = tensors.get("norm.weight"), tensors.get("head.weight")
    if norm is not None and norm.ndim == 1:
        return norm.shape[0]
    return head.shape[1] if head is not None and head.ndim == 2 else "?"
