"""Measure a model under other conditions than its own, for `vitreous.evaluate`: corruptions, merged patches, packed
images."""

from collections.abc import Sequence

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.errors import ConfigError
from vitreous.evaluation.merge_curve import CurveProgress, MergeCurve, measure_merge_curve
from vitreous.evaluation.packed_curve import PackedCurve, measure_packed_curve
from vitreous.evaluation.robustness import Robustness, check_severities, choose_corruptions, robustness
from vitreous.images.corruptions.catalog import SEVERITIES
from vitreous.predictor import Predictor
from vitreous.training.reporter import Reporter, progress_of


def list_numbers(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    """Return one or several whole numbers as a tuple; raises ConfigError for anything else."""
    found = (given,) if isinstance(given, (int, float, str)) else tuple(given)
    for one in found:
        if type(one) is not int:
            raise ConfigError(f"{name} is {one!r}; it must be a whole number, or several")
    return found


def check_corruptions(
    corruptions: str | Sequence[str] | None, severities: int | Sequence[int] | None
) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
    """Return the requested corruptions and severities, to be measured in all pairs; None if none are requested.

    Raises:
        UnknownName, ConfigError: an unknown corruption or severity.
    """
    if corruptions is None:
        if severities is not None:
            raise ConfigError("severities is for corruptions; give corruptions too: all, or some by name")
        return None
    names = (corruptions,) if isinstance(corruptions, str) else corruptions
    return choose_corruptions(names), check_severities(
        SEVERITIES if severities is None else list_numbers("severities", severities)
    )


def follow(display: Reporter, before: str = "") -> CurveProgress:
    """Return a function that shows its arguments (images done, all images, what is measured), after the words
    `before`."""

    def report_work(done: int, total: int, said: str) -> None:
        display.phase(before + said)
        display.progress(done, total, {})

    return report_work


def measure_corruptions(
    requested: tuple[tuple[str, ...], tuple[int, ...]],
    predictor: Predictor,
    source: Source,
    batch: int,
    display: Reporter,
) -> Robustness:
    """Measure the model under corruptions."""
    progress = follow(display, "measuring under corruption: ")
    return robustness(predictor, source, *requested, progress, (batch, "auto"))


def draw_merge_curve(
    merges: tuple[int, ...], predictor: Predictor, images: tuple[Source, np.ndarray], batch: int, display: Reporter
) -> MergeCurve:
    """Measure the model with these numbers of merged pairs, on labelled images."""
    return measure_merge_curve(predictor, *images, merges, batch, follow(display))


def draw_packed_curve(
    sides: tuple[int, ...], predictor: Predictor, images: tuple[Source, np.ndarray], batch: int, display: Reporter
) -> PackedCurve:
    """Measure the model at these resolutions, on labelled images that are packed."""
    display.phase(f"packing images at {' '.join(map(str, sides))} pixels")
    return measure_packed_curve(predictor, *images, sides, batch, progress_of(display))
