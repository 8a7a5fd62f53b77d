"""The state of torch's optimizers as flat tensors under "<kind>.<parameter name>", and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vitreous.storage.shards import Pieces
from vitreous.training.sharding import divide_like

NUMBERS: dict[str, tuple[type, torch.dtype]] = {
    "bool": (bool, torch.bool),
    "int": (int, torch.int64),
    "float": (float, torch.float64),
}
"""Python's numbers in a state, which are kept as tensors of these types under "<kind>:<word>"."""
GROUP = "@"
"""Begins the kind of what belongs to a whole group; it is kept under the name of the group's first parameter."""


def read_state(part: torch.optim.Optimizer, names: Mapping[Tensor, str], groups: bool) -> dict[str, Tensor]:
    """Return the state of an optimizer, tensors and numbers; with `groups` also the numbers of its groups, such as a rate that it
    has found for itself."""
    found = {
        label_kind(str(kind), value) + f".{names[parameter]}": to_tensor(value)
        for parameter, values in part.state.items()
        for kind, value in values.items()
        if is_kept(value)
    }
    for group in part.param_groups if groups else ():
        first = names[group["params"][0]]
        kept = {key: value for key, value in group.items() if is_kept(value)}
        found |= {GROUP + label_kind(key, value) + f".{first}": to_tensor(value) for key, value in kept.items()}
    return found


def write_state(
    parts: list[torch.optim.Optimizer], names: Mapping[Tensor, str], tensors: Mapping[str, Tensor | Pieces]
) -> None:
    """Restore what `read_state` returned of all parts, whole or in pieces, on each parameter's device and divided as it is;
    nothing of their own state stays."""
    for part in parts:
        part.state.clear()
    homes = {
        names[parameter]: (parameter, part, group)
        for part in parts
        for group in part.param_groups
        for parameter in group["params"]
    }
    for key, value in tensors.items():
        label, name = key.split(".", 1)
        parameter, part, group = homes[name]
        kind, _, word = label.removeprefix(GROUP).partition(":")
        if word:
            restored = from_tensor(value)
        elif label.startswith(GROUP) or (kind == "step" and not (group.get("fused") or group.get("capturable"))):
            restored = divide_like(value, parameter).clone()  # where torch keeps it: on the CPU
        else:
            restored = divide_like(value, parameter).clone().to(parameter.device)
        (group if label.startswith(GROUP) else part.state[parameter])[kind] = restored


def is_kept(value: object) -> bool:
    """Return whether a value of a state is a tensor or a number."""
    return isinstance(value, (Tensor, bool, int, float))


def label_kind(kind: str, value: Tensor | float) -> str:
    """Return a kind of state with the word for its type, if it is a number."""
    return kind if isinstance(value, Tensor) else f"{kind}:{type(value).__name__}"


def to_tensor(value: Tensor | float) -> Tensor:
    """Return a value of a state as a tensor."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=NUMBERS[type(value).__name__][1])


def from_tensor(value: Tensor | Pieces) -> float:
    """Return the number in a tensor; bool, int or float as its type says."""
    return (value.join() if isinstance(value, Pieces) else value).item()
