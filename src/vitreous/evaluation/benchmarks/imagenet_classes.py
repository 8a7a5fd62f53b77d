"""The 1000 classes of ImageNet: their ids in order, and the model output for each."""

import functools
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from vitreous.data.listing.listing import format_names
from vitreous.errors import ConfigError, DataError
from vitreous.shapes import Int64

CLASSES = 1000
BACKGROUND = 1001
"""Outputs of models whose first one is "background" (TensorFlow's)."""


NUMBERS = tuple(map(str, range(CLASSES)))


@functools.cache
def _table() -> tuple[tuple[str, str], ...]:
    text = (files("vitreous.evaluation.benchmarks") / "imagenet.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple((wnid, "".join(marks)) for wnid, *marks in lines)


def wnids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1000 classes of ILSVRC 2012, in the order of models' outputs."""
    return tuple(wnid for wnid, _ in _table())


def subset(mark: str) -> Int64[np.ndarray, " chosen"]:
    """Return the indices of a benchmark's 200 classes, "A" or "R"; "" for all 1000."""
    return np.array([index for index, (_, marks) in enumerate(_table()) if mark in marks], np.int64)


def find_class(name: str) -> int:
    """Return the class that a folder is named after: a WordNet id, or a number from 0 to 999; -1 for neither."""
    if name.isascii() and name.isdigit():
        return int(name) if int(name) < CLASSES else -1
    return _numbers().get(name, -1)


@functools.cache
def _numbers() -> dict[str, int]:
    return {wnid: index for index, wnid in enumerate(wnids())}


def find_classes(folders: Sequence[str], where: str) -> Int64[np.ndarray, " folder"]:
    """Return the class of each folder.

    Raises:
        DataError: a folder that is not named after a class of ImageNet.
    """
    found = np.array([find_class(name) for name in folders], np.int64)
    unknown = [repr(name) for name, index in zip(folders, found, strict=True) if index < 0]
    if unknown:
        raise DataError(
            f"{where} has folders that are not classes of ImageNet: {format_names(unknown)}; name the folder that "
            "holds one folder for each class, named by its WordNet id (n01440764) or number (0 to 999)"
        )
    return found


def find_outputs(names: Sequence[str]) -> Int64[np.ndarray, " label"]:
    """Return, for each class of ImageNet, the index of the model's output for it.

    Outputs named by WordNet ids, or by numbers, are matched by name. Otherwise 1000 outputs are assumed to be in ImageNet's
    order, as in all published heads, and 1001 to begin with "background"; see `is_assumed`.

    Raises:
        ConfigError: the model has another number of outputs, or only some of the ids are among their names.
    """
    place = {name: index for index, name in enumerate(names)}
    for known in (wnids(), NUMBERS):
        if all(name in place for name in known):
            return np.array([place[name] for name in known], np.int64)
    if some := sum(wnid in place for wnid in wnids()):
        raise ConfigError(
            f"{some:,} of the model's outputs are named by WordNet ids of ImageNet's 1,000 classes, the others are not, so their "
            "order is unknown; name all of them by ids"
        )
    if len(names) not in (CLASSES, BACKGROUND):
        raise ConfigError(
            f"this model has {len(names):,} outputs, and its class names aren't WordNet ids, so they can't be "
            "matched with ImageNet's 1,000 classes; use a model with a head for ImageNet"
        )
    return np.arange(CLASSES, dtype=np.int64) + (len(names) - CLASSES)


def is_assumed(names: Sequence[str]) -> bool:
    """Return whether outputs are taken to be in ImageNet's order without their names saying so."""
    return not any(set(known) <= set(names) for known in (wnids(), NUMBERS))
