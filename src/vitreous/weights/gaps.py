"""Tensors that only the file or only the model has: named in groups, and allowed only at the user's request, with the
consequences."""

import re
from collections.abc import Collection, Iterable, Mapping

from vitreous.errors import CheckpointError
from vitreous.model.factory import Model, create
from vitreous.model.kinds import Config
from vitreous.weights.compatibility import describe
from vitreous.weights.mapping import Mapped
from vitreous.weights.options import LoadOptions, group_names

MOST_GROUPS = 4
"""Most groups of names in a message."""
PARTS = (
    (r"(^|\.)(gamma|ls|lambda|layer_?scale)_?\d", "LayerScale"),
    (r"rel(ative)?_pos|rel_h|rel_w", "relative positions"),
    (r"(^|\.)rope|rotary|freqs", "rotary positions"),
    (r"\.proj_[lw]\.", "talking heads"),
    (r"lora_|adapter", "adapters"),
    (r"\.(q|k|q_layer|k_layer)_?norm\.", "norms of q and k"),
    (r"(^|\.)(attn|attention|norm|mlp)\d?1\.", "further branches"),
)
"""The meaning of names, in the usual terms; the first match counts."""
HEADS = r"(^|[./])(\w*head\w*|fc|\w*classifier|linear)([./]|$)"
OURS = r"^(distillation_)?head\."
"""The prefix of the heads' names in vitreous."""


def format_names(names: Collection[str]) -> str:
    """Format these names in at most `MOST_GROUPS` groups."""
    groups = group_names(names)
    more = f" and {len(groups) - MOST_GROUPS} more groups" if len(groups) > MOST_GROUPS else ""
    return ", ".join(groups[:MOST_GROUPS]) + more


def describe_parts(names: Collection[str]) -> str:
    """Describe the purpose of tensors, as far as their names show it: "LayerScale of 12 blocks"; otherwise empty."""
    said = []
    for pattern, word in PARTS:
        here = [name for name in names if re.search(pattern, name)]
        blocks = {match.group() for name in here if (match := re.search(r"(?<![^./_])\d+(?=[./])", name))}
        said += [f"{word} of {len(blocks)} blocks" if blocks else word] if here else []
    return ", ".join(said)


def select_inside(names: Iterable[str], used: Collection[str]) -> list[str]:
    """Return the names inside a used module, such as a block: they are part of what it computes."""
    modules = {match.group() for name in used if (match := re.match(r".*?[./_]\d+[./]|[^./]+[./]", name))}
    return [name for name in names if any(name.startswith(module) for module in modules)]


def refuse_unused(
    unused: Collection[str], used: Collection[str], config: Config, options: LoadOptions, where: str
) -> None:
    """Refuse tensors of the file that have no place in the model, unless the user allows it.

    Raises:
        CheckpointError: names the tensors and what leaving them out would cost; if they are part of the function that
            the model computes, leaving them out is not offered.
    """
    if not unused or "unused" in options.allow:
        return
    about = f"{where}: {len(unused)} tensors have no place in {describe(config)}: {format_names(unused)}"
    if within := select_inside(unused, used):
        named = describe_parts(within)
        raise CheckpointError(
            f"{about}; {f'they are {named}, which' if named else f'{len(within)} of them lie in layers that are used and'} "
            "are part of what this model computes: without them its outputs would differ. vitreous can't build it"
        )
    if not config.classes and any(re.search(HEADS, name) for name in unused):
        raise CheckpointError(
            f"{about}; with --allow unused they are left out: a head would be lost, and with it the labels; the model would "
            "give features"
        )
    raise CheckpointError(
        f"{about}; with --allow unused they are left out: if the outputs depend on them, these will differ"
    )


def fill_missing(mapped: Mapped, model: Model, config: Config, options: LoadOptions, where: str) -> list[str]:
    """Initialise the model's tensors that the file lacks, if the user allows it; return their names.

    Raises:
        CheckpointError: they may not be missing; the message offers a random head, but nothing else at random.
    """
    if not mapped.missing:
        return []
    if "missing" not in options.allow:
        raise CheckpointError(explain_missing(mapped.missing, config, where))
    fresh = create(config).state_dict()
    mapped.tensors |= {name: fresh[name] for name in mapped.missing}
    return list(mapped.missing)


def explain_missing(missing: Mapping[str, tuple[str, ...]], config: Config, where: str) -> str:
    """Describe which tensors are missing, under which names they were expected, and what can be done."""
    name, looked = next(iter(missing.items()))
    about = (
        f"{where} lacks {len(missing)} tensors that {describe(config)} needs, such as {name} "
        f"({' + '.join(looked) or 'no rule'})"
    )
    if all(re.match(rf"{OURS}bias$", name) for name in missing):
        return (
            f"{about}; with --allow missing it is zero, which is the same function if the head was made without a bias "
            "(not for a head that compares directions, such as ArcFace's)"
        )
    if all(re.match(OURS, name) for name in missing):
        return (
            f"{about}; with --allow missing the head begins untrained, and its labels mean nothing until it is trained"
        )
    return (
        f"{about}; drawn at random they would spoil every output: the file is incomplete, or for another architecture"
    )


def describe_cost(unused: Collection[str], used: Collection[str], new: Collection[str]) -> tuple[str, ...]:
    """Describe, for the report, what the allowed differences cost."""
    within = select_inside(unused, used)
    notes = (
        [f"the outputs differ from the original's: left out was {describe_parts(within) or format_names(within)}"]
        if within
        else []
    )
    drawn = [name for name in new if not re.match(OURS, name)]
    notes += [f"the outputs are not the original's: drawn at random were {format_names(drawn)}"] if drawn else []
    return tuple(notes)
