"""Translate arguments in other trainers' words, or in the form key=value, into vitreous's own."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from vitreous.cli.aliases import (
    CONVERTED,
    IMAGE_SIZES,
    INSTEAD,
    PLACES,
    PROJECT,
    RENAMED,
    Convert,
    get_value,
    translate_device,
)
from vitreous.cli.option_names import format_switch, iterate_options, iterate_positional
from vitreous.cli.options.commands import OPTIONS, load_options
from vitreous.cli.parse import OWN, explain_unknown, iterate_former, iterate_named
from vitreous.errors import ConfigError
from vitreous.storage.presence import path_exists

KEY_VALUE = re.compile(r"(?P<key>[A-Za-z][\w.-]*)=(?P<value>.*)", re.DOTALL)

ON, OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
"""Values of a switch."""

NAMING = ("serve",)
"""Commands whose arguments users may prefix with names: NAME=MODEL."""


@dataclass
class Words:
    """A command's arguments while they are translated."""

    command: str
    kind: type
    """The dataclass of the command's options."""
    out: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Positional arguments that were given by name."""
    spellings: dict[str, str] = field(default_factory=dict)
    """For each option that was given by another name: what was typed."""

    def __post_init__(self) -> None:
        self.positional = tuple(iterate_positional(self.kind))
        self.own = [
            *(name for name in iterate_options(self.kind) if name.removeprefix("--") not in self.positional),
            *OWN,
        ]

    def convert(self, name: str) -> Convert | None:
        """Return the conversion of an alias into arguments of this command; None for an unknown name."""
        place = next((place for place in PLACES.get(name, ()) if place in self.positional), None)
        if place is not None:
            return lambda name, values: self.places.setdefault(place, []).append(get_value(name, values)) or []
        option, convert = CONVERTED.get(name, (None, None))
        if option in self.own:
            return convert
        if RENAMED.get(name) in self.own:
            return lambda name, values: [RENAMED[name], get_value(name, values)]
        return None

    def list_names(self) -> Iterator[str]:
        """Yield all names that the command knows, its own first."""
        yield from self.own
        yield from (name for name in (*RENAMED, *CONVERTED, *PLACES) if self.convert(name) and name not in self.own)

    def switch(self, name: str) -> bool:
        """Return whether one of the command's own options takes no value."""
        return name in OWN or negate(name) in self.own or re.search(r"(--|\.)no-", name) is not None


def negate(name: str) -> str:
    """Return the option that turns a switch off."""
    return f"--{format_switch(name.removeprefix('--'), 'no-')}"


def translate_arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments in its own words.

    Raises:
        UnknownName: a name that isn't an option; the message suggests the nearest.
        ConfigError: an empty value, a name that means something else here, or a setting given under two names.
    """
    refuse_empty(arguments)
    if command not in OPTIONS:
        return list(arguments)
    words, rest = Words(command, load_options(command)), list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        name, value = split_argument(words, argument)
        if name is None:
            words.out.append(argument)
        elif name in words.own:
            keep_option(words, name, value, rest)
        else:
            convert_option(words, name, argument, value, rest)
    refuse_doubles(words)
    return [*place_arguments(words), *rest]


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty value, which would be read as the current folder; raises ConfigError."""
    for before, argument in pairwise(("", *arguments)):
        name, equals, value = argument.partition("=")
        if argument == "" or (name.startswith("--") and equals and not value):
            named = name or (before if before.startswith("--") and "=" not in before else "an argument")
            raise ConfigError(f"{named} is empty; give a value, or leave it out (a shell variable that isn't set?)")


def split_argument(words: Words, argument: str) -> tuple[str | None, str | None]:
    """Return the option that an argument names, and its value if it contains one; (None, None) for an argument that is
    a value.

    An existing file with a name like key=value is a file. An unknown short option is left for the command to refuse.
    """
    match = None if argument.startswith("-") or path_exists(argument) else KEY_VALUE.fullmatch(argument)
    if match is not None and words.command in NAMING and path_exists(match["value"]):
        return None, None
    if match is not None:
        name, value = f"--{match['key']}", match["value"]
    elif argument.startswith("--") or argument.partition("=")[0] in RENAMED:
        name, equals, value = argument.partition("=")
        value = value if equals else None
    else:
        return None, None
    name = name.replace("_", "-")
    if name not in words.own and not words.convert(name):
        if match is not None and words.command in NAMING:
            return None, None
        if name in INSTEAD:
            raise ConfigError(f"{name} is not an option of vitreous {words.command}: {INSTEAD[name]}")
        if name in iterate_former(words.kind):
            return None, None
        if words.command == "resume" and name in (*iterate_options(load_options("train")), *RENAMED, *CONVERTED):
            from vitreous.training.changes import format_options as may_change

            instead = "To train with another, begin a new run from its weights: vitreous train DATA --weights RUN"
            if name == "--export":
                instead = "If a run exports another model, its best one is in RUN/best"
            raise ConfigError(
                f"{name} was fixed when the run began and can't change; what can change is {may_change()}. {instead}"
            )
        raise explain_unknown(words.command, name, words.list_names())
    return name, value


