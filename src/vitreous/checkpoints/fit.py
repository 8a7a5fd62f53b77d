"""Do these weights belong to this architecture? Answered before anything is copied, in one line that says what differs."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import SIZES, Shape, ViTConfig
from vitreous.shapes import Size

MOST = 3
"""Names listed of each kind of difference."""


def describe(config: ViTConfig) -> str:
    """Say an architecture in a few words, such as "S/16 for 224x224 images (width 384, depth 12, heads 6, mlp 1536)"."""
    shape = Shape(config.width, config.depth, config.heads, config.mlp)
    rows, cols = config.patch
    patch = f"{rows}" if rows == cols else f"{rows}x{cols}"
    size = next((f"{letter}/{patch}" for letter, known in SIZES.items() if known == shape), f"a ViT with patch {patch}")
    details = ", ".join(f"{name} {value}" for name, value in shape._asdict().items())
    return f"{size} for {Size(*config.image)} images ({details}, {config.classes} classes)"


def depth_of(names: Mapping[str, object]) -> int:
    """Count the encoder blocks that parameter names speak of."""
    return len({match[1] for match in (re.match(r"blocks\.(\d+)\.", name) for name in names) if match})


def check_fit(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: ViTConfig, source: str, grid: Size, rule: str
) -> None:
    """Refuse weights that aren't exactly what an architecture needs.

    Args:
        tensors: the weights, by parameter name.
        expected: what the architecture needs, by parameter name; only shapes are looked at (the meta device will do).
        config: that architecture.
        source: where the weights come from, for the message.
        grid: the grid of patches that the weights' positions belong to.
        rule: the rule that would map them onto another grid.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape or of a type that would lose digits.
    """
    if grid != config.grid and config.positions == "learned":
        raise CheckpointError(
            f"{source} has positions for a grid of {grid} patches, {describe(config)} needs {config.grid}; "
            f"load it at its own size and resize the model (rule {rule})"
        )
    shapes = [
        f"{name} is {_dims(tensors[name])}, expected {_dims(expected[name])}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    differences = [
        _listed("missing", [name for name in expected if name not in tensors]),
        _listed("unexpected", [name for name in tensors if name not in expected]),
        _listed("of another shape", shapes),
    ]
    if any(differences):
        found = f"{depth_of(tensors)} blocks of width {_width(tensors)}"
        raise CheckpointError(
            f"{source} holds another architecture ({found}) than was expected, {describe(config)}: "
            + "; ".join(filter(None, differences))
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise CheckpointError(
                f"{source}: {name} is {tensor.dtype}, expected float32 (float16 and bfloat16 are widened)"
            )


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that hold NaN or infinities; raises CheckpointError naming the first such tensor."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.sum()) and not (finite := torch.isfinite(tensor)).all():
            bad = int((~finite).sum())
            raise CheckpointError(
                f"{source}: {name} has {bad} of {tensor.numel()} values NaN or infinite; these weights are ruined"
            )


def _listed(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
    return f"{kind}: {', '.join(items[:MOST])}{more}" if items else ""


def _dims(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _width(tensors: Mapping[str, Tensor]) -> int | str:
    norm = tensors.get("norm.weight")
    return norm.shape[0] if norm is not None and norm.ndim == 1 else "?"
