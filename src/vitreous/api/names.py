"""Short names of models and data, for titles, folders and tables. Imports no torch."""

from pathlib import Path
from typing import Any

from vitreous.storage.atomic import find_free_folder
from vitreous.storage.presence import is_file, path_exists

EXPORTS = Path("exports")
"""Where exported and quantised models are written unless a folder is named."""


def name_model(model: str) -> str:
    """Return a short name for a model: its folder's or file's, or that of the run that exported it."""
    path = Path(model)
    name = path.resolve().name if path_exists(path) else path.name
    if name == "model" and path_exists(path):
        return path.resolve().parent.name or name
    return (path.stem if is_file(path) else name) or "model"


def name_export(model: Any, suffix: str) -> Path:
    """Return the next free folder for an export of a model, which may be loaded already:
    exports/<model>-<suffix>-<n>."""
    path = model if isinstance(model, str | Path) else getattr(model, "path", "")
    return find_free_folder(EXPORTS, f"{name_model(str(path)) if path else 'model'}-{suffix}")


def tell_apart(names: tuple[str, str]) -> tuple[str, str]:
    """Return two models' names, made distinct if they are equal."""
    return (names[0], f"{names[1]} (the other)") if names[0] == names[1] else names
