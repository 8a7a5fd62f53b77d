"""Command lines to dataclasses through tyro, with errors in one line."""

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

from vitreous.errors import ConfigError, UnknownName

T = TypeVar("T")
OWN = ("--help", "-h")


def parse(kind: type[T], arguments: Sequence[str], name: str, default: T | None = None) -> T:
    """Read arguments into the dataclass `kind`; help comes from its field docstrings.

    Raises:
        UnknownName: an option that there is not, with the nearest.
        ConfigError: a value that doesn't fit its option, or an argument too many or too few.
    """
    known = [*options(kind), *OWN]
    for argument in arguments:
        if argument == "--":
            break
        option = argument.split("=", 1)[0]
        if option.startswith("--") and option.replace("_", "-") not in known:
            raise UnknownName("option", option, known)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            extra = {} if default is None else {"default": default}
            return tyro.cli(kind, args=arguments, prog=f"vitreous {name}", **extra)
    except SystemExit as error:
        if not error.code:
            raise
        raise ConfigError(f"{one_line(shown.getvalue())} (vitreous {name} --help shows all options)") from None


def options(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of all options of a dataclass, nested ones with dots."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, flat = hints[field.name], False
        while typing.get_origin(hint) is typing.Annotated:
            flat = flat or any(getattr(mark, "name", None) == "" for mark in hint.__metadata__)
            hint = typing.get_args(hint)[0]
        name = field.name.replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from options(hint, prefix if flat else f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}"
            if hint is bool:
                head, _, tail = f"{prefix}{name}".rpartition(".")
                yield f"--{head}.no-{tail}" if head else f"--no-{tail}"


def one_line(text: str) -> str:
    """Take the words out of tyro's boxes."""
    words = re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─┌┐└┘]", " ", text)
    words = re.sub(r"For full helptext.*", " ", words, flags=re.DOTALL)
    words = re.sub(r"\s+", " ", words).strip()
    words = re.sub(r"Argument helptext:.*", "", words)
    words = re.sub(r"^(Parsing error|Required options|Unrecognized options|Value error)\s*:?\s*", "", words)
    return words.removeprefix("Error parsing ").strip()[:300]
