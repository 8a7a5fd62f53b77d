"""Remove the marks that wrappers of a model leave on the names of its tensors, for every family, and report it.

torch.compile, DDP, FSDP, activation checkpointing, averaging, Lightning's modules and users' own put something before
the names, or in the middle. The model is found at the prefix under which a family recognises it. Nothing outside it is
dropped: another model of the same kind (a student beside its teacher) is set aside and reported, a linear layer that
can only be the head becomes the head, and everything else stays, to be reported or refused.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Table

INERT = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_fpw_module")
"""Marks of torch.compile, FSDP, activation checkpointing and Fabric, anywhere in names."""
MARK = re.compile(rf"(?:(?<=\.)|^)(?:{'|'.join(INERT)})\.")
AVERAGED = re.compile(r"(^|\.)(n_averaged|initted|step|num_updates)$")
"""The counts that torch's AveragedModel, and other packages' averages and trainers, keep beside the weights."""
FEWEST, SHARE, DEEPEST = 8, 8, 8
"""A prefix is tried if it has this many tensors, one in this many of all, and at most this many parts."""
PREFERRED = (r"ema|averag|swa|shadow", r"teacher", r"base_encoder|encoder_q|online", r"target")
"""Which of several models in one file is used: the one that its authors evaluate. The first match counts."""
HEAD = re.compile(
    r"^((?:outside [^:]+: )?(?:[\w-]+\.)*?(?:(?:cls_|class_|classification_|linear_|final_|new_)?heads?|fc|linear|clf"
    r"|(?:linear_|image_)?classifier))((?:\.(?:layers|head|fc|linear|\d+))*)\.weight$"
)
"""The weight of a layer named like a head: the module, and what may be below it."""
TRAINING = (r"(^|[. ])(predictor|projector|projection_head|criterion|\w*loss\w*)\.", r"(^|[. ])queue(_ptr)?$")
"""Tensors only for training, in models of any family."""
UNSURE = r"(^|\.)(pooler|pre_logits)\."
"""Layers of an encoder on which an outside head may or may not be based."""
Fits = Callable[[Weights], float]


def unwrap(weights: Weights, fits: Fits) -> Weights:
    """Return weights under a family's own names.

    Args:
        weights: as read.
        fits: how certainly some family recognises weights; 0: none does.

    Raises:
        CheckpointError: there are several models in the file, and nothing says which is meant.
    """
    weights = strip_marks(weights)
    if fits(weights) > 0:
        return weights
    found: list[str] = []
    for prefix in list_prefixes(weights.tensors):
        below = any(prefix.startswith(outer) for outer in found)
        if not below and fits(replace(weights, tensors=select_prefix(weights.tensors, prefix))) > 0:
            found.append(prefix)
    if not found:
        return weights
    chosen = choose_prefix(found, str(weights.path))
    return take_prefix(weights, fits, chosen, [prefix for prefix in found if prefix != chosen])


def strip_marks(weights: Weights) -> Weights:
    """Remove torch's marks from names, and the count of an average."""
    tensors, notes = weights.tensors, []
    averaged = [name for name, tensor in tensors.items() if AVERAGED.search(name) and tensor.numel() == 1]
    counts = [name for name in averaged if name.endswith("n_averaged")]
    if counts:
        count = float(tensors[counts[0]])
        notes.append(f"an average of {f'{count:.0f} ' if math.isfinite(count) else ''}models (AveragedModel)")
    if len(averaged) > len(counts):
        notes.append(f"left counts of training: {', '.join(name for name in averaged if name not in counts)}")
    bare = {MARK.sub("", name): tensor for name, tensor in tensors.items() if name not in averaged}
    if len(bare) < len(tensors) - len(averaged):  # two names would become one: leave them apart
        bare = {name: tensor for name, tensor in tensors.items() if name not in averaged}
    elif marks := sorted({match.group() for name in tensors for match in MARK.finditer(name)}):
        notes.append(f"took {' and '.join(marks)} out of the names")
    return replace(weights, tensors=bare, notes=(*weights.notes, *notes))


