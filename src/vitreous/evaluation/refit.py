"""What a model folder says of a head that was fitted again, to the images that had measured it too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.errors import CheckpointError
from vitreous.run_folder import RunRecord
from vitreous.weights.model_folder import read_origin

REFIT = "refit"
"""Its key in the origin of a model folder."""


@dataclass(frozen=True)
class Refit:
    """The images of the second fit."""

    images: int
    """All of them."""
    held_out: int
    """Of these: those that measured the model before."""

    def __str__(self) -> str:
        return (
            f"measured on {self.held_out:,} images held out; the model handed over has then learned from them too, "
            f"{self.images:,} images in all"
        )

    def to_origin(self) -> dict[str, dict[str, int]]:
        """Return the entry for a model folder's origin."""
        return {REFIT: {"images": self.images, "held_out": self.held_out}}


def find_refit(origin: Mapping[str, Any]) -> Refit | None:
    """Return the second fit that a model folder's origin names, if any."""
    found = origin.get(REFIT)
    return Refit(int(found["images"]), int(found["held_out"])) if isinstance(found, Mapping) else None


def read_refit(model: Path | None) -> Refit | None:
    """Return the second fit of a model folder, or of a run's; None if there was none, or the folder can't be read."""
    try:
        return None if model is None else find_refit(read_origin(model))
    except CheckpointError:
        return None


def find_measured_model(record: RunRecord) -> Path | None:
    """Return the model folder that a run's held-out images measured: not the exported one if that was refitted."""
    return record.model if read_refit(record.model) is None else record.measured
