"""Command lines to dataclasses through tyro, with errors in one line."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import tyro

from vitreous.cli.help import FIRST, write_help
from vitreous.cli.option_names import describe_fields, format_switch, iterate_options
from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import list_alternatives
from vitreous.storage.remote import explain_remote

T = TypeVar("T")
REGISTRY = tyro.constructors.ConstructorRegistry()
"""How to read values that tyro can't read by itself."""
OF_DATA = ("data", "path", "validation", "source", "paths", "train")
"""Options and settings that may be the URL of shards or parquet files."""
ORIGINS = "allow_origin"
"""The option whose values are the beginnings of URLs."""
NARROWEST = 40
"""Least width of help, in columns: below about ten, tyro never finishes."""
OWN = ("--help", "-h", "--help-all")


def parse(kind: type[T], arguments: Sequence[str], name: str, default: T | None = None) -> T:
    """Read arguments into the dataclass `kind`; help comes from its field docstrings.

    A field that may be one of several dataclasses keeps its kind from `default`. Nested settings are not checked
    against each other here, but where they are merged into the complete settings.

    Raises:
        UnknownName: an unknown option, with the nearest known one.
        ConfigError: an unsuitable value, an argument too many, or a missing one.
    """
    refuse_former(kind, arguments)
    known = [*iterate_options(kind), *OWN]
    here = [*iterate_options(kind if default is None else default), *OWN]
    for option in iterate_named(arguments):
        if option.replace("_", "-") not in known:
            raise explain_unknown(name, option, known)
        if option.replace("_", "-") not in here:
            part = option.removeprefix("--").partition(".")[0]
            raise ConfigError(
                f"{option} is for another kind of {part} than this run's; --recipe, --model, --weights and --config choose the kind"
            )
    if name in FIRST and is_help(arguments):
        print(write_help(kind, name))
        raise SystemExit(0)
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    arguments = ["--help" if argument == "--help-all" else argument for argument in arguments]
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            extra = {} if default is None else {"default": uncheck(default)}
            marks = (tyro.conf.AvoidSubcommands, tyro.conf.HelptextFromCommentsOff)
            found = tyro.cli(kind, args=arguments, prog=f"vitreous {name}", config=marks, registry=REGISTRY, **extra)
    except SystemExit as error:
        if not error.code:
            raise
        raise ConfigError(
            f"{shorten_error(shown.getvalue())} (vitreous {name} {choose_help_option(name)} shows all options)"
        ) from None
    refuse_urls(found)
    return found


@REGISTRY.primitive_rule
def read_table(kind: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Return how a mapping of any values is read: as the contents of a TOML table."""
    if kind.type_origin is not dict:
        return None

    def read(texts: list[str]) -> dict[str, Any]:
        try:
            return tomllib.loads(f"given = {{{texts[0]}}}")["given"]
        except tomllib.TOMLDecodeError:
            raise ValueError(f'{texts[0]} is not a list such as "momentum=0.9, nesterov=true"') from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME=VALUE,...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [", ".join(f"{name}={json.dumps(one)}" for name, one in value.items())],
    )


@REGISTRY.primitive_rule
def read_choice(kind: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Return how one of several words is read if it may be left out: the default None can't be typed."""
    words, *others = typing.get_args(kind.type) or [None]
    if typing.get_origin(words) is not typing.Literal or others != [types.NoneType]:
        return None
    choices = typing.get_args(words)
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(choices)}}}",
        instance_from_str=lambda texts: texts[0],
        is_instance=lambda value: value is None or value in choices,
        str_from_instance=lambda value: [str(value)],
        choices=choices,
    )


def is_help(arguments: Sequence[str]) -> bool:
    """Return whether the short help is requested."""
    given = [*arguments, "--"]
    given = given[: given.index("--")]
    return "--help-all" not in given and ("--help" in given or "-h" in given)


def choose_help_option(command: str) -> str:
    """Return the option that shows all options of a command."""
    return "--help-all" if command in FIRST else "--help"


def explain_unknown(command: str, option: str, known: Iterable[str]) -> UnknownName:
    """Return the error for an unknown option; it says where all options are shown."""
    error = UnknownName("option", option, known)
    error.args = (f"{error}; vitreous {command} {choose_help_option(command)} shows all",)
    return error


