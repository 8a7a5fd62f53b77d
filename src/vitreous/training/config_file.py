"""Settings from a file: a run's config.json, other JSON or TOML, complete or only a few of them.

Settings may also come from a folder that holds such a file (a run, the model in it, a search of rates, a
cross-validation), a mapping, or a RunConfig.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import check_partial, flatten, from_dict, to_dict
from vitreous.storage.limits import check_file, read_json
from vitreous.storage.presence import expand_home, explain_absence, explain_url, path_exists
from vitreous.storage.relocation import locate
from vitreous.storage.run_config import CONFIG, FORMAT_KEY, READABLE, find_run
from vitreous.training.config import RunConfig
from vitreous.training.other_names import explain_name
from vitreous.training.rules import find_outdated
from vitreous.training.settings_check import check_values

GROUPS = {
    "folds.json": "vitreous_folds",
    "rates.json": "vitreous_rates",
    "sweep.json": "vitreous_sweep",
    "self-training.json": "vitreous_self_training",
}
"""Files with the common settings of several runs, by the key that identifies them."""
MODEL = "vitreous_model"
MOST_TOML = 2**20
"""Most bytes of a TOML file."""
MOST_DEPTH = 32
"""Deepest nesting of objects; settings are four deep."""
OTHERS = {
    "model_type": "the configuration of a model of Hugging Face's transformers",
    "architectures": "the configuration of a model of Hugging Face's transformers",
    "pretrained_cfg": "the configuration of a model of timm",
    "model_cfg": "the configuration of a model of OpenCLIP",
}
"""Keys by which other JSON files named config.json are recognised."""


@dataclass(frozen=True)
class StartOptions:
    """Options of `vitreous train` for what a recipe starts from, which a file may hold in addition to settings."""

    model: str | None = None
    image: tuple[int, int] | None = None
    channels: int | None = None
    minutes: float | None = None


START_NAMES = tuple(one.name for one in fields(StartOptions))


@cache
def list_settings() -> tuple[str, ...]:
    """Return the dotted names of all settings of a run."""
    return tuple(flatten(to_dict(RunConfig())))


@dataclass(frozen=True)
class ConfigFile:
    """Settings that override a recipe's choice, and that the command line overrides."""

    name: str
    """Where they come from, for messages."""
    settings: dict[str, Any]
    """The settings, nested as in RunConfig, under current names; not checked against one another."""
    start: dict[str, Any] = field(default_factory=dict)
    """What the recipe starts from: see `StartOptions`."""
    notices: tuple[str, ...] = ()


def read_config_file(source: str | Path | Mapping[str, Any] | RunConfig) -> ConfigFile:
    """Read settings.

    Raises:
        ConfigError: there is nothing at the path, the file can't be read or is of another kind, or settings are
        unknown, of the wrong type or out of range; the message names the file and the setting. CheckpointError: the
        file is not a configuration.
    """
    if isinstance(source, RunConfig):
        return ConfigFile("config", to_dict(source))
    if isinstance(source, Mapping):
        return read_settings("config", source)
    path = find_file(str(source))
    document = read_document(path)
    try:
        check_text(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} holds no settings: it is not an object, such as {{"optimizer": {{"lr": 0.001}}}}')
    if MODEL in document:
        raise ConfigError(
            f"{path} belongs to a model folder, which holds no training settings; to begin from its weights, "
            f"give --weights {path.parent}"
        )
    if FORMAT_KEY in document or any(key in document for key in GROUPS.values()):
        return read_complete(path, document)
    other = next((what for key, what in OTHERS.items() if key in document), None)
    if other is not None:
        raise ConfigError(f"{path} is {other}, not of a run; to begin from its weights, give --weights {path.parent}")
    return read_settings(str(path), document)


def find_file(given: str, option: str = "--config") -> Path:
    """Return the file that an option names, or the one in the folder that it names; raises ConfigError."""
    if (reason := explain_url(given)) is not None:
        raise ConfigError(reason)
    path = expand_home(given)
    if not path_exists(path):
        raise ConfigError(f"{option}: {explain_absence(path)}")
    if not path.is_dir():
        return path
    run = find_run(path)
    names = [path / name for name in (*GROUPS, CONFIG)] if run is None else [run / CONFIG]
    found = next((place for place in names if path_exists(place)), None)
    if found is None:
        raise ConfigError(f"{path} holds no {CONFIG}; give a run folder, or a file of settings in JSON or TOML")
    return found


