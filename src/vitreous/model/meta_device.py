"""Modules without weights, to be filled by loading: built on torch's meta device, without random draws."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitreous.errors import ConfigError
from vitreous.model.lora import iterate_adapted

Kind = TypeVar("Kind", bound=nn.Module)


class Undrawn(TorchFunctionMode):
    """While it is active, torch's initialisers leave their tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it is one of the initialisers in torch.nn.init."""
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build_empty(kind: Callable[[Any], Kind], config: Any) -> Kind:
    """Build a module whose weights take no memory and no time yet."""
    with torch.device("meta"), Undrawn():
        return kind(config)


def rebuild(model: Kind, config: Any, weights: Mapping[str, Tensor], *, share: bool = False) -> Kind:
    """Return a model of the same class for another configuration, with copies of these weights, on the same device,
    in the same mode and frozen where it is. `share` reuses the tensors themselves, if the old model is no longer needed.

    Raises:
        ConfigError: the model has LoRA's updates.
    """
    if any(iterate_adapted(model)):
        raise ConfigError(
            "a model with LoRA can't be made anew; load merge_state(model) into a plain model first, and take that"
        )
    other = build_empty(type(model), config)
    other.load_state_dict({name: one if share else one.clone() for name, one in weights.items()}, assign=True)
    old = dict(model.named_parameters())
    for name, parameter in other.named_parameters():
        parameter.requires_grad_(name not in old or old[name].requires_grad)
    return other.to(next(model.parameters()).device).train(model.training)
