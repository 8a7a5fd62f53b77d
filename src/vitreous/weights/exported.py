"""Folders of exported models are told by a key of their config.json. Imports no torch."""

from pathlib import Path

from vitreous.errors import CheckpointError
from vitreous.storage.atomic import find_settled
from vitreous.storage.limits import read_json
from vitreous.storage.presence import is_file, is_folder

KEY = "vitreous_export"
"""The format's version stands under it."""
GRAPHS = (".onnx", ".xml", ".pt2")
"""Ends of the names of exported models' files."""


def is_export(path: Path) -> bool:
    """Tell whether a folder is an exported model, of whatever version."""
    path = find_settled(path)
    if not is_folder(path) or not is_file(path / "config.json"):
        return False
    try:
        document = read_json(path / "config.json")
    except (OSError, CheckpointError):
        return False
    return isinstance(document, dict) and KEY in document


def find_export(path: Path) -> Path | None:
    """Return the folder of an exported model that is named, or of which a file is named; None if it is neither."""
    if is_export(path):
        return path
    return path.parent if path.suffix in GRAPHS and is_file(path) and is_export(path.parent) else None
