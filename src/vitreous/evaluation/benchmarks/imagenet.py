"""A model with a head for ImageNet on ImageNet's other test sets."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitreous.data.sources.base import FileSource, Source
from vitreous.errors import DataError
from vitreous.evaluation.accuracy import Progress, outputs
from vitreous.evaluation.benchmarks.imagenet_c import BaselineErrors, corruption_errors, find_folders
from vitreous.evaluation.benchmarks.imagenet_classes import CLASSES, find_outputs, is_assumed, subset
from vitreous.evaluation.benchmarks.imagenet_sets import find_set, open_classes, open_validation, read_real_labels
from vitreous.images.config import PreprocessConfig
from vitreous.metrics.classification import wilson_interval
from vitreous.predictor import Predictor
from vitreous.shapes import Bool, Int64

Phase = Callable[[str], None]
"""Called with the name of the current measurement."""


@dataclass(frozen=True)
class Score:
    """A model's result on one of the test sets."""

    benchmark: str
    images: int
    """Images that were scored; ImageNet-C: each once, however many corruptions of it there are."""
    top1: float
    """Share of correct predictions, 0 to 1."""
    interval: tuple[float, float]
    """95% Wilson interval of top1."""
    top5: float | None
    """Share of images whose class is among the five best; None for benchmarks without such a number."""
    left_out: int = 0
    """ReaL: images without any label."""
    corrupted: BaselineErrors | None = None
    """ImageNet-C: errors by corruption."""
    assumed: bool = False
    """Whether the model's outputs were taken to be in ImageNet's order, since their names are neither ids nor numbers."""
    skipped: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Files that can't be read: (name, reason)."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class BatchOptions:
    """Settings for running images through the model."""

    batch: int = 64
    """Images per batch."""
    workers: int | Literal["auto"] = 0
    """Processes that decode."""
    broken: str = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted)."""
    progress: Progress | None = None
    """Called with (images done, all images)."""
    phase: Phase | None = None


def score(predictor: Predictor, name: str, root: Path, batches: BatchOptions = BatchOptions()) -> Score:
    """Measure a model on the user's copy of a test set, by the benchmark's own rule.

    ImageNet-A and -R have 200 classes: the prediction is the best among those, as in the authors' code. For ReaL
    (2006.07159), a prediction is correct if it is one of the image's labels; images without labels are left out.

    Args:
        predictor: a model with a head for ImageNet.
        name: of the benchmark; see SETS.
        root: the user's copy.
        batches: settings for running images through the model.

    Raises:
        UnknownName: no such benchmark. ConfigError: a model with other outputs.
        DataError: the copy isn't there, or isn't laid out as it should be. ImageError: a file that can't be read.
    """
    mark, names = find_set(name).mark, predictor.folder.classes
    columns = find_outputs(names)
    if name == "imagenet-real":
        found = score_real(predictor, root, columns, batches)
    elif name == "imagenet-c":
        found = score_corrupted(predictor, root, columns, batches)
    else:
        found = score_classes(predictor, name, root, columns, subset(mark), batches)
    return replace(found, assumed=is_assumed(names))


def score_classes(
    predictor: Predictor,
    name: str,
    root: Path,
    columns: Int64[np.ndarray, " label"],
    chosen: Int64[np.ndarray, " chosen"],
    batches: BatchOptions = BatchOptions(),
) -> Score:
    """Measure on folders of classes: the best class, and the five best, among the chosen ones."""
    source, labels = open_classes(root, predictor.folder.decode, batches.broken, chosen)
    right = rank(predictor, source, columns, chosen, batches) == labels[:, None]
    hits = int(right[:, 0].sum())
    top1, top5 = hits / len(source), float(right.any(1).mean())
    skipped = getattr(source, "skipped", ())
    return Score(name, len(source), top1, wilson_interval(hits, len(source)), top5, skipped=skipped)


def rank(
    predictor: Predictor,
    source: Source,
    columns: Int64[np.ndarray, " label"],
    chosen: Int64[np.ndarray, " chosen"],
    batches: BatchOptions,
    preprocess: PreprocessConfig | None = None,
) -> Int64[np.ndarray, "example 5"]:
    """Return the five best classes of each image among the chosen ones, best first."""
    logits = outputs(predictor, source, batches.batch, batches.workers, batches.progress, preprocess)
    return chosen[np.argsort(-logits[:, columns[chosen]], axis=1, kind="stable")[:, :5]]


def score_real(
    predictor: Predictor, root: Path, columns: Int64[np.ndarray, " label"], batches: BatchOptions = BatchOptions()
) -> Score:
    """Measure on the reassessed labels."""
    labels = read_real_labels(root)
    source, numbers = open_validation(root, predictor.folder.decode, batches.broken)
    labelled = np.array([bool(labels[number]) for number in numbers])
    if not labelled.any():
        raise DataError(f"none of the {len(source):,} images in {root} has a label in the reassessed list")
    kept = take_images(source, labelled)
    best = rank(predictor, kept, columns, np.arange(CLASSES), batches)[:, 0]
    hits = sum(int(choice) in labels[number] for choice, number in zip(best, numbers[labelled], strict=True))
    left_out = int((~labelled).sum())
    return Score(
        "imagenet-real",
        len(kept),
        hits / len(kept),
        wilson_interval(hits, len(kept)),
        None,
        left_out,
        skipped=source.skipped,
    )


def take_images(source: FileSource, keep: Bool[np.ndarray, " example"]) -> FileSource:
    """Return some of a source's images, in their order."""
    places = np.flatnonzero(keep)
    names = tuple(source.names[place] for place in places)
    return FileSource(names, source.labels[places], source.classes, source.fingerprint, source.decode, root=source.root)


def score_corrupted(
    predictor: Predictor, root: Path, columns: Int64[np.ndarray, " label"], batches: BatchOptions = BatchOptions()
) -> Score:
    """Measure under each corruption at each severity that the copy has.

    Files of the same name, class folder included, are the same image, of which there is no more to learn by its other
    corruptions: the interval is as for one answer each. They are already cropped to the model's input, so no border is cropped again.
    """
    every, skipped = {}, []
    answers: dict[str, list[bool]] = defaultdict(list)
    whole = replace(predictor.folder.preprocess, crop=1.0)
    for (corruption, severity), folder in find_folders(root).items():
        if batches.phase is not None:
            batches.phase(f"evaluating on {corruption}, severity {severity}")
        source, labels = open_classes(folder, predictor.folder.decode, batches.broken, subset(""))
        right = rank(predictor, source, columns, subset(""), batches, whole)[:, 0] == labels
        every[corruption, severity] = 1 - float(right.mean())
        for image, hit in zip(source.names, right.tolist(), strict=True):
            answers[image].append(hit)
        skipped += getattr(source, "skipped", ())
    top1 = sum(map(sum, answers.values())) / sum(map(len, answers.values()))
    return Score(
        "imagenet-c",
        len(answers),
        top1,
        wilson_interval(top1 * len(answers), len(answers)),
        None,
        corrupted=corruption_errors(every),
        skipped=tuple(skipped),
    )
