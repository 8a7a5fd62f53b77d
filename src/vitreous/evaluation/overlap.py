"""Find the measured images that the model was trained on, by path or by content of their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitreous.data.dataset import Dataset
from vitreous.data.run_data import read_data_config
from vitreous.data.shared_images import Item, find_shared, items
from vitreous.data.sources.base import Source
from vitreous.errors import UserError
from vitreous.evaluation.refit import read_refit
from vitreous.image_paths import expand_paths
from vitreous.images.config import DecodeConfig
from vitreous.run_folder import read_run
from vitreous.runtime.display import Shown
from vitreous.storage.run_config import find_own_run


@dataclass(frozen=True)
class Overlap(Shown):
    """The number of measured images that a run has seen."""

    measured: int
    trained: int
    """Of these: among the run's training images."""
    held_out: int
    """Of these: among the run's validation images, which chose the best weights and nothing else, and not trained on too."""
    refitted: bool = False
    """Whether the model's head has learned from the validation images too, so that they are counted as trained on."""

    def __str__(self) -> str:
        if self.refitted:
            return (
                f"{self.trained:,} of these {self.measured:,} images are among those that the model was trained on, so the "
                f"numbers flatter it; {self.held_out:,} of them measured it before it learned from them too (leave out DATA "
                "for that measurement)"
            )
        return (
            f"{self.trained:,} of these {self.measured:,} images are among those that the model was trained on, "
            "so the numbers flatter it"
            + (
                f"; {self.held_out:,} are its held-out ones (to measure only those, leave out DATA)"
                if self.held_out
                else ""
            )
        )


def overlap(model: Path, source: Source, decode: DecodeConfig) -> Overlap | None:
    """Return how many images of a source a model's run has seen; None if it belongs to no run, or saw none of them.

    A run whose data is gone, or comes from formulas, can't be compared.
    """
    data = find_data(model, decode)
    return None if data is None else compare(source, data, refitted=read_refit(model) is not None)


def overlap_of_files(model: Path, root: Path, decode: DecodeConfig) -> Overlap | None:
    """Return how many of the image files in a folder a model's run has seen; None as for `overlap`."""
    data = find_data(model, decode)
    if data is None:
        return None
    try:
        return count(list(expand_paths([str(root.resolve())])), data, read_refit(model) is not None)
    except UserError:  # no image files
        return None


def find_data(model: Path, decode: DecodeConfig) -> Dataset | None:
    """Return the data of a model's run; None if it belongs to no run, or its data is gone."""
    from vitreous.data.dataset import open_dataset

    run = find_own_run(model)
    if run is None:
        return None
    try:
        return open_dataset(read_data_config(read_run(run).config, run), decode)
    except UserError:
        return None


def compare(source: Source, data: Dataset, *, refitted: bool = False) -> Overlap | None:
    """Return how many images of a source are among the training and the validation images; None if none were trained
    on. `refitted`: whether the validation images were trained on too."""
    return count(items(source), data, refitted)


def count(mine: Sequence[Item], data: Dataset, refitted: bool) -> Overlap | None:
    """Return how many of some images are among the training and the validation images; None if none were trained on."""
    learned = items(data.train) + ([] if data.pseudo is None else items(data.pseudo.others))
    trained, held_out = find_shared(mine, learned), find_shared(mine, items(data.validation))
    if refitted:
        trained = [one or other for one, other in zip(trained, held_out, strict=True)]
    else:
        held_out = [other and not one for one, other in zip(trained, held_out, strict=True)]
    return Overlap(len(mine), sum(trained), sum(held_out), refitted) if any(trained) else None
