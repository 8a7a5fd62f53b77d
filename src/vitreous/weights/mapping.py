"""Names and layouts of another code base's weights: tables of rules that can be applied in either direction."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig


@dataclass(frozen=True)
class Layout:
    """How a tensor's layouts in the source and in vitreous correspond: a pair of inverse functions."""

    read: Callable[[Tensor], Tensor]
    """From the source's layout to vitreous's."""
    write: Callable[[Tensor], Tensor]
    """From vitreous's layout to the source's."""


SAME = Layout(lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Layout(lambda tensor: tensor.transpose(0, 1), lambda tensor: tensor.transpose(0, 1))
"""A dense layer as flax and OpenAI's CLIP write it: (in, out) for vitreous's (out, in)."""


def build_leading_layout(count: int) -> Layout:
    """Return the layout of a source tensor with `count` leading axes of size one: (1, token, dim), (1, 1, dim)."""

    def read(tensor: Tensor) -> Tensor:
        return tensor.reshape(tensor.shape[count:])

    return Layout(read, lambda tensor: tensor[(None,) * count])


def convolution_rules(config: ViTConfig) -> Layout:
    """Return the layout of a patch embedding as a convolution: (dim, channel, row, col) for vitreous's (dim, channel x
    row x col)."""
    return Layout(lambda tensor: tensor.flatten(1), lambda tensor: tensor.unflatten(1, config.patch_shape))


@dataclass(frozen=True)
class Rule:
    """The source's tensors (`theirs`) that make one of vitreous's (`ours`). `{i}` is the number of a block."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME
    order: tuple[int, ...] = ()
    """If one of ours stacks several of theirs: their order; by default as listed."""
    fixed: Callable[[Tensor], Tensor] | None = None
    """If the source has no such tensor: makes ours from a tensor of the right shape (zeros, ones)."""
    part: tuple[int, int, int] | None = None
    """If one of theirs stacks several of ours: (first, end, count); ours consists of the parts from first up to, not
    including, end, out of count equal parts."""

    def number(self, index: int) -> "Rule":
        """Return the rule of one block."""
        theirs = tuple(name.replace("{i}", str(index)) for name in self.theirs)
        return replace(self, ours=self.ours.replace("{i}", str(index)), theirs=theirs)


Table = Sequence[Rule]


def dense_rules(ours: str, theirs: str, layout: Layout = SAME) -> list[Rule]:
    """Return the rules of a layer's weight and bias."""
    return [Rule(f"{ours}.weight", (f"{theirs}.weight",), layout), Rule(f"{ours}.bias", (f"{theirs}.bias",))]


def stack_rule(ours: str, theirs: Sequence[str], suffix: str, layout: Layout = SAME) -> Rule:
    """Return the rule of a tensor of vitreous that stacks several of the source's."""
    return Rule(f"{ours}.{suffix}", tuple(f"{name}.{suffix}" for name in theirs), layout)


def expand_table(table: Table, depth: int) -> list[Rule]:
    """Expand the rules of blocks for each block."""
    rules = []
    for rule in table:
        rules += [rule.number(index) for index in range(depth)] if "{i}" in rule.ours else [rule]
    return rules


@dataclass
class Mapped:
    """The source's tensors under vitreous's names, in vitreous's layouts."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Names of the source's tensors that were used."""
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tensors that could not be made: name, and the source's names that were tried."""


Finish = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Applied to a tensor as soon as it is made, with the source's tensors that it was made from."""


def read_tensors(
    table: Table,
    theirs: dict[str, Tensor],
    expected: Mapping[str, Tensor],
    depth: int,
    finish: Finish = lambda made, sources: made,
) -> Mapped:
    """Apply a table to the source's tensors, one at a time.

    Args:
        table: rules; those whose `ours` the model doesn't have are skipped. Of several rules for one tensor, the first that matches counts.
        theirs: the source's tensors by name; used ones are removed, so that no two copies are held for long.
        expected: the model's tensors by name; only shapes matter.
        depth: encoder blocks.
        finish: applied to each tensor that is made.

    Raises:
        CheckpointError: tensors with shapes that a rule can't be applied to.
    """
    mapped, rules = Mapped(), [rule for rule in expand_table(table, depth) if rule.ours in expected]
    last = {name: index for index, rule in enumerate(rules) for name in rule.theirs}
    for index, rule in enumerate(rules):
        if rule.ours in mapped.tensors:
            continue
        if all(name in theirs for name in rule.theirs) and rule.theirs:
            made = apply_rule(rule, theirs, expected[rule.ours])
            mapped.tensors[rule.ours] = finish(made, [theirs[name] for name in rule.theirs])
            mapped.used.update(rule.theirs)
            mapped.missing.pop(rule.ours, None)
            for name in {name for name in rule.theirs if last[name] == index}:
                del theirs[name]
        elif rule.fixed is not None:
            mapped.tensors[rule.ours] = rule.fixed(torch.empty(expected[rule.ours].shape))
            mapped.missing.pop(rule.ours, None)
        else:
            mapped.missing.setdefault(rule.ours, rule.theirs)
    known = set(mapped.tensors) | set(mapped.missing)
    mapped.missing |= {name: () for name in expected if name not in known}
    return mapped


def apply_rule(rule: Rule, theirs: Mapping[str, Tensor], expected: Tensor) -> Tensor:
    """Make one tensor of vitreous; raises CheckpointError if the shapes don't allow it."""
    try:
        parts = [rule.layout.read(cut_part(theirs[name], rule.part)) for name in rule.theirs]
        parts = [parts[place] for place in rule.order] if rule.order else parts
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    except (RuntimeError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{name} of {'x'.join(map(str, theirs[name].shape)) or 'one value'}" for name in rule.theirs)
        wanted = "x".join(map(str, expected.shape))
        raise CheckpointError(f"{rule.ours} ({wanted}) can't be made from {shapes}") from error


def cut_part(tensor: Tensor, part: tuple[int, int, int] | None) -> Tensor:
    """Return some of the equal parts that are stacked in a tensor."""
    if part is None:
        return tensor
    first, end, count = part
    return tensor[first * len(tensor) // count : end * len(tensor) // count]


def write_tensors(table: Table, ours: Mapping[str, Tensor], depth: int) -> tuple[dict[str, Tensor], list[str]]:
    """Apply a table backwards; return the tensors in the source's format, and the names in vitreous that no rule
    mentions."""
    theirs: dict[str, dict[int, Tensor]] = {}
    written: set[str] = set()
    for rule in expand_table(table, depth):
        if rule.ours not in ours or rule.ours in written or not rule.theirs:
            continue
        parts = list(ours[rule.ours].chunk(len(rule.theirs)))
        if rule.order:
            parts = [parts[rule.order.index(place)] for place in range(len(parts))]
        for name, part in zip(rule.theirs, parts, strict=True):
            theirs.setdefault(name, {})[rule.part[0] if rule.part else 0] = rule.layout.write(part)
        written.add(rule.ours)
    whole = {name: [parts[first] for first in sorted(parts)] for name, parts in theirs.items()}
    joined = {name: (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous() for name, parts in whole.items()}
    return joined, [name for name in ours if name not in written]


def count_blocks(names: Iterable[str], pattern: str) -> int:
    """Count the blocks in names; `pattern` has one group, the block's number.

    Raises:
        CheckpointError: a number beyond the number of tensors, before a model with that many blocks is built.
    """
    listed = list(names)
    numbers = [match[1] for name in listed if (match := re.match(pattern, name))]
    depth = 1 + max((int(number[:10]) for number in numbers), default=-1)
    if depth > len(listed):
        raise CheckpointError(
            f"a tensor's name counts {depth - 1} blocks or more, but there are only {len(listed)} tensors"
        )
    return depth


def count_units(names: Iterable[str], pattern: str, first: int = 0) -> tuple[int, ...]:
    """Count the units of each stage of a ResNet.

    Args:
        names: of the tensors.
        pattern: the start of a unit's names, with {stage} and {unit} for the numbers.
        first: the number of the first stage and of the first unit.
    """
    listed = list(names)
    end = count_blocks(listed, pattern.format(stage=r"(\d+)", unit=r"\d+"))
    return tuple(
        count_blocks(listed, pattern.format(stage=stage, unit=r"0*(\d+)")) - first for stage in range(first, end)
    )
