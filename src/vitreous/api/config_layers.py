"""A run's settings in layers: the recipe's choice, overridden by a file's settings, overridden by settings given by
name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal

from vitreous.api.models import refuse_weights
from vitreous.data.config import DataConfig
from vitreous.data.dataset import is_built_in
from vitreous.errors import ConfigError, UnknownName
from vitreous.model.kinds import check_name
from vitreous.recipes.catalog import AUTO, MODELS, NONE, RECIPES
from vitreous.recipes.probe import refuse_minutes
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.settings import flatten, merge_settings
from vitreous.storage.presence import expand_home
from vitreous.training.changes import format_differences
from vitreous.training.config import START, RunConfig
from vitreous.training.config_file import ConfigFile, list_settings
from vitreous.training.other_names import ARGUMENTS, explain_name, find_own_name
from vitreous.training.reporter import Reporter
from vitreous.training.settings_check import check_values, check_weights
from vitreous.weights.auto_weights import resolve_weights

CUSTOM = RunConfig.recipe
"""The recipe named in a configuration that was written by hand."""
OF_CHANNELS = ("mode", "mean", "std", "colours")
"""Settings of preprocessing that depend on the number of channels."""
SETTINGS = {one.name for one in fields(RunConfig)} - {"data", "recipe", "model", "teacher", *START}
"""Settings that `train` takes by their names."""
GROUPS = {"optimizer": "name", "schedule": "kind", "objective": "kind"}
"""Groups of settings that are often mistaken for a single setting, with the setting that is meant."""
OF_DATA = ("validation", "folds", "fold", "unlabelled", "pseudo_labels")
"""Settings that belong to one data set."""


@dataclass(frozen=True)
class RunOptions:
    """What a caller of `train` chooses."""

    data: str | None
    """None: the file's, or digits."""
    recipe: str | None
    """None: the file's, or auto."""
    start: dict[str, Any]
    """What the recipe starts from: model, image, channels, minutes, weights and facts about them; None: not given."""
    settings: dict[str, Any]
    """Nested as in RunConfig; they override the recipe's choice."""
    folds: int | None = None
    rates: Literal["auto"] | Sequence[float] = ()
    """Learning rates to choose from."""
    self_training: SelfTrainingOptions | None = None
    own_classes: bool = False
    """Whether the model has as many classes as the data, even if `settings` give another number."""

    def check(self) -> None:
        """Refuse options that fit no recipe, before data or weights are opened; raises ConfigError."""
        chosen = {name: self.start.get(name) or self.settings.get(name) for name in START}
        given = {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}
        check_weights(RunConfig(**given))
        check_values(flatten(self.settings), nothing=self.settings.get("head") == "logistic")

    @property
    def path(self) -> str | None:
        """Where the data is: the argument, or the setting data.path."""
        named = self.settings.get("data")
        return self.data or (named.get("path") if isinstance(named, Mapping) else None)

    def is_given(self, part: str, name: str) -> bool:
        """Return whether a nested setting is given."""
        return isinstance(self.settings.get(part), Mapping) and name in self.settings[part]


