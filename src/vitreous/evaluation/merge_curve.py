"""Accuracy against speed as a ViT merges more and more of its patches (model/token_merging.py)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError
from vitreous.evaluation.accuracy import outputs
from vitreous.evaluation.throughput import compare_costs
from vitreous.model.count_vit import count_merged_patches
from vitreous.model.token_merging import check_merging
from vitreous.model.vit import ViT
from vitreous.predictor import Predictor
from vitreous.shapes import Float32, Int64
from vitreous.weights.model_folder import ModelFolder

SHARES = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Of the patches that are merged away by the last block, where no numbers are named."""
CurveProgress = Callable[[int, int, str], None]
"""Called with (images done, all images, what is measured)."""


@dataclass(frozen=True)
class MergePoint:
    """A model that merges so many pairs of patches in each block."""

    merge: int
    patches: int
    """Left after the last block."""
    flops: int
    """Operations of one image's forward pass: two for each multiply-add."""
    top1: float
    agreement: float
    """Share of the images with the class that they have without merging."""
    images_per_second: float


@dataclass(frozen=True)
class MergeCurve:
    """Accuracy and speed for several numbers of pairs, the first of them 0."""

    examples: int
    points: tuple[MergePoint, ...]
    batch: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def measure_merge_curve(
    predictor: Predictor,
    source: Source,
    labels: Int64[np.ndarray, " example"],
    merges: Sequence[int],
    batch: int = 64,
    progress: CurveProgress | None = None,
) -> MergeCurve:
    """Measure a model without merging and with each number of pairs; the forward passes are timed in turn.

    Args:
        predictor: the model, by torch.
        source: labelled examples.
        labels: their classes among the model's.
        merges: pairs in each block, as `choose_merges` returns them.
        batch: images in one pass through the model.
        progress: called after each batch.
    """
    folder = predictor.folder
    assert isinstance(folder, ModelFolder)
    precision = predictor.engine.precision
    models = [
        Predictor(replace(folder, merge=each), str(predictor.device), predictor.batch, precision) for each in merges
    ]
    every: list[Float32[np.ndarray, "example label"]] = []
    for place, (each, model) in enumerate(zip(merges, models, strict=True)):

        def tell(done: int, total: int, place: int = place, each: int = each) -> None:
            if progress is not None:
                progress(place * total + done, len(merges) * total, f"merging {each} pairs of patches in each block")

        every.append(outputs(model, source, batch, progress=tell))
    costs = compare_costs(models, batch)
    predicted = [logits.argmax(1) for logits in every]
    grid = folder.model.grid
    points = [
        MergePoint(
            each,
            count_merged_patches(grid.rows * grid.cols, each, folder.model.config.depth),
            cost.flops,
            float((found == labels).mean()),
            float((found == predicted[0]).mean()),
            cost.images_per_second,
        )
        for each, cost, found in zip(merges, costs, predicted, strict=True)
    ]
    return MergeCurve(len(labels), tuple(points), batch)


def choose_merges(predictor: Predictor, merges: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of pairs to measure, ascending, 0 among them; of none named, those that take SHARES of the patches away.

    Raises:
        ConfigError: a model that was exported, or can't merge so many.
    """
    folder = predictor.folder
    if isinstance(folder, ExportedFolder):
        folder.refuse("for a merge curve")
    if folder.merge:
        raise ConfigError("a merge curve begins without merging; load the model without merge")
    check_merging(folder.model, 1)
    assert isinstance(folder.model, ViT)
    grid, depth = folder.model.grid, folder.model.config.depth
    if not merges:
        spread = {round(share * grid.rows * grid.cols / depth) for share in SHARES}
        merges = sorted(min(max(1, each), grid.rows * grid.cols // 2) for each in spread)
    for each in merges:
        check_merging(folder.model, each)
    return tuple(sorted({0, *merges}))
