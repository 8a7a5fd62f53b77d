"""Open whatever somebody holds: our model folder or run, a file or folder of another code base, a repository on the Hub."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitreous.checkpoints.folder import ModelFolder, is_model, load_model
from vitreous.checkpoints.foreign import Report, Wish, load_foreign
from vitreous.checkpoints.hub import download, is_repository
from vitreous.checkpoints.weights import holds_weights
from vitreous.errors import CheckpointError


def open_model(path: str | Path, wish: Wish | None = None) -> tuple[ModelFolder, Report | None]:
    """Load a model from a path or a name on the Hub, and the report of what became of foreign weights.

    Args:
        path: a model folder, a run folder, a file or folder of weights, or owner/name on the Hub.
        wish: how foreign weights are to be taken; for our own there is nothing to wish but the resolution.

    Raises:
        CheckpointError: nothing there that can be loaded.
        ConfigError: a wish that can't be met.
    """
    with uncollected():
        return _open(str(path), wish)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's garbage collector from walking everything that torch imported, several times, while a model is built."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _open(path: str, wish: Wish | None) -> tuple[ModelFolder, Report | None]:
    place = Path(path)
    if not place.exists() and is_repository(path):
        place = download(path)
    if place.is_dir() and (is_model(place) or _is_run(place) or not holds_weights(place)):
        folder = load_model(place)
        if wish is not None and wish.image is not None and tuple(wish.image) != tuple(folder.model.config.image):
            folder = resized(folder, wish)
        return folder, None
    if not place.exists():
        raise CheckpointError(f"no such model folder, run folder or file of weights: {path}")
    return load_foreign(place, wish or Wish())


def resized(folder: ModelFolder, wish: Wish) -> ModelFolder:
    """Return a model folder for images of another size."""
    from dataclasses import replace

    assert wish.image is not None
    model = folder.model.resized(wish.image, wish.rule or folder.resize)
    return replace(folder, model=model, preprocess=replace(folder.preprocess, size=tuple(wish.image)))


def _is_run(place: Path) -> bool:
    return (place / "metrics.jsonl").exists() or (place / "checkpoints").is_dir()
