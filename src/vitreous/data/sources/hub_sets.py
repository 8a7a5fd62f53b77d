"""Data sets by their names on the Hugging Face Hub, through `datasets`: hf:ylecun/mnist, or hf:OWNER/NAME:CONFIGURATION."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitreous.data.listing.listing import Splits, format_names
from vitreous.data.sources.objects import hold, is_held, list_objects
from vitreous.data.sources.packs import read_split
from vitreous.errors import ConfigError, DataError

PREFIX = "hf:"
_OTHERS: dict[str, list[str]] = {}
"""The splits of each set that were left out."""


def is_hub_set(path: str | Path) -> bool:
    """Return whether this is the name of a data set on the Hub.

    >>> is_hub_set("hf:ylecun/mnist"), is_hub_set("hf://ylecun/mnist"), is_hub_set("photos")
    (True, False, False)
    """
    name = str(path).removeprefix(PREFIX)
    return str(path) != name and name.strip(":/") != "" and not name.startswith("/")


def list_hub_set(path: str | Path, optional: bool = False) -> Splits:
    """Return the examples of a data set on the Hub by split, fetched into the cache of `datasets` if they aren't there.

    Args:
        path: its name.
        optional: labels may be missing.

    Raises:
        DataError: there is no such data set, or it can't be learned from. ConfigError: `datasets` is not installed.
    """
    if not is_held(path):
        found = load(str(path))
        known = {name: one for name, one in found.items() if read_split(name)}
        _OTHERS[str(path)] = [name for name in found if known and name not in known]
        hold(known or found, str(path))
    splits = list_objects(path, optional)
    if splits.train is None or not (others := _OTHERS.get(str(path))):
        return splits
    note = f"splits that are none of train, validation and test were left out: {format_names(others)}"
    return replace(splits, train=replace(splits.train, notes=(*splits.train.notes, note)))


def load(path: str) -> Any:
    """Return a data set's splits as `datasets` has them; raises DataError, ConfigError."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"{path} needs the package datasets: pip install 'vitreous[data]'") from error
    name, _, configuration = path.removeprefix(PREFIX).partition(":")
    try:
        return datasets.load_dataset(name, configuration or None)
    except Exception as error:  # whatever its readers, its scripts and the network raise
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{path} can't be loaded: {said}") from error
