"""The test run's type checks, at a fraction of what they cost with jaxtyping's own decorator.

jaxtyping's import hook puts `jaxtyping.jaxtyped` on every function and class of vitreous; this stands in for it. It checks
functions and classes of arrays (pyrefly holds all other types, without running anything; `HYPOTHESIS_PROFILE=explore` checks
those here too), arguments and result, with each axis's name of one length within a call; but it asks beartype once a call where
the original asks twice and binds the arguments to the signature, and it makes the check when a function is first called.
Of functions of arrays it asks once for each combination of types, shapes and dtypes: the answer depends on nothing else.
"""

import collections
import collections.abc
import dataclasses
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import torch

ORIGINAL = jaxtyping.jaxtyped
"""Checks generators, whose bodies run within no call."""
SHAPES = jaxtyping.jaxtyped("context")
"""Within it, an axis's name has one length."""
if sys.version_info < (3, 12):  # which remembers them itself: each question for a Source took 0.1 ms
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


EVERYTHING = os.environ.get("HYPOTHESIS_PROFILE") == "explore"


def jaxtyped(*, typechecker: Callable, everything: bool = EVERYTHING) -> Callable:
    """Return what the import hook decorates a function or a class with.

    Args:
        everything: also check what takes and returns no arrays.
    """
    return functools.partial(_decorated, typechecker, everything)


def _decorated(typechecker: Callable, everything: bool, thing: Any) -> Any:
    decorated = functools.partial(_decorated, typechecker, everything)
    if isinstance(thing, (classmethod, staticmethod)):
        return type(thing)(decorated(thing.__func__))
    if isinstance(thing, property):
        return property(*(each and decorated(each) for each in (thing.fget, thing.fset, thing.fdel)))
    if not inspect.isclass(thing):
        return _checked(typechecker, thing) if everything or _has_arrays(thing) else thing
    if dataclasses.is_dataclass(thing) and "__init__" in vars(thing) and (everything or _has_arrays(thing)):
        thing.__init__ = _checked(typechecker, thing.__init__)
    return thing


def _checked(typechecker: Callable, function: Callable) -> Callable:
    if inspect.isgeneratorfunction(function):
        return ORIGINAL(function, typechecker=typechecker)
    typed, shaped = None, False

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal typed, shaped
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if typed is None:
            known = _with_known_types(function)
            shaped = any(map(_has_shapes, known.__annotations__.values()))
            typed = _Remembered(typechecker, known) if shaped else typechecker(known)
        return typed(*args, **kwargs)

    return call


class _Remembered:
    """A checked function of arrays that asks once for each combination of types, shapes and dtypes."""

    def __init__(self, typechecker: Callable, function: Callable) -> None:
        self.function = function
        self.passed: dict[Any, set[Any]] = {}
        """For each combination of arguments, those of results that have passed."""
        self.results: list[Any] = []
        """The result that is to be checked, where the function has run already."""
        self.by_value = "Literal" in repr(function.__annotations__)
        """Whether the answer depends on more than types."""

        @functools.wraps(function)
        def work(*args: Any, **kwargs: Any) -> Any:
            return self.results.pop() if self.results else function(*args, **kwargs)

        self.typed = typechecker(work)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        given = None if self.by_value else _kind((*args, *kwargs.values()) if kwargs else args)
        if given is None:
            with SHAPES:
                return self.typed(*args, **kwargs)
        if kwargs:
            given += tuple(kwargs)
        passed = self.passed.get(given)
        if passed is None:
            with SHAPES:
                result = self.typed(*args, **kwargs)
            self.passed.setdefault(given, set()).add(_kind(result))
            return result
        result = self.function(*args, **kwargs)
        kind = _kind(result)
        if kind is None or kind not in passed:
            self.results.append(result)
            with SHAPES:
                self.typed(*args, **kwargs)
            passed.add(kind)
        return result


def _kind(value: Any) -> Any:
    """Return all that a check asks of a value, hashable; None where that is more than types, shapes and dtypes."""
    kind = type(value)
    if (sort := SORTS.get(kind)) is None:
        sort = SORTS[kind] = _sort(kind)
    if sort == "plain":
        return kind
    if sort == "array":
        return kind, value.dtype, value.shape
    if sort != "tuple":
        return None
    kinds = []
    for part in value:
        found = type(part)
        if SORTS.get(found) != "plain" and (found := _kind(part)) is None:
            return None
        kinds.append(found)
    return tuple(kinds)


SORTS: dict[type, str] = {}


def _sort(kind: type) -> str:
    if issubclass(kind, (np.ndarray, torch.Tensor)):
        return "array"
    if kind is tuple:
        return "tuple"
    holders = (list, collections.abc.Mapping, collections.abc.Set, collections.deque, type)
    return "holder" if issubclass(kind, holders) else "plain"


def _has_arrays(thing: Any) -> bool:
    """Tell whether annotations name arrays, resolved or as text."""
    return any(word in repr(getattr(thing, "__annotations__", {})) for word in ("jaxtyping", "Tensor", "ndarray"))


def _has_shapes(annotation: Any) -> bool:
    arrays = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return arrays or any(map(_has_shapes, typing.get_args(annotation)))


def _with_known_types(function: Callable) -> Callable:
    """Return the function, or a copy of it whose annotations hold no names that are only there for type checkers."""
    known = {name: _resolved(annotation, function) for name, annotation in function.__annotations__.items()}
    if known == function.__annotations__:
        return function
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, known
    return copy


def _resolved(annotation: Any, function: Callable) -> Any:
    if not isinstance(annotation, str) and "ForwardRef" not in repr(annotation):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, function.__globals__, include_extras=True)["value"]
    except NameError:
        return Any