def take_settings(
    options: Mapping[str, Any], settings: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a recipe starts from, and the settings, including those given by name; raises ConfigError."""
    given = {name: value for name, value in options.items() if name in SETTINGS and value is not None}
    start = {name: value for name, value in options.items() if name not in SETTINGS}
    check_kinds(settings, start)
    settings = settings or {}
    for name, value in given.items():
        if name in GROUPS and not isinstance(value, Mapping):
            raise ConfigError(
                f'{name} is {value!r}; give a mapping of its settings, such as {name}={{"{GROUPS[name]}": {value!r}}}'
            )
    if type(duration := given.get("duration")) in (int, float):
        raise ConfigError(f'duration is {duration}; give it with a unit, such as duration="{duration}ep" for epochs')
    check_names(settings)
    check_names({name: value for name, value in given.items() if isinstance(value, Mapping)})
    twice = flatten(given).keys() & flatten(settings).keys()
    for name in (*START, "teacher"):
        if start.get(name) is not None and settings.get(name) not in (None, start[name]):
            twice.add(name)
    if twice:
        raise ConfigError(f"{', '.join(sorted(twice))}: given both by name and in settings; leave out one of them")
    if start.get("minutes") is not None and "duration" in {**settings, **given}:
        raise ConfigError("minutes and duration both say how long to train; leave out one")
    return start, merge_settings(RunConfig, settings, given)


def check_names(settings: Mapping[str, Any], part: str = "") -> None:
    """Raise ConfigError for settings by other trainers' names, or by dotted names; unknown ones are refused later."""
    known = list_settings()
    for name, value in settings.items():
        if not isinstance(name, str):
            raise ConfigError(f"the name of a setting is {name!r}; it must be text")
        whole = f"{part}.{name}" if part else name
        if not part and whole in known and "." in whole:
            raise ConfigError(f"unknown setting {name!r}; give {nest_name(whole)}")
        if isinstance(value, Mapping):
            check_names(value, whole)
        elif whole not in known and (meant := explain_name(name, known, part)):
            raise ConfigError(f"unknown setting {whole!r}; {meant}")


def nest_name(dotted: str) -> str:
    """Return how a nested setting is given to `train`.

    >>> nest_name("optimizer.lr"), nest_name("data.holdout"), nest_name("batch")
    ('optimizer={"lr": ...}', 'settings={"data": {"holdout": ...}}', 'batch=...')
    """
    part, _, leaf = dotted.rpartition(".")
    if not part:
        return f"{leaf}=..."
    return f'{part}={{"{leaf}": ...}}' if part in SETTINGS else f'settings={{"{part}": {{"{leaf}": ...}}}}'


def check_request(recipe: str, start: Mapping[str, Any]) -> None:
    """Refuse options that no recipe accepts, before data or weights are opened; raises ConfigError."""
    if recipe not in (*RECIPES, AUTO):
        raise UnknownName("recipe", recipe, (*RECIPES, AUTO))
    known = ("model", *START, "teacher", "image", "channels", "minutes")
    for name in start:
        if name in known:
            continue
        settings = list_settings()
        if name in settings:
            raise ConfigError(f"unknown argument {name!r}; give {nest_name(name)}")
        if meant := explain_name(name, (*ARGUMENTS, *settings)):
            own, _ = find_own_name(name)
            raise ConfigError(f"unknown argument {name!r}; {meant}{f': {nest_name(own)}' if '.' in own else ''}")
        raise UnknownName("argument", name, (*known, *sorted(SETTINGS)))
    if start.get("model") is not None:
        refuse_weights(start["model"], f"--weights {start['model']}")
        check_name(start["model"])
    if recipe == "probe":
        refuse_minutes(start.get("minutes"))


def check_kinds(settings: Any, recipe_options: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings or recipe options of a type that `train` doesn't accept."""
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"settings is {settings!r}; it must be a mapping, such as {{'seed': 1}}")
    image, model = recipe_options.get("image"), recipe_options.get("model")
    if image is not None and not (isinstance(image, list | tuple) and [type(one) for one in image] == [int, int]):
        raise ConfigError(f"image is {image!r}; it must be (rows, cols), such as (224, 224)")
    for name, kind, said in (("channels", int, "a whole number"), ("weights", str | PurePath, "a name or a path")):
        value = recipe_options.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ConfigError(f"{name} is {value!r}; it must be {said}")
    if model is not None and not isinstance(model, str):
        raise ConfigError(
            f"model is {model!r}; it must be a name, such as 'S/16'; other settings of a model go into settings"
        )


def lay_over(file: ConfigFile, options: RunOptions) -> tuple[RunOptions, list[str]]:
    """Return options completed by a file's settings, and notes on the file's settings that were replaced or left
    out."""
    below = {name: dict(value) if isinstance(value, Mapping) else value for name, value in file.settings.items()}
    given = {name: value for name, value in options.start.items() if value is not None}
    replaced: dict[str, list[Any]] = {}
    classes = below.get("model", {}).get("classes", 0)
    free = "model" not in given and not options.is_given("model", "classes")
    own_classes = free and classes > 0 and "path" in below.get("data", {})
    data = take_data(below, options, replaced)
    take_shape(below, given, replaced)
    start = take_weights(below, {**file.start, **given}, options, replaced)
    if "minutes" in given or "duration" in options.settings:
        before = below.pop("duration", None) or start.get("minutes")
        start["minutes"] = given.get("minutes")
        if before is not None:
            replaced["duration"] = [before, options.settings.get("duration", f"{start['minutes']} min")]
    before, now = {**flatten(below), **file.start}, {**flatten(options.settings), **given}
    replaced |= {name: [before[name], now[name]] for name in now if name in before and before[name] != now[name]}
    recipe = below.pop("recipe", None)
    if options.recipe is not None and recipe not in (None, options.recipe):
        replaced["recipe"] = [recipe, options.recipe]
    if recipe == CUSTOM and options.recipe is None:
        recipe, below["recipe"] = next(iter(RECIPES)), CUSTOM
    notices = [*file.notices, f"{len(flatten(file.settings)) + len(file.start):,} settings of {file.name}"]
    if replaced:
        notices.append(f"replaced of these: {format_differences(replaced, most=20)}")
    if options.path is None and data is not None:
        notices.append(f"data: {data}, as there")
    settings = merge_settings(RunConfig, below, options.settings)
    rest = {"folds": options.folds, "rates": options.rates, "self_training": options.self_training}
    return RunOptions(data, options.recipe or recipe, start, settings, own_classes=own_classes, **rest), notices


def take_data(below: dict[str, Any], options: RunOptions, replaced: dict[str, list[Any]]) -> str | None:
    """Remove the data's path from a file's settings, and what belongs to that data if other data is given; return the
    path to use."""
    section = below.get("data", {})
    before = section.pop("path", None)
    dropped = OF_DATA if options.folds is None else OF_DATA[1:]
    if options.path is not None and before is not None and not is_same(before, options.path):
        replaced["data.path"] = [before, options.path]
        dropped = OF_DATA
    elif options.folds is None:
        dropped = ()
    for name in dropped:
        default = getattr(DataConfig(), name)
        value = section.pop(name, default)
        if value != default and not options.is_given("data", name):
            replaced[f"data.{name}"] = [value, default]
    return options.path or before


def is_same(one: str, other: str) -> bool:
    """Return whether two names mean the same data."""
    if is_built_in(one) or is_built_in(other):
        return one == other
    return expand_home(one).resolve() == expand_home(other).resolve()


def take_shape(below: dict[str, Any], given: dict[str, Any], replaced: dict[str, list[Any]]) -> None:
    """Replace the file's model, size and channels by the given ones."""
    model, preprocess = below.get("model", {}), below.get("preprocess", {})
    if "image" in given:
        for section, name in ((model, "image"), (preprocess, "size")):
            if name in section and tuple(section[name]) != tuple(given["image"]):
                replaced["image"] = [list(section[name]), list(given["image"])]
                section[name] = list(given["image"])
    if "channels" in given:
        if "channels" in model and model["channels"] != given["channels"]:
            replaced["channels"] = [model["channels"], given["channels"]]
            model["channels"] = given["channels"]
        for name in OF_CHANNELS:
            preprocess.pop(name, None)
    if "model" in given and "model" in below:
        replaced["model"] = [f"of {len(below.pop('model'))} settings", given["model"]]
        if "size" in preprocess:
            given.setdefault("image", tuple(preprocess["size"]))


def take_weights(
    below: dict[str, Any], start: dict[str, Any], options: RunOptions, replaced: dict[str, list[Any]]
) -> dict[str, Any]:
    """Return what the recipe starts from, with the file's weights and the facts about them unless others are given;
    "none" counts."""
    former = {name: below.pop(name) for name in START if name in below}
    given = start.get("weights") or options.settings.get("weights")
    if given is None:
        said = {name: value for name, value in former.items() if value is not None}
        return {**({"weights": NONE} if "weights" in former else {}), **said, **start}
    if former.get("weights") not in (None, given):
        replaced["weights"] = [former["weights"], given]
    return start


def pin_weights(
    recipe_options: Mapping[str, Any], settings: Mapping[str, Any], reporter: Reporter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recipe options and settings with weights and teacher pinned, so that the run records exactly what it
    starts from.

    Raises:
        UserError, FailedError: the weights aren't available; see `vitreous.weights.auto_weights.resolve_weights`.
    """

    once = cache(lambda name: resolve_weights(name, reporter))

    def pin(one: Mapping[str, Any]) -> dict[str, Any]:
        return {**one, **{name: once(str(one[name])) for name in MODELS if one.get(name) not in (None, NONE)}}

    return pin(recipe_options), pin(settings)
