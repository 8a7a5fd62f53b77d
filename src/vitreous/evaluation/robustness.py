"""Accuracy under the common corruptions of ImageNet-C (1903.12261), generated on the fly from clean labelled images."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from vitreous.data.sources.base import Reread, Source
from vitreous.data.sources.in_memory import remember
from vitreous.errors import ConfigError, UnknownName
from vitreous.evaluation.accuracy import class_indices, outputs
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt
from vitreous.images.preprocess import preprocess_image
from vitreous.metrics.bootstrap import bootstrap, mean_statistic
from vitreous.predictor import Predictor
from vitreous.shapes import Bool, UInt8

CorruptionProgress = Callable[[int, int, str], None]
"""Called with (images done, all images, name of the corruption)."""


@dataclass(frozen=True)
class Cell:
    """One corruption at one severity."""

    corruption: str
    severity: int
    top1: float


def format_change(before: float, after: float) -> str:
    """Format the share of an accuracy that is lost, or gained; a dash if there was none.

    >>> format_change(0.8, 0.6), format_change(0.8, 0.8152), format_change(0.8, 0.80001), format_change(0.0, 0.1)
    ('25.0% lost', '1.9% gained', '0.0% lost', '–')
    """
    if not before:
        return "–"
    share = round((before - after) / before, 3)
    return f"{abs(share):.1%} {'gained' if share < 0 else 'lost'}"


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruption.

    The mean corruption error (mCE) of ImageNet-C divides by AlexNet's errors on ImageNet, so it has no meaning on other
    data; the loss relative to clean accuracy does.
    """

    examples: int
    clean: float
    """Top-1 accuracy on the original images."""
    mean: float
    """Mean top-1 accuracy over all corruptions and severities."""
    interval: tuple[float, float]
    """95% bootstrap interval of the mean, resampling images with all their corruptions."""
    cells: tuple[Cell, ...]

    @property
    def drop(self) -> float | None:
        """The share of clean accuracy that is lost: (clean - mean) / clean."""
        return (self.clean - self.mean) / self.clean if self.clean else None

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions, in their order."""
        return tuple(dict.fromkeys(cell.corruption for cell in self.cells))

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities, ascending."""
        return tuple(sorted({cell.severity for cell in self.cells}))

    def mean_of(self, corruption: str | None = None, severity: int | None = None) -> float:
        """Return the mean accuracy over the cells of a corruption, of a severity, or of both."""
        return float(
            np.mean(
                [
                    cell.top1
                    for cell in self.cells
                    if corruption in (None, cell.corruption) and severity in (None, cell.severity)
                ]
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "drop": self.drop}


@dataclass(frozen=True, eq=False)
class Corrupted(Reread):
    """A source whose images are converted to the model's size, and then corrupted."""

    decode: DecodeConfig
    preprocess: PreprocessConfig
    corruption: str
    severity: int
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """Describe the corruption."""
        return f"{self.source.fingerprint}:{self.corruption}:{self.severity}:{self.seed}"

    def read(self, index: int) -> UInt8[np.ndarray, "row col channel"]:
        """Return an example's corrupted pixels; raises ImageError."""
        pixels = preprocess_image(self.source.read(index), self.decode, self.preprocess, self.source.names[index])
        return corrupt(pixels, self.corruption, self.severity, (self.seed, index))


def robustness(
    predictor: Predictor,
    source: Source,
    names: Sequence[str] = ("all",),
    severities: Sequence[int] = SEVERITIES,
    progress: CorruptionProgress | None = None,
    batches: tuple[int, int | Literal["auto"]] = (64, 0),
) -> Robustness:
    """Measure a model on clean images and under each corruption, as `corrupt` generates it with seed 0.

    Args:
        predictor: the model.
        source: labelled examples.
        names: of corruptions; "all" for all fifteen.
        severities: 1 to 5.
        progress: called during the work.
        batches: images in a batch, and processes that decode and corrupt.

    Raises:
        UnknownName, ConfigError: an unknown corruption or severity. DataError, ImageError: as `evaluate`.
    """
    check_colours(predictor)
    kinds = [(name, severity) for name in choose_corruptions(names) for severity in check_severities(severities)]
    folder, (batch, workers) = predictor.folder, batches
    labels = class_indices(source, folder.classes)[source.labels]
    kept = remember(source, folder.decode, folder.preprocess)
    whole = replace(folder.preprocess, crop=1.0)

    def hits(
        number: int, images: Source, said: str, preprocess: PreprocessConfig | None
    ) -> Bool[np.ndarray, " example"]:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(number * total + done, (len(kinds) + 1) * total, said)

        return outputs(predictor, images, batch, workers, tell, preprocess).argmax(1) == labels

    clean = hits(0, kept, "clean", None)
    every = []
    for number, (name, severity) in enumerate(kinds, start=1):
        images = Corrupted(kept, folder.decode, folder.preprocess, name, severity)
        every.append(hits(number, images, name, whole))
    shares = np.mean(every, axis=0)
    found = bootstrap(mean_statistic(shares), len(labels))
    cells = tuple(Cell(*kind, float(one.mean())) for kind, one in zip(kinds, every, strict=True))
    return Robustness(len(labels), float(clean.mean()), found.value, (found.low, found.high), cells)


def check_colours(predictor: Predictor) -> None:
    """Raise ConfigError for a model whose images can't be corrupted."""
    if predictor.folder.preprocess.keeps_channels:
        raise ConfigError(
            f"corruptions need colours in 8 bits, but this model sees {predictor.folder.preprocess.mode} channels "
            "as they are; leave out --corruptions"
        )


def choose_corruptions(names: Sequence[str]) -> tuple[str, ...]:
    """Return the requested corruptions, in the catalogue's order; raises UnknownName, or ConfigError if there are
    none."""
    if not names:
        raise ConfigError(f"name the corruptions, or all: {', '.join(CORRUPTIONS)}")
    for name in names:
        if name != "all" and name not in CORRUPTIONS:
            raise UnknownName("corruption", name, ("all", *CORRUPTIONS))
    return tuple(name for name in CORRUPTIONS if name in names or "all" in names)


def check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Return the severities, ascending, each once; raises ConfigError."""
    wrong = [one for one in severities if one not in SEVERITIES]
    if wrong or not severities:
        raise ConfigError(f"severities are {', '.join(map(str, wrong)) or 'none at all'}; they must be 1 to 5")
    return tuple(sorted(set(severities)))