def keep_option(words: Words, name: str, value: str | None, rest: list[str]) -> None:
    """Pass on one of the command's own options with its value; raises ConfigError for a switch that is neither true nor
    false."""
    if words.switch(name):
        words.out.append(turn_switch(words, name, value))
        return
    if value is None:
        words.out.append(name)
        if rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            words.out.append(translate_device(value) if name == "--device" else value)
            words.out += repeat_side(name, [value], rest)
    elif name == "--image":
        sides = split_numbers(value)
        words.out += [name, *sides, *repeat_side(name, sides, rest)]
    else:
        words.out.append(f"{name}={translate_device(value) if name == '--device' else value}")


def turn_switch(words: Words, name: str, value: str | None) -> str:
    """Return the option that a switch with a value means, as in --compile=false; raises ConfigError for another value."""
    if value is None or value.lower() in ON:
        return name
    opposite = negate(name)
    if opposite not in words.own:
        raise ConfigError(f"{name} takes no value; leave out {value!r}")
    if value.lower() not in OFF:
        raise ConfigError(f"{name} is a switch and can't be {value!r}; give {name} or {opposite}, or true or false")
    return opposite


def convert_option(words: Words, name: str, argument: str, value: str | None, rest: list[str]) -> None:
    """Translate an alias with its values into the command's own words; raises ConfigError."""
    shown, values = argument, []
    if value is not None:
        values = split_numbers(value) if name in IMAGE_SIZES else [value]
    else:
        while rest and not rest[0].startswith("-") and (not values or (name in IMAGE_SIZES and rest[0].isdecimal())):
            values.append(rest.pop(0))
        shown = " ".join([argument, *values])
    convert = words.convert(name)
    assert convert is not None
    found = convert(name, values)
    for option in iterate_named(found):
        if option in words.spellings:
            raise ConfigError(f"{words.spellings[option]} and {shown} are the same setting, {option}; give one of them")
        words.spellings[option] = shown
    words.out += found


def split_numbers(value: str) -> list[str]:
    """Return the numbers of 224,224 or [224, 224]."""
    return re.split(r"[,\sx]+", value.strip("[]() "))


def repeat_side(name: str, sides: list[str], rest: list[str]) -> list[str]:
    """Return a single number of --image as the columns too, unless the columns follow."""
    alone = name == "--image" and len(sides) == 1 and sides[0].isdecimal() and not (rest and rest[0].isdecimal())
    return sides if alone else []


def refuse_doubles(words: Words) -> None:
    """Refuse a setting that is given under two names, and join --project and --name into the run folder."""
    given = list(iterate_named(words.out))
    for option, shown in words.spellings.items():
        if given.count(option) > 1:
            raise ConfigError(f"{shown} and {option} are the same setting; give one of them")
    if PROJECT in words.out:
        at = words.out.index(PROJECT)
        parent = words.out[at + 1]
        del words.out[at : at + 2]
        if not re.match(r"(--)?(name|run|exp)", words.spellings.get("--out", "")):
            raise ConfigError(
                f"{words.spellings[PROJECT]} says where runs are kept; give --name too, or the run folder with --out"
            )
        at = words.out.index("--out") + 1
        words.out[at] = str(Path(parent, words.out[at].removeprefix("runs/")))


def place_arguments(words: Words) -> list[str]:
    """Put positional arguments that were given by name into their places; raises ConfigError."""
    leading = next((at for at, word in enumerate(words.out) if word.startswith("-")), len(words.out))
    bare = words.out[:leading]
    for at, place in enumerate(words.positional):
        if place in words.places and at > len(bare):
            first = words.positional[len(bare)].upper()
            raise ConfigError(
                f"{words.places[place][0]} comes after {first} in vitreous {words.command}; give {first} too"
            )
        bare[at:at] = words.places.get(place, [])
    return [*bare, *words.out[leading:]]


def batch_auto(arguments: list[str]) -> list[str]:
    """Read `--batch auto` as `--micro-batch auto`: the recipe's batch stays, in micro-batches that fit into memory."""
    joined = ["--micro-batch=auto" if argument == "--batch=auto" else argument for argument in arguments]
    for place in range(len(joined) - 1):
        if joined[place : place + 2] == ["--batch", "auto"]:
            joined[place] = "--micro-batch"
    return joined
