"""Short names of models and data, for titles, folders and tables. Imports no torch."""

from pathlib import Path

from vitreous.storage.presence import is_file, path_exists


def name_model(model: str) -> str:
    """Return a short name for a model: that of its folder or file, or of the run that exported it."""
    path = Path(model)
    name = path.resolve().name if path_exists(path) else path.name
    if name == "model" and path_exists(path):
        return path.resolve().parent.name or name
    return (path.stem if is_file(path) else name) or "model"


def tell_apart(names: tuple[str, str]) -> tuple[str, str]:
    """Return two models' names, made distinct if they are equal."""
    return (names[0], f"{names[1]} (the other)") if names[0] == names[1] else names
