"""Open any kind of model: a model folder or run of vitreous, a file or folder of another code base, a repository on the
Hub."""

from pathlib import Path

from vitreous.errors import ConfigError
from vitreous.runtime.collection import pause_collection
from vitreous.weights.adaptation import Changes, adapt
from vitreous.weights.auto_weights import is_named, locate_weights, refuse_absent
from vitreous.weights.compatibility import describe
from vitreous.weights.exported import is_export
from vitreous.weights.files import has_weights
from vitreous.weights.foreign import load_foreign
from vitreous.weights.hub_requests import Listener
from vitreous.weights.model_folder import CONFIG, WEIGHTS, ModelFolder, is_model, load_model
from vitreous.weights.options import LoadOptions, Report, StatedFacts


def open_model(
    path: str | Path, options: LoadOptions | None = None, listener: Listener | None = None
) -> tuple[ModelFolder, Report | None]:
    """Load a model from a path or a name on the Hub, with the report on foreign weights.

    Args:
        path: a model folder, a run folder, a file or folder of weights, owner/name on the Hub, a short name, starter or
            auto.
        options: how foreign weights are loaded; for vitreous's own only the resolution, the channels and the head can
            be chosen.
        listener: receives messages and progress; None: nobody.

    Raises:
        CheckpointError: there is nothing that can be loaded.
        ConfigError: an option that can't be satisfied.
    """
    with pause_collection():
        return _open_anything(str(path), options, listener)


def _open_anything(
    path: str, options: LoadOptions | None, listener: Listener | None
) -> tuple[ModelFolder, Report | None]:
    if not (named := is_named(path)):
        refuse_absent(path)
    place = locate_weights(path, listener) if named else Path(path)
    if place.name in (CONFIG, WEIGHTS) and place.is_file() and is_model(place.parent):
        place = place.parent
    if place.is_dir() and (is_model(place) or is_export(place) or _is_run(place) or not has_weights(place)):
        return apply_options(load_model(place), options or LoadOptions(), place)
    return load_foreign(place, options or LoadOptions())


def apply_options(folder: ModelFolder, options: LoadOptions, place: Path) -> tuple[ModelFolder, Report | None]:
    """Change one of vitreous's own models according to the options, and report the changes.

    Raises:
        ConfigError: an option that can't be satisfied, such as a family: vitreous's own files say what they are.
    """
    if options.family is not None or options.allow or options.stated != StatedFacts():
        raise ConfigError(
            f"{place} is a model folder of vitreous, which itself says what it holds; leave out --as, --allow, "
            "--grid and --heads"
        )
    folder, changes = adapt(folder, options)
    if changes == Changes():
        return folder, None
    return folder, Report(
        source=str(place),
        origin="vitreous: a model folder",
        model=describe(folder.model.config),
        mapped=len(folder.model.state_dict()),
        resized=changes.resized,
        channels=changes.channels,
        head=changes.head or ("kept" if folder.classes else "none"),
    )


def _is_run(place: Path) -> bool:
    return (place / "metrics.jsonl").exists() or (place / "checkpoints").is_dir()