def list_prefixes(names: Collection[str]) -> list[str]:
    """Return the prefixes of many names, the shortest first."""
    counted = Counter[str]()
    for name in names:
        ends = [match.end() for match in re.finditer(r"[./]", name)][:DEEPEST]
        counted.update(name[:end] for end in ends)
    many = [prefix for prefix, count in counted.items() if count >= FEWEST and count * SHARE >= len(names)]
    return sorted(many, key=lambda prefix: (len(re.findall(r"[./]", prefix)), prefix))


def select_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def choose_prefix(found: list[str], where: str) -> str:
    """Return the prefix of the model that its authors evaluate; raises CheckpointError if nothing says which."""
    if len(found) == 1:
        return found[0]
    for pattern in PREFERRED:
        fitting = [prefix for prefix in found if re.search(pattern, prefix)]
        if len(fitting) == 1:
            return fitting[0]
    listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
    raise CheckpointError(
        f"{where} holds several models of the same kind ({listed}), and nothing says which is meant; save the state_dict of one"
    )


def take_prefix(weights: Weights, fits: Fits, prefix: str, others: list[str]) -> Weights:
    """Remove a prefix, set other models aside, and keep what is outside."""
    inside, roots = select_prefix(weights.tensors, prefix), [shorten_prefix(other, prefix) for other in others]
    aside = tuple(name for name in weights.tensors if any(name.startswith(root) for root in roots))
    rest = {name: one for name, one in weights.tensors.items() if not name.startswith(prefix) and name not in aside}
    clash = fits(replace(weights, tensors=inside | rest)) <= 0  # what is outside looks like another family's
    left = {f"outside {prefix}: {name}" if clash or name in inside else name: one for name, one in rest.items()}
    note = f"took {prefix} off the names"
    if roots:
        note += f"; left the other models in the file: {', '.join(roots)}"
    notes, aside = (*weights.notes, note), (*weights.aside, *aside)
    return replace(weights, tensors=inside | left, notes=notes, aside=aside)


def shorten_prefix(other: str, chosen: str) -> str:
    """Return a prefix up to the first part in which it differs from the chosen one."""
    parts, mine = re.findall(r"[^./]*[./]", other), re.findall(r"[^./]*[./]", chosen)
    same = next((number for number, pair in enumerate(zip(parts, mine, strict=False)) if pair[0] != pair[1]), len(mine))
    return "".join(parts[: same + 1])


def attach_head(weights: Weights, table: Table) -> Weights:
    """Use a linear layer outside the encoder as its head, if it can be nothing else.

    It is named like a head, alone in its module, and as wide as the encoder, which has no head of its own.
    """
    rules = {rule.ours: rule for rule in table if rule.ours in ("head.weight", "head.bias") and len(rule.theirs) == 1}
    names = [rules[ours].theirs[0] for ours in ("head.weight", "head.bias") if ours in rules]
    if len(names) < 2 or names[0] in weights.tensors or any(re.search(UNSURE, name) for name in weights.tensors):
        return weights
    width = guess_width(weights.tensors)
    fitting = [
        module
        for module in list_linear_layers(weights.tensors)
        if weights.tensors[f"{module}.weight"].shape[1] == width
    ]
    if len(fitting) != 1:
        return weights
    renamed = {f"{fitting[0]}.weight": names[0], f"{fitting[0]}.bias": names[1]}
    tensors = {renamed.get(name, name): tensor for name, tensor in weights.tensors.items()}
    note = f"the head is {fitting[0]}, which is outside; it is assumed to read what the model pools"
    return replace(weights, tensors=tensors, notes=(*weights.notes, note))


def list_linear_layers(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the layers that are named like heads and have only a weight and a bias."""
    found = []
    for name, tensor in tensors.items():
        match = HEAD.match(name)
        layer = name.removesuffix(".weight")
        bias = tensors.get(f"{layer}.bias")
        if match is None or tensor.ndim != 2 or bias is None or bias.shape != tensor.shape[:1]:
            continue
        module = match[1]
        if {other for other in tensors if other.startswith(f"{module}.")} == {name, f"{layer}.bias"}:
            found.append(layer)
    return found


def guess_width(tensors: Mapping[str, Tensor]) -> int:
    """Return the most common length of vectors: the width of norms and biases."""
    lengths = Counter(len(tensor) for tensor in tensors.values() if tensor.ndim == 1)
    return lengths.most_common(1)[0][0] if lengths else 0
