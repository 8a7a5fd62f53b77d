"""Open whatever somebody holds: our model folder or run, a file or folder of another code base, a repository on the Hub."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitreous.errors import CheckpointError, ConfigError
from vitreous.storage.presence import explain_absence, explain_url, is_link, path_exists
from vitreous.weights.adaptation import Changes, adapt
from vitreous.weights.compatibility import describe
from vitreous.weights.files import has_weights
from vitreous.weights.foreign import load_foreign
from vitreous.weights.hub import download, is_repository
from vitreous.weights.model_folder import ModelFolder, is_model, load_model
from vitreous.weights.options import LoadOptions, Report, StatedFacts


def open_model(path: str | Path, wish: LoadOptions | None = None) -> tuple[ModelFolder, Report | None]:
    """Load a model from a path or a name on the Hub, and the report of what became of foreign weights.

    Args:
        path: a model folder, a run folder, a file or folder of weights, or owner/name on the Hub.
        wish: how foreign weights are to be taken; for our own there is nothing to wish but the resolution.

    Raises:
        CheckpointError: nothing there that can be loaded.
        ConfigError: a wish that can't be met.
    """
    with pause_collection():
        return _open_anything(str(path), wish)


@contextmanager
def pause_collection() -> Iterator[None]:
    """Keep Python's garbage collector from walking everything that torch imported, several times, while a model is built."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _open_anything(path: str, wish: LoadOptions | None) -> tuple[ModelFolder, Report | None]:
    place = Path(path)
    if not path_exists(place) and is_repository(path):
        place = download(path)
    if told := explain_url(path):
        raise CheckpointError(told)
    if is_link(place) and not path_exists(place):
        raise CheckpointError(explain_absence(place))
    if not path_exists(place):
        raise CheckpointError(f"no such model folder, run folder or file of weights: {path}")
    if place.is_dir() and (is_model(place) or _is_run(place) or not has_weights(place)):
        return apply_options(load_model(place), wish or LoadOptions(), place)
    return load_foreign(place, wish or LoadOptions())


def apply_options(folder: ModelFolder, wish: LoadOptions, place: Path) -> tuple[ModelFolder, Report | None]:
    """Do what was wished of one of our own models, and tell it, if there is something to tell.

    Raises:
        ConfigError: a wish that can't be met, such as a family: our own files say what they are.
    """
    if wish.family is not None or wish.allow or wish.told != StatedFacts():
        raise ConfigError(
            f"{place} is a model folder of vitreous, which says itself what it holds; leave out --as, --allow, --grid and "
            "--heads"
        )
    folder, changes = adapt(folder, wish)
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
