"""Names of a model's outputs, from the command line or from a file. Imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import category

from vitreous.characters import UNREADABLE
from vitreous.errors import ConfigError
from vitreous.settings import refuse_double_keys
from vitreous.storage.presence import is_file

MOST_BYTES = 64 * 2**20
"""Most bytes of a file of names."""


def read_labels(text: str) -> tuple[str, ...]:
    """Return the labels in a text, separated by commas, or those in the file that it names.

    A file is UTF-8: one name per line; or, if its name ends in .json, a list of names, or names by their number.

    Raises:
        ConfigError: no names, an empty or a repeated one (the message says in which line), or a file that can't be
            read.
    """
    if is_file(text):
        return read_label_file(Path(text))
    if text.lower().endswith((".txt", ".json")):
        raise ConfigError(f"--labels {text}: no such file")
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise ConfigError(
            f"--labels {text!r} names no class; give names separated by commas, or a file with one per line"
        )
    return found


def clean_labels(names: Sequence[Any], count: int) -> tuple[str, ...]:
    """Return the names that come with foreign weights; empty unless there is one for each output.

    A control character, or half of one of two, becomes a space. A name of several outputs (ImageNet has two cranes) gets the
    number of the output appended when it is repeated.
    """
    if len(names) != count or not all(isinstance(name, (str, int, float)) for name in names):
        return ()
    found: dict[str, None] = {}
    for number, given in enumerate(names):
        name = "".join(" " if category(one) in UNREADABLE else one for one in str(given)).strip()
        if not name:
            return ()
        while name in found:
            name = f"{name} ({number})"
        found[name] = None
    return tuple(found)


def read_label_file(path: Path) -> tuple[str, ...]:
    """Return the names in a file, in their order; raises ConfigError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; it can't be a list of labels")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the labels in {path}: {error}") from error
    if path.suffix.lower() == ".json":
        return check_distinct(parse_json_labels(text, path), path, "entry")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return check_distinct([line.strip() for line in lines], path, "line")


def parse_json_labels(text: str, path: Path) -> list[Any]:
    """Return the names in JSON: a list, or an object from numbers (0, 1, ...) to names; raises ConfigError."""
    expected = 'expected a list of names, or an object of names by number, such as {"0": "cat", "1": "dog"}'
    try:
        given = json.loads(text, object_pairs_hook=refuse_double_keys)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON ({str(error)[:80]}); {expected}") from error
    if isinstance(given, dict):
        lacking = next((number for number in range(len(given)) if str(number) not in given), None)
        if lacking is not None:
            raise ConfigError(f"{path} has {len(given)} entries but none for {lacking}; {expected}")
        given = [given[str(number)] for number in range(len(given))]
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"{path} holds something else; {expected}")
    return [name.strip() for name in given]


def check_distinct(names: Sequence[str], path: Path, unit: str) -> tuple[str, ...]:
    """Return the names if all are present and different; raises ConfigError for the first that isn't."""
    if not names:
        raise ConfigError(f"{path} names no class; expected one name per line")
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise ConfigError(f"{path}: {unit} {number} is empty; each output needs a name")
        if name in first:
            raise ConfigError(f"{path}: {unit} {number} is {name!r}, like {unit} {first[name]}; names must differ")
        first[name] = number
    return tuple(names)
