"""The test run's type checks, at a fraction of what they cost with jaxtyping's own decorator.

jaxtyping's import hook puts `jaxtyping.jaxtyped` on every function and class of vitreous; this stands in for it. It checks
functions and classes of arrays (pyrefly holds all other types, without running anything; `HYPOTHESIS_PROFILE=explore` checks
those here too), arguments and result, with each axis's name of one length within a call; but it asks beartype once a call where
the original asks twice and binds the arguments to the signature, and it makes the check when a function is first called.
Of functions of arrays it asks once for each combination of types, shapes and dtypes, and of values where literals are annotated:
the answer depends on nothing else. While torch traces a function, nothing is asked: its shapes are tensors then.
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

get_tracing_state = torch._C._get_tracing_state
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
    config, typed, remembered = jaxtyping.config, None, None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal typed, remembered
        __tracebackhide__ = True
        if config.jaxtyping_disable or get_tracing_state() is not None:
            return function(*args, **kwargs)
        if typed is None:
            known = _with_known_types(function)
            if any(map(_has_shapes, known.__annotations__.values())):
                typed = remembered = _Remembered(typechecker, known)
            else:
                typed = typechecker(known)
        if remembered is None:
            return typed(*args, **kwargs)
        given = remembered.describe(args, kwargs) if kwargs or remembered.by_value else _kinds(args)
        passed = remembered.passed.get(given)
        if passed is None:
            return remembered(given, args, kwargs)
        result = function(*args, **kwargs)
        kind = _kind(result)
        if kind not in passed:
            remembered.check_result(result, args, kwargs)
            if kind is not None:
                passed.add(kind)
        return result

    return call


class _Remembered:
    """A checked function of arrays that asks once for each combination of types, shapes, dtypes and literals."""

    def __init__(self, typechecker: Callable, function: Callable) -> None:
        self.passed: dict[Any, set[Any]] = {}
        """For each combination of arguments, those of results that have passed."""
        self.results: list[Any] = []
        """The result that is to be checked, where the function has run already."""
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.names = {name for name, annotation in function.__annotations__.items() if "Literal" in repr(annotation)}
        self.places = [place for place in range(code.co_argcount) if names[place] in self.names]
        self.by_value = bool(self.names)
        """Whether the answer depends on more than types: on the values of these parameters, at these places."""
        self.known = self.names <= {*names}
        """Whether those are single parameters."""

        @functools.wraps(function)
        def work(*args: Any, **kwargs: Any) -> Any:
            return self.results.pop() if self.results else function(*args, **kwargs)

        self.typed = typechecker(work)

    def describe(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Return all that a check asks of arguments; None where that is more than can be told."""
        kinds = _kinds((*args, *kwargs.values())) if self.known else None
        if kinds is None or not self.by_value:
            return kinds and (*kinds, *kwargs)
        values = [args[place] for place in self.places if place < len(args)]
        values += [value for name, value in kwargs.items() if name in self.names]
        return (*kinds, *kwargs, *values) if all(type(value) in VALUES for value in values) else None

    def __call__(self, given: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Ask about arguments and result."""
        __tracebackhide__ = True
        with SHAPES:
            result = self.typed(*args, **kwargs)
        if given is not None:
            self.passed[given] = {_kind(result)} - {None}
        return result

    def check_result(self, result: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """Ask about a result for arguments that have passed."""
        __tracebackhide__ = True
        self.results.append(result)
        with SHAPES:
            self.typed(*args, **kwargs)


VALUES = frozenset((str, int, bool, bytes, type(None)))
"""Types of literals."""
PLAIN, ARRAY, TUPLE, HOLDER = range(4)


def _kinds(values: tuple) -> tuple | None:
    """Return all that a check asks of some values, hashable; None where that is more than types, shapes and dtypes."""
    kinds: list[Any] = []
    add = kinds.append
    for value in values:
        kind = type(value)
        sort = SORTS.get(kind)
        if sort is None:
            sort = SORTS[kind] = _sort(kind)
        add(kind)
        if sort == ARRAY:
            add(value.dtype)
            add(value.shape)
        elif sort == TUPLE:
            parts = _kinds(value)
            if parts is None:
                return None
            add(parts)
        elif sort == HOLDER:
            return None
    return tuple(kinds)


def _kind(value: Any) -> Any:
    """Return all that a check asks of a value, as `_kinds` does."""
    kind = type(value)
    sort = SORTS.get(kind)
    if sort == ARRAY:
        return kind, value.dtype, value.shape
    return kind if sort == PLAIN else _kinds((value,))


SORTS: dict[type, int] = {}


def _sort(kind: type) -> int:
    if issubclass(kind, (np.ndarray, torch.Tensor)):
        return ARRAY
    if kind is tuple:
        return TUPLE
    holders = (list, collections.abc.Mapping, collections.abc.Set, collections.deque, type)
    return HOLDER if issubclass(kind, holders) else PLAIN


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
