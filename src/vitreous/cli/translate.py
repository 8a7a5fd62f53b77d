"""Arguments in other trainers' words, and in the style key=value, to this program's own, before a command reads them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitreous.cli.aliases import CONVERTED, INSTEAD, PLACES, PROJECT, RENAMED, SIZES, Convert, device, one
from vitreous.cli.option_names import options, positional
from vitreous.cli.options.commands import KINDS
from vitreous.cli.parse import OWN, former, named, unknown_option
from vitreous.errors import ConfigError
from vitreous.storage.presence import path_exists
from vitreous.training.changes import format_options as may_change

KEY_VALUE = re.compile(r"(?P<key>[A-Za-z][\w.-]*)=(?P<value>.*)", re.DOTALL)


@dataclass
class Words:
    """A command's arguments as they are put together."""

    command: str
    kind: type
    """The dataclass of the command's options."""
    out: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    """What was given by a name for an argument that has none here."""
    said: dict[str, str] = field(default_factory=dict)
    """Of an option that was given by another name: how that was typed."""

    def __post_init__(self) -> None:
        self.positional = tuple(positional(self.kind))
        self.own = [*(name for name in options(self.kind) if name.removeprefix("--") not in self.positional), *OWN]

    def convert(self, name: str) -> Convert | None:
        """Return what turns one of the field's names into arguments of this command; None if it is none here."""
        place = next((place for place in PLACES.get(name, ()) if place in self.positional), None)
        if place is not None:
            return lambda name, values: self.places.setdefault(place, []).append(one(name, values)) or []
        option, convert = CONVERTED.get(name, (None, None))
        if option in self.own:
            return convert
        if RENAMED.get(name) in self.own:
            return lambda name, values: [RENAMED[name], one(name, values)]
        return None

    def known(self) -> Iterator[str]:
        """Yield all the names that mean something here, the command's own first."""
        yield from self.own
        yield from (name for name in (*RENAMED, *CONVERTED, *PLACES) if self.convert(name) and name not in self.own)

    def switch(self, name: str) -> bool:
        """Tell whether an option of the command's own takes no value."""
        head, _, tail = name.removeprefix("--").rpartition(".")
        no = f"--{head}.no-{tail}" if head else f"--no-{tail}"
        return name in OWN or no in self.own or re.search(r"(--|\.)no-", name) is not None


def translated(command: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments in its own words.

    Raises:
        UnknownName: a name that is no option, with the nearest.
        ConfigError: a name that means something else here, or a setting that is given twice by different names.
    """
    if command not in KINDS:
        return list(arguments)
    words, rest = Words(command, KINDS[command]), list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        name, value = divided(words, argument)
        if name is None:
            words.out.append(argument)
        elif name in words.own:
            keep(words, name, value, rest)
        else:
            take(words, name, argument, value, rest)
    refuse_doubles(words)
    return [*placed(words), *rest]


def divided(words: Words, argument: str) -> tuple[str | None, str | None]:
    """Return the option that an argument names, and the value that it brings; (None, None) for what is a value itself.

    A file whose name reads as key=value is a file; a short option that is unknown is left to the command to refuse.
    """
    match = None if argument.startswith("-") or path_exists(argument) else KEY_VALUE.fullmatch(argument)
    if match is not None:
        name, value = f"--{match['key']}", match["value"]
    elif argument.startswith("--") or argument.partition("=")[0] in RENAMED:
        name, equals, value = argument.partition("=")
        value = value if equals else None
    else:
        return None, None
    name = name.replace("_", "-")
    if name not in words.own and not words.convert(name):
        if name in INSTEAD:
            raise ConfigError(f"{name} is no option of vitreous {words.command}: {INSTEAD[name]}")
        if name in former(words.kind):
            return None, None
        if words.command == "resume" and name in (*options(KINDS["train"]), *RENAMED, *CONVERTED):
            raise ConfigError(
                f"{name} was settled when the run began, and can't change; what may change is {may_change()}. To train on "
                "with another, begin a new run from its weights: vitreous train DATA --weights RUN"
            )
        raise unknown_option(words.command, name, words.known())
    return name, value


def keep(words: Words, name: str, value: str | None, rest: list[str]) -> None:
    """Pass on an option of the command's own, with its value."""
    if words.switch(name):
        off = value is not None and value.lower() in ("false", "no", "0")
        head, _, tail = name.removeprefix("--").rpartition(".")
        words.out.append((f"--{head}.no-{tail}" if head else f"--no-{tail}") if off else name)
        return
    if value is None:
        words.out.append(name)
        if rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            words.out.append(device(value) if name == "--device" else value)
    elif name == "--image":
        words.out += [name, *numbers(value)]
    else:
        words.out.append(f"{name}={device(value) if name == '--device' else value}")


def take(words: Words, name: str, argument: str, value: str | None, rest: list[str]) -> None:
    """Put one of the field's names, with its values, into the command's own words; raises ConfigError."""
    shown, values = argument, []
    if value is not None:
        values = numbers(value) if name in SIZES else [value]
    else:
        while rest and not rest[0].startswith("-") and (not values or (name in SIZES and rest[0].isdecimal())):
            values.append(rest.pop(0))
        shown = " ".join([argument, *values])
    convert = words.convert(name)
    assert convert is not None
    found = convert(name, values)
    for option in named(found):
        if option in words.said:
            raise ConfigError(f"{words.said[option]} and {shown} are the same setting, {option}; give one of them")
        words.said[option] = shown
    words.out += found


def numbers(value: str) -> list[str]:
    """Return the numbers of 224,224 or [224, 224]."""
    return re.split(r"[,\sx]+", value.strip("[]() "))


def refuse_doubles(words: Words) -> None:
    """Refuse a setting that is given by its own name too, and join the run's folder from --project and --name."""
    given = list(named(words.out))
    for option, shown in words.said.items():
        if given.count(option) > 1:
            raise ConfigError(f"{shown} and {option} are the same setting; give one of them")
    if PROJECT in words.out:
        at = words.out.index(PROJECT)
        parent = words.out[at + 1]
        del words.out[at : at + 2]
        if not re.match(r"(--)?(name|run|exp)", words.said.get("--out", "")):
            raise ConfigError(
                f"{words.said[PROJECT]} says where runs are kept; give --name too, or the run folder with --out"
            )
        at = words.out.index("--out") + 1
        words.out[at] = str(Path(parent, words.out[at].removeprefix("runs/")))


def placed(words: Words) -> list[str]:
    """Put what was given by a name where it stands without one; raises ConfigError."""
    leading = next((at for at, word in enumerate(words.out) if word.startswith("-")), len(words.out))
    bare = words.out[:leading]
    for at, place in enumerate(words.positional):
        if place in words.places and at > len(bare):
            first = words.positional[len(bare)].upper()
            raise ConfigError(
                f"{words.places[place][0]} comes after {first} in vitreous {words.command}; name that first"
            )
        bare[at:at] = words.places.get(place, [])
    return [*bare, *words.out[leading:]]


def batch_auto(arguments: list[str]) -> list[str]:
    """Read `--batch auto` as `--micro-batch auto`: the recipe's batch stays, gathered from parts that fit."""
    joined = ["--micro-batch=auto" if argument == "--batch=auto" else argument for argument in arguments]
    for place in range(len(joined) - 1):
        if joined[place : place + 2] == ["--batch", "auto"]:
            joined[place] = "--micro-batch"
    return joined
