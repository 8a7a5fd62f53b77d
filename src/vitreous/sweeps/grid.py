"""The settings that a sweep tries: every combination of some values, or a list of combinations."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import flatten
from vitreous.storage.presence import expand_home
from vitreous.training.config import START
from vitreous.training.config_file import check_text, find_file, list_settings, read_document
from vitreous.training.other_names import explain_name, find_own_name

BESIDE = ("recipe", "model", "image", "channels", "minutes", *START)
"""What may be varied besides the settings of a run: what the recipe starts from."""
FIXED = {
    "seed": "give --seeds",
    **dict.fromkeys(
        (
            "data.path",
            "data.validation",
            "data.holdout",
            "data.split_seed",
            "data.folds",
            "data.fold",
            "data.tuning_holdout",
            "data.test_split",
        ),
        "it changes the images by which settings are compared",
    ),
}
"""Settings that can't be varied, and why."""
MOST = 10_000
"""Most settings of a sweep."""

Variant = dict[str, Any]
"""One of the things that a sweep tries: values by dotted name."""


def read_variations(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each name in texts such as "optimizer.lr=1e-3,3e-3"; raises ConfigError.

    >>> read_variations(["optimizer.lr=1e-3,0.003", "model=S/16,B/16", "image=[64,64],[96,96]"])
    {'optimizer.lr': [0.001, 0.003], 'model': ['S/16', 'B/16'], 'image': [[64, 64], [96, 96]]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not (equals and name and values.strip()):
            raise ConfigError(f"--set is {text!r}; it must be a name and its values, such as optimizer.lr=1e-3,3e-3")
        if name in found:
            raise ConfigError(f"--set gives {name} twice; give all its values at once, separated by commas")
        found[name] = read_values(values)
    return found


def read_values(text: str) -> list[Any]:
    """Return the values in a text, separated by commas: JSON, or words."""
    try:
        return list(json.loads(f"[{text}]", parse_constant=str))
    except (ValueError, RecursionError):
        return [read_value(one.strip()) for one in text.split(",")]


def read_value(text: str) -> Any:
    """Return a number, true, false or null, or else the text."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def read_grid(path: str) -> Any:
    """Return the contents of a file of JSON or TOML; raises ConfigError, CheckpointError."""
    file = find_file(path, "--grid")
    if file != expand_home(path):
        raise ConfigError(f"{path} is a folder; --grid needs a file of JSON or TOML")
    document = read_document(file)
    try:
        check_text(document)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return document


def list_file_variants(path: str) -> list[Variant]:
    """Return the variants of a file of JSON or TOML; raises what `read_grid` and `list_variants` raise."""
    found = list_variants(read_grid(path), path)
    for one in found:
        if ":" in str(name := flatten(one).get("optimizer.name")):  # a file must not choose what code is run
            raise ConfigError(f"{path} names the optimizer {name}; if you trust it, give it with --set optimizer.name=")
    return found


def list_variants(grid: Any, where: str = "grid") -> list[Variant]:
    """Return the variants of a grid: of an object with a list of values for each name (nested or with dots) every
    combination, the last name varying fastest; of a list of objects each as it is.

    >>> list_variants({"optimizer": {"lr": [0.1, 0.3]}, "batch": [64]})
    [{'optimizer.lr': 0.1, 'batch': 64}, {'optimizer.lr': 0.3, 'batch': 64}]
    >>> list_variants([{"batch": 64}, {"batch": 128, "optimizer.lr": 0.3}])
    [{'batch': 64}, {'batch': 128, 'optimizer.lr': 0.3}]

    Raises:
        ConfigError: anything else, or a name that can't be varied. UnknownName: no such setting.
    """
    if isinstance(grid, Mapping):
        values = flatten(grid)
        for name, one in values.items():
            if not isinstance(one, list | tuple) or not one:
                raise ConfigError(f"{where}: {name} is {one!r:.80}; it must be a list of values to try")
        check_names(values, where)
        for name, one in values.items():  # a value may be a whole section
            check_names(itertools.chain.from_iterable(flatten({name: choice}) for choice in one), where)
        count = 1
        for one in values.values():
            count *= len(one)
        if count > MOST:
            raise ConfigError(f"{where} has {count:,} combinations, more than {MOST:,}; vary less at once")
        plain = [take_plain(one) for one in values.values()]
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*plain)]
    if isinstance(grid, list | tuple) and all(isinstance(one, Mapping) for one in grid) and 0 < len(grid) <= MOST:
        found = [{name: take_plain(value) for name, value in flatten(one).items()} for one in grid]
        check_names(itertools.chain.from_iterable(found), where)
        return found
    raise ConfigError(
        f"{where} must be an object with a list of values for each name, or a list of 1 to {MOST:,} objects of settings"
    )


def combine_variants(first: Sequence[Variant], second: Sequence[Variant]) -> list[Variant]:
    """Return every combination of two lists of variants; raises ConfigError for a name in both, or a combination that
    comes twice."""
    if both := {*itertools.chain(*first)} & {*itertools.chain(*second)}:
        raise ConfigError(f"{min(both)} is varied by both --set and --grid; leave out one")
    if len(first) * len(second) > MOST:
        raise ConfigError(f"{len(first) * len(second):,} combinations are more than {MOST:,}; vary less at once")
    found = [{**one, **other} for one in first for other in second]
    seen: set[str] = set()
    for one in found:
        key = json.dumps({name: unify(value) for name, value in flatten(one).items()}, sort_keys=True)
        if key in seen:
            raise ConfigError(f"{format_values(one) or 'the setting'} is tried twice; give each value once")
        seen.add(key)
    return found


def unify(value: Any) -> Any:
    """Return a value in the form in which equal ones are the same text: 1.0 as 1, a list for a tuple."""
    if isinstance(value, list | tuple):
        return [unify(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def take_plain(value: Any) -> Any:
    """Return a value of Python as JSON has it: a path as text, a number of NumPy's as a number; raises ConfigError."""
    if isinstance(value, Mapping):
        return {str(name): take_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [take_plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    found = value.item() if getattr(value, "shape", None) == () else value
    if found is not None and not isinstance(found, bool | int | float | str):
        raise ConfigError(f"{value!r:.80} can't be tried; give numbers, texts, None, True, False, or lists of these")
    return found


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse what can't be varied; raises ConfigError, UnknownName."""
    known = [*BESIDE, *(name for name in list_settings() if name not in FIXED)]
    for name in names:
        if name in FIXED:
            raise ConfigError(f"{where}: {name} can't be varied: {FIXED[name]}")
        if name.partition(".")[0] not in {one.partition(".")[0] for one in known}:
            own, _ = find_own_name(name)
            if own in FIXED:
                raise ConfigError(f"{where}: {own}, called {name} here, can't be varied: {FIXED[own]}")
            if meant := explain_name(name, known):
                raise ConfigError(f"{where}: unknown setting {name!r}; {meant}")
            raise UnknownName("setting", name, known)


def nest(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted name as nested settings.

    >>> nest({"optimizer.lr": 0.1, "batch": 64})
    {'optimizer': {'lr': 0.1}, 'batch': 64}
    """
    found: dict[str, Any] = {}
    for name, value in variant.items():
        *above, last = name.split(".")
        place = found
        for one in above:
            place = place.setdefault(one, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name} is within {one}, which is given a value too; leave out one of them")
        if isinstance(place.get(last), dict):
            raise ConfigError(f"{name} is given a value, and so is a setting within it; leave out one of them")
        place[last] = value
    return found


def format_values(variant: Mapping[str, Any]) -> str:
    """Format a variant in a line: optimizer.lr=0.001, model=S/16."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in variant.items())


def format_value(value: Any) -> str:
    """Format a value as it may be typed."""
    return value if isinstance(value, str) else json.dumps(value)
