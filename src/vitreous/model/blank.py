"""Modules without weights, to be filled by loading: built on torch's meta device, and nothing is drawn."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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


def blank(kind: Callable[[Any], Kind], config: Any) -> Kind:
    """Build a module whose weights take no memory and no time yet."""
    with torch.device("meta"), Undrawn():
        return kind(config)
