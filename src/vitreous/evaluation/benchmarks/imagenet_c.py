"""A user's copy of ImageNet-C, and its score: errors relative to AlexNet's (1903.12261, section 4.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitreous.data.listing.class_folders import list_subfolders
from vitreous.errors import DataError
from vitreous.storage.presence import is_folder

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's top-1 error under each of the fifteen corruptions, averaged over the five severities, as published by
the benchmark's authors (github.com/hendrycks/robustness)."""
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class CorruptionError:
    """A model's errors under one corruption."""

    corruption: str
    errors: tuple[float | None, ...]
    """Top-1 error at severities 1 to 5, 0 to 1; None where the copy has no images."""
    mean: float
    """Mean error over the severities in the copy."""
    relative: float | None
    """CE: the mean divided by AlexNet's; None unless all five severities are present."""


@dataclass(frozen=True)
class BaselineErrors:
    """A model's errors under all corruptions in the copy."""

    corruptions: tuple[CorruptionError, ...]
    mce: float | None
    """The benchmark's number: mean of the fifteen CE, relative to AlexNet's (1: equally bad); None if one is
    missing."""
    missing: tuple[str, ...]
    """What the copy lacks for the mCE: corruptions, or corruption/severity."""


def find_folders(root: Path) -> dict[tuple[str, int], Path]:
    """Find the folder of each corruption and severity, below root/CORRUPTION/ or root/GROUP/CORRUPTION/.

    Raises:
        DataError: there is none.
    """
    if not is_folder(root):
        raise DataError(f"no such folder: {root}; name your copy of ImageNet-C, unpacked")
    top = list_subfolders(root)
    places = {root.name: root, **{folder.name: folder for group in top for folder in (group, *list_subfolders(group))}}
    found = {}
    for corruption in ALEXNET:
        levels = {folder.name: folder for folder in list_subfolders(places[corruption])} if corruption in places else {}
        found |= {(corruption, level): levels[str(level)] for level in SEVERITIES if str(level) in levels}
    if not found:
        raise DataError(
            f"{root} has no corruptions of ImageNet-C: expected folders such as gaussian_noise/1/n01440764 "
            "or noise/gaussian_noise/1/n01440764"
        )
    return found


def corruption_errors(errors: Mapping[tuple[str, int], float]) -> BaselineErrors:
    """Return the CE of each corruption and their mean, from the top-1 error at each (corruption, severity)."""
    every, missing = [], []
    for corruption, reference in ALEXNET.items():
        row = tuple(errors.get((corruption, level)) for level in SEVERITIES)
        known = [value for value in row if value is not None]
        lacking = [f"{corruption}/{level}" for level, value in zip(SEVERITIES, row, strict=True) if value is None]
        missing += lacking if known else [corruption]
        if known:
            mean = sum(known) / len(known)
            every.append(
                CorruptionError(corruption, row, mean, mean / reference if len(known) == len(SEVERITIES) else None)
            )
    relative = [one.relative for one in every if one.relative is not None]
    mce = sum(relative) / len(relative) if len(relative) == len(ALEXNET) else None
    return BaselineErrors(tuple(every), mce, tuple(missing))