def uncheck(settings: T) -> T:
    """Return settings whose nested settings aren't checked when they are made, since the recipe decides which go
    together."""
    values = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}  # type: ignore[arg-type]
    inner = {name: uncheck(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return derive_unchecked(type(settings))(**inner)


@functools.cache
def derive_unchecked(kind: type[T]) -> type[T]:
    """Return a dataclass like `kind`, derived from it, without its checks."""
    body = {"__post_init__": lambda self: None, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), body)


def iterate_named(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the options named in the arguments, without their values."""
    for argument in arguments:
        if argument == "--":
            return
        if argument.startswith("--"):
            yield argument.split("=", 1)[0]


def refuse_former(kind: type, arguments: Sequence[str]) -> None:
    """Refuse options of earlier versions whose name or scale has changed; the ConfigError says what to write now."""
    today_of = find_renamed(kind)
    for option in iterate_named(arguments):
        if names := today_of.get(option.replace("_", "-")):
            raise ConfigError(f"{option} is now called {' or '.join(names)}; give that")
    for prefix, settings in iterate_settings(kind):
        before: dict[str, Any] = getattr(settings, "FORMER", {})
        given = {}
        for argument, following in pairwise([*arguments, ""]):
            option, _, value = argument.partition("=")
            name = option.removeprefix(f"--{prefix}").replace("-", "_")
            if option.startswith(f"--{prefix}") and name in before:
                number = value or following
                given[name] = int(number) if number.isdecimal() else before[name]
        if given:
            today = settings.renew(**before | given)  # type: ignore[attr-defined]
            raise ConfigError(
                f"{format_options(prefix, given)} is on a former scale; its equivalent now is {format_options(prefix, today)}"
            )


def iterate_former(kind: type) -> Iterator[str]:
    """Yield the options of earlier versions that `refuse_former` knows."""
    yield from find_renamed(kind)
    for prefix, settings in iterate_settings(kind):
        yield from (f"--{prefix}{name.replace('_', '-')}" for name in getattr(settings, "FORMER", ()))


def find_renamed(kind: type) -> dict[str, list[str]]:
    """Return the options that had another name before: former name -> today's names, one per kind of settings."""
    found: dict[str, list[str]] = {}
    for prefix, settings in iterate_settings(kind):
        for old, new in getattr(settings, "RENAMED", {}).items():
            for flag in ("", "no-"):
                before, now = (f"--{prefix}{format_switch(name, flag)}" for name in (old, new))
                if now not in found.setdefault(before, []):
                    found[before].append(now)
    return found


def format_options(prefix: str, settings: Mapping[str, Any]) -> str:
    """Format settings, numbers or lists of numbers, as options."""
    return " ".join(
        f"--{prefix}{name.replace('_', '-')} {' '.join(f'{number:g}' for number in (value if isinstance(value, list) else [value]))}"
        for name, value in settings.items()
    )


def iterate_settings(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield, for each group of nested settings, the prefix of its options and its dataclass."""
    for name, hint, alias in describe_fields(kind).values():
        for member in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(member) and isinstance(member, type):
                inner = prefix if alias == "" else f"{prefix}{name}."
                yield inner, member
                yield from iterate_settings(member, inner)


def fit_kinds(settings: T, arguments: Sequence[str]) -> T:
    """Return settings in which each field that may be one of several dataclasses holds one that has all the given
    options."""
    named = {option.replace("_", "-") for option in iterate_named(arguments)}
    changed: dict[str, Any] = {}
    for name, members in list_alternatives(type(settings)).items():
        given = {option for option in named if option.startswith(f"--{name}.")}
        fitting = [member for member in members.values() if given <= set(iterate_options(member, f"{name}."))]
        if fitting and not isinstance(getattr(settings, name), tuple(fitting)):
            changed[name] = fitting[0]()
    return dataclasses.replace(settings, **changed)  # type: ignore[type-var]


def collect_named(settings: Any, arguments: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """Return the settings that the arguments name, in nested dicts, with their parsed values."""
    named = {option.replace("_", "-") for option in iterate_named(arguments)}
    found: dict[str, Any] = {}
    for field, (name, _, alias) in describe_fields(type(settings)).items():
        value = getattr(settings, field)
        if dataclasses.is_dataclass(value):
            inner = collect_named(value, arguments, prefix if alias == "" else f"{prefix}{name}.")
            found |= {field: inner} if inner else {}
        elif named & {f"--{prefix}{name}", f"--{prefix}no-{name}"}:
            found[field] = value
    return found


def refuse_urls(settings: Any) -> None:
    """Raise ConfigError for a URL in a setting that needs a path or a name rather than data."""
    for name, value in ((field.name, getattr(settings, field.name)) for field in dataclasses.fields(settings)):
        if name == ORIGINS:
            continue
        for text in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(text):
                refuse_urls(text)
            elif isinstance(text, str) and (reason := explain_remote(text, data=name in OF_DATA)):
                raise ConfigError(reason)


REWRITES = (
    (
        r"(?:Invalid choice )?[Ii]nvalid choice (.+) for argument '(.+?)'\. Expected one of \((.*?),?\) ?\.",
        r"\2 is \1; it must be one of \3",
    ),
    (r"(--\S+): invalid literal for int\(\) with base 10: (.+)", r"\1 is \2; it must be a whole number"),
    (r"(--\S+): could not convert string to float: (.+)", r"\1 is \2; it must be a number"),
    (r"(--\S+): no type matching (.+) could be instantiated from \[(.*?)\]\. Got errors.*", r"\1 is \3; it must be \2"),
    (
        r"(?:Missing argument )?Missing value for argument '(--\S+)'\. Expected 1 values\.",
        r"\1 needs a value",
    ),
    (
        r"(?:Missing argument )?Missing value for argument '(--\S+)'\. Expected (\d+) values\.",
        r"\1 needs \2 values",
    ),
    (r"(--\S+): Could not find valid parse for arguments: \[(.*)\]", r"\1 can't be read: \2"),
    (r"Missing from vitreous \w+: (.+)", lambda found: explain_missing(found[1])),
    (r"Unrecognized options: (.+)", r"unknown argument \1"),
    (r"; it must be \{None\}\|\{(.+)\}", r"; it must be \1"),
    (r"; it must be \{None\}\|FLOAT$", "; it must be a number"),
    (r"; it must be \{auto\}\|\{\[FLOAT \[FLOAT \.\.\.\]\]\}", "; it must be auto, or numbers"),
    (r"; it must be INT\|\{([a-z]+)\}", r"; it must be a whole number, or \1"),
    (r"; it must be INT INT", "; it must be two whole numbers"),
    (r"; it must be \[INT \[INT \.\.\.\]\]", "; it must be whole numbers"),
    (r"; it must be INT FLOAT", "; it must be a whole number and a number"),
    (r"; it must be \{([a-z, ]+)\}\|INT", r"; it must be one of \1, or a whole number"),
    (r"(--\S+) is ; it must be (.+)", r"\1 needs \2"),
    (
        r"(--\S+): Could not parse arguments \[(.*)\] into tuple type .*\[int, float\].*",
        r"\1 is \2; it must be a whole number and a number",
    ),
)
"""tyro's messages, and vitreous's wording of each."""


def explain_missing(text: str) -> str:
    """Say which arguments are missing; if it is only one, also say what it is.

    >>> explain_missing("SOURCE A file. (required) --out STR The folder to write. (required)")
    'SOURCE and --out are missing'
    >>> explain_missing("--out STR The folder to write. (required)")
    '--out is missing: the folder to write'
    """
    names, words = [], []
    for one in filter(str.strip, text.split("(required)")):
        name, _, said = one.strip().partition(" ")
        names.append(name)
        words.append(said.partition(" ")[2] if name.startswith("--") else said)  # an option's type comes first
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} are missing"
    said = words[0].partition(". ")[0].rstrip(".")
    return f"{names[0]} is missing: {said[:1].lower()}{said[1:]}"


def shorten_error(text: str) -> str:
    """Return tyro's boxed message as one line."""
    words = re.sub(r"[╭╮╰╯│─┌┐└┘]", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))
    words = re.sub(r"\s+", " ", words).strip()
    words = re.sub(r"For full helptext.*", "", words)
    words = re.sub(r"Argument helptext:.*", "", words)
    words = re.sub(r"^(Parsing error|Required options|Unrecognized options|Value error)\s*:?\s*", "", words)
    words = words.removeprefix("Error parsing ").strip()
    for pattern, replacement in REWRITES:
        words = re.sub(f"^{pattern}$" if not pattern.startswith(";") else pattern, replacement, words)
    return words[:300]
