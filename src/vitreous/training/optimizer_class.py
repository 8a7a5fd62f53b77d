"""Optimizers of other modules, named as module:Class. Importing a module runs its code, so only what was named in this call
is imported: a class that a file names has to be named again by whoever reads the file."""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from vitreous.errors import ConfigError, UnknownName
from vitreous.training.config import OptimizerConfig

OF_TORCH = "torch.optim"
"""The module whose classes may be named by anybody: it is loaded anyway."""
OURS = {"lr": "lr", "weight_decay": "weight-decay", "params": ""}
"""Arguments that the settings beside `keywords` give, and the options for them."""

_TRUSTED: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())
"""The classes that the enclosing call has named."""


@contextmanager
def trust_optimizers(*names: Any) -> Iterator[None]:
    """Allow the classes of these names, of the form module:Class, to be imported inside the block; other values allow nothing."""
    given = {name for name in names if isinstance(name, str) and ":" in name}
    before = _TRUSTED.set(_TRUSTED.get() | given)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


def is_class(name: str) -> bool:
    """Return whether an optimizer's name is module:Class."""
    return ":" in name


def find_class(name: str) -> type[torch.optim.Optimizer]:
    """Import the optimizer module:Class.

    Raises:
        ConfigError: a file alone names it, the module or the class doesn't exist, or it is no optimizer of torch's kind.
    """
    module_name, _, class_name = name.partition(":")
    if module_name != OF_TORCH and name not in _TRUSTED.get():
        raise ConfigError(
            f"a file names the optimizer {name}, and importing {module_name} would run that module's code; if you trust it, give "
            f"--optimizer {name} as well"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--optimizer {name}: {error}; install it, or name its folder in PYTHONPATH (the current folder is not searched)"
        ) from error
    except Exception as error:  # whatever the module's code raises
        raise ConfigError(f"--optimizer {name}: importing {module_name} fails: {describe_error(error)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        kinds = [one for one, value in vars(module).items() if is_optimizer(value)]
        raise UnknownName(f"class in {module_name}", class_name, kinds)
    if not is_optimizer(found):
        raise ConfigError(f"--optimizer {name} is not a subclass of torch.optim.Optimizer; name one")
    return found


def is_optimizer(value: Any) -> bool:
    """Return whether a value is a class of optimizers."""
    return isinstance(value, type) and issubclass(value, torch.optim.Optimizer)


def build_named(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return an optimizer of the class that `config` names over these groups; raises ConfigError for what the class refuses."""
    kind = find_class(config.name)
    check_keywords(kind, config)
    arguments: dict[str, Any] = {"lr": config.lr, **config.keywords}
    try:
        made = kind(groups, **arguments)
    except Exception as error:  # whatever the class raises
        raise ConfigError(f"--optimizer {config.name} can't be made: {describe_error(error)}") from error
    if config.weight_decay and not config.decoupled and "weight_decay" not in made.defaults:
        raise ConfigError(
            f"--optimizer {config.name} has no weight decay of its own; set --optimizer.decoupled, or --optimizer.weight-decay 0"
        )
    return made


def check_keywords(kind: type[torch.optim.Optimizer], config: OptimizerConfig) -> None:
    """Refuse keywords that a class doesn't take, or that settings of their own give; raises ConfigError, UnknownName."""
    for name in OURS.keys() & config.keywords.keys():
        instead = f"give it by --optimizer.{OURS[name]}" if OURS[name] else "leave it out"
        raise ConfigError(f"optimizer.keywords holds {name}; {instead}")
    known = inspect.signature(kind).parameters
    free = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    if "lr" not in known and not free:
        raise ConfigError(f"--optimizer {config.name} takes no lr, which the schedule sets; name another class")
    for name in config.keywords:
        if name not in known and not free:
            raise UnknownName(f"keyword of {config.name}", name, [one for one in known if one not in OURS])


def describe_error(error: Exception) -> str:
    """Return an error's kind and its words, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
