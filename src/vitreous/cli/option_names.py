"""A command's options, from the dataclass that holds them: names, types, and positional arguments."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import tyro

from vitreous.settings import list_alternatives


def iterate_options(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of all options of a dataclass, nested ones with dots.

    For a field that may be one of several dataclasses: the options of all of them or, if `kind` is an instance, of the
    one it holds.
    """
    several = list_alternatives(kind if isinstance(kind, type) else type(kind))
    for field, (name, hint, alias) in describe_fields(kind if isinstance(kind, type) else type(kind)).items():
        value = None if isinstance(kind, type) else getattr(kind, field)
        if field in several and value is None:
            members = several[field].values()
            yield from dict.fromkeys(
                option for member in members for option in iterate_options(member, f"{prefix}{name}.")
            )
        elif field in several or dataclasses.is_dataclass(hint):
            yield from iterate_options(hint if value is None else value, prefix if alias == "" else f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}"
            if hint is bool:
                yield f"--{format_switch(f'{prefix}{name}', 'no-')}"


def format_switch(name: str, flag: str) -> str:
    """Return a setting's dotted name as an option, with a prefix such as "no-" to its last word."""
    head, dot, tail = name.replace("_", "-").rpartition(".")
    return f"{head}{dot}{flag}{tail}"


def describe_fields(kind: type) -> dict[str, tuple[str, Any, str | None]]:
    """Return the name of each field's option, its type, and its name from an annotation, if there is one."""
    found = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, alias = hints[field.name], None
        while typing.get_origin(hint) is typing.Annotated:
            alias = next((mark.name for mark in hint.__metadata__ if getattr(mark, "name", None) is not None), alias)
            hint = typing.get_args(hint)[0]
        found[field.name] = (alias or field.name.replace("_", "-"), hint, alias)
    return found


def iterate_positional(kind: type) -> Iterator[str]:
    """Yield the names of a command's positional arguments, in order."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            yield name