def read_document(path: Path) -> Any:
    """Read JSON or TOML, recognised by the file's name or its first character; raises ConfigError, CheckpointError."""
    try:
        check_file(path)
        with path.open("rb") as file:
            toml = path.suffix != ".json" and (
                path.suffix == ".toml" or file.read(100).lstrip()[:1] not in (b"{", b"[")
            )
        return read_toml(path) if toml else read_json(path)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read TOML; raises ConfigError, OSError."""
    if (size := path.stat().st_size) > MOST_TOML:
        raise ConfigError(
            f"{path} has {size:,} bytes, more than the limit of {MOST_TOML:,}; it can't be a configuration"
        )
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        what = "is not TOML" if path.suffix == ".toml" else "is neither JSON nor TOML"
        raise ConfigError(f"{path} {what} ({str(error)[:120]})") from error


def check_text(document: Any) -> None:
    """Refuse values that no setting can have: deeply nested objects, text that is not Unicode; raises ConfigError."""
    level, depth = [("", document)], 0
    while level:
        if depth > MOST_DEPTH:
            raise ConfigError(
                f"{level[0][0][:80]} is nested more than {MOST_DEPTH} objects deep; settings are at most four deep"
            )
        for where, value in level:
            try:
                (value if isinstance(value, str) else where).encode(errors="surrogateescape")
            except UnicodeEncodeError:
                raise ConfigError(
                    f"{ascii(where)[1:-1][:80]} holds half of a character (a lone surrogate); correct it"
                ) from None
        level, depth = [pair for where, value in level for pair in list_children(where, value)], depth + 1


def list_children(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values in an object or a list, with their paths."""
    if isinstance(value, dict):
        yield from ((f"{where}.{key}" if where else str(key), item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((f"{where}[{place}]", item) for place, item in enumerate(value))


def read_complete(path: Path, document: dict[str, Any]) -> ConfigFile:
    """Read the configuration of a run, a search of rates or a cross-validation, with its current paths. A missing
    setting gets its default, which is the former behaviour, not what the recipe would choose today.
    """
    if "config" not in document and "runs" in document:
        raise ConfigError(f"{path} belongs to a sweep, which has many settings; give one of the runs next to it")
    version = document.get(FORMAT_KEY, 1)
    if version not in READABLE:
        raise ConfigError(
            f"{path} belongs to a run of format {version!r}; this vitreous reads formats {READABLE[0]} to {READABLE[-1]}"
        )
    try:
        config = from_dict(RunConfig, document.get("config"), "config")
        check_values(flatten(to_dict(config)), nothing=config.head == "logistic")
        before = find_outdated(document) if FORMAT_KEY in document else ""
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    settings, places = to_dict(config), document.get("places")
    settings["data"] = to_dict(config.data.relocate(lambda one: locate(one, places, path.parent)))
    for name in ("weights", "teacher"):
        settings[name] = settings[name] and locate(settings[name], places, path.parent)
    notice = f"{path} was written by a vitreous that {before}; today the same settings have another effect"
    return ConfigFile(str(path), settings, notices=(notice,) if before else ())


def read_settings(name: str, document: Mapping[str, Any]) -> ConfigFile:
    """Read some settings, perhaps with what a recipe starts from; raises ConfigError, UnknownName."""
    given = {one.name for one in fields(StartOptions)} & document.keys()
    start = {key: document[key] for key in given if key != "model" or isinstance(document[key], str)}
    rest = {key: value for key, value in document.items() if key not in start}
    if isinstance(rest.get("data"), str):
        rest["data"] = {"path": rest["data"]}
    try:
        from_dict(StartOptions, start)
        settings = check_partial(RunConfig, rest)
        check_values(flatten(settings), nothing=settings.get("head") == "logistic")
    except UnknownName as error:
        what, _, part = error.kind.partition(" in ")
        if what == "setting" and (meant := explain_name(error.name, (*list_settings(), *START_NAMES), part)):
            raise ConfigError(f"{name}: unknown {error.kind} {error.name!r}; {meant}") from error
        leaf = [path for path in list_settings() if path.rpartition(".")[2] == error.name]
        if error.kind != "setting" or len(leaf) != 1:
            raise ConfigError(f"{name}: {error}") from error
        raise ConfigError(f"{name}: unknown setting {error.name!r}; did you mean {leaf[0]!r}?") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    if "minutes" in start and "duration" in settings:
        raise ConfigError(f"{name}: minutes and duration both say how long to train; leave one out")
    return ConfigFile(name, settings, start)
