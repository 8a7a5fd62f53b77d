"""The common parts of Hugging Face's files: config.json with defaults left out, labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.shapes import Size
from vitreous.weights.families import base
from vitreous.weights.families.base import find_grid
from vitreous.weights.files import Weights
from vitreous.weights.labels import clean_labels
from vitreous.weights.limits import MOST_TOKENS
from vitreous.weights.mapping import Rule, count_blocks

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "quick_gelu": "quick-gelu",
    "silu": "silu",
    "swish": "silu",
}
"""transformers' names of our activations."""
BASE = {"image_size": 224, "patch_size": 16, "num_attention_heads": 12, "hidden_act": "gelu", "qkv_bias": True}
"""Defaults of every configuration class that are the same in all families."""


@dataclass
class Said:
    """A config.json over the defaults of its class; remembers which defaults were used."""

    document: Mapping[str, Any]
    defaults: Mapping[str, Any]
    assumed: list[str] = field(default_factory=list)

    def __call__(self, key: str) -> Any:
        """Return a setting; what a present config.json leaves out is its class's default, and no assumption."""
        if self.document.get(key) is not None:
            return self.document[key]
        value = self.defaults[key]
        if not self.document:
            self.assumed.append(f"{key} {value} (transformers' default)")
        return value


def read_pair(value: Any) -> tuple[int, int]:
    """Return rows and columns of a size that may be a single number; raises CheckpointError for an absurd one."""
    rows, cols = (int(value), int(value)) if isinstance(value, (int, float)) else (int(value[0]), int(value[1]))
    if max(rows, cols) > MOST_TOKENS:
        raise CheckpointError(f"config.json has a size of more than {MOST_TOKENS:,} pixels; correct it")
    return rows, cols


def read_image(
    weights: Weights, said: Said, patch: tuple[int, int], count: int, prefix: int = 1, table: bool = False
) -> tuple[int, int]:
    """Return rows and columns of the images, cut to whole patches (SigLIP's 384 pixels hold 27 patches of 14).

    Args:
        weights: the weights, with the user's statements about them.
        said: config.json over its defaults; without one, learned positions decide.
        patch: rows and columns of a patch, from the kernel.
        count: number of learned positions; 0: there are none.
        prefix: number of those for prefix tokens.
        table: whether they are for each offset of two patches.

    Raises:
        CheckpointError: config.json has another size of patches or another grid than the weights.
    """
    if not said.document and (count or weights.stated.grid):
        grid, notes = weights.stated.grid, ()
        if count:
            _, grid, notes = find_grid(weights, count, (prefix,), table=table)
        assert grid is not None
        said.assumed += notes
        return grid[0] * patch[0], grid[1] * patch[1]
    if said.document.get("patch_size") is not None and read_pair(said("patch_size")) != patch:
        cut = read_pair(said("patch_size"))
        raise CheckpointError(
            f"the configuration next to {weights.path} says patches of {cut[0]}x{cut[1]} pixels, but the weights "
            f"have patches of {patch[0]}x{patch[1]}; they don't belong together"
        )
    rows, cols = read_pair(said("image_size"))
    grid = Size(rows // patch[0], cols // patch[1])
    if count:
        find_grid(weights, count, (prefix,), grid, table)
    whole = (grid.rows * patch[0], grid.cols * patch[1])
    if whole != (rows, cols):
        said.assumed.append(f"images of {whole[0]}x{whole[1]}, not {rows}x{cols}, which isn't whole patches")
    return whole


def read_activation(name: Any, where: str) -> Any:
    """Return our name of an activation; raises CheckpointError if we have none."""
    if name not in ACTIVATIONS:
        raise CheckpointError(f"{where}: its activation {name!r} isn't one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def read_heads(weights: Weights, said: Said, width: int) -> int:
    """Return the heads: from config.json, else from the user, else the usual number at this width."""
    heads, notes = base.find_heads(weights, width, int(said("num_attention_heads")) if said.document else None)
    said.assumed += notes
    return heads


def read_labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the labels of id2label, unless they are the placeholders LABEL_0, LABEL_1, ..."""
    labels = config.get("id2label") or {}
    names = clean_labels([labels.get(str(number)) for number in range(count)], count)
    return () if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else names


def either_rules(ours: str, *theirs: str, suffixes: tuple[str, ...] = ("weight", "bias")) -> list[Rule]:
    """Return the rules of a layer that has several possible names; the first is the one that is written."""
    return [Rule(f"{ours}.{suffix}", (f"{name}.{suffix}",)) for suffix in suffixes for name in theirs]


def join_rules(ours: str, *theirs: tuple[str, ...], suffixes: tuple[str, ...] = ("weight", "bias")) -> list[Rule]:
    """Return the rules of a layer of ours that is several of theirs, under any of several names."""
    return [
        Rule(f"{ours}.{suffix}", tuple(f"{name}.{suffix}" for name in names)) for suffix in suffixes for names in theirs
    ]


def count_encoder_blocks(tensors: Mapping[str, Tensor], pattern: str, where: str) -> int:
    """Count the blocks; raises CheckpointError if there are none."""
    depth = count_blocks(tensors, pattern)
    if depth < 1:
        raise CheckpointError(f"{where} has no encoder blocks")
    return depth


def score_kind(weights: Weights, known: tuple[str, ...]) -> float:
    """Return what config.json says about a family: 2 this one, 0 another one, 1 nothing."""
    kind = weights.config.get("model_type")
    if kind is None:
        return 1.0
    return 2.0 if kind in known else 0.0
