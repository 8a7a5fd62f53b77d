"""Accuracy at several resolutions, with images at their own aspect packed into few sequences (model/packing.py)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp

from vitreous.data.sources.base import Source
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError
from vitreous.evaluation.accuracy import Progress
from vitreous.images.preprocess import decode_whole, preprocess_whole
from vitreous.images.tensors import normalize
from vitreous.metrics.classification import count_infinite, refuse_infinite
from vitreous.model.packing import Layout, TokenCounts, check_packing, count_length, count_packed, forward_packed
from vitreous.model.vit import ViT
from vitreous.predictor import Predictor
from vitreous.runtime.pipeline import overlap
from vitreous.shapes import Float, Float64, Int64, Pixels, Size
from vitreous.weights.model_folder import ModelFolder

SHARES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Of the model's own side, where no resolutions are named."""
LARGEST = 4
"""Times the model's own side that a resolution is at most."""
MOST_PAIRS = 2**24
"""Most pairs of tokens, of all sequences that are computed at once: a mask of 64 MiB in float32."""


@dataclass(frozen=True)
class PackedPoint:
    """A model at one resolution: an image has about the area of a square of `side` pixels, in its own aspect."""

    side: int
    top1: float
    nll: float
    tokens: float
    """Of an image, on average."""
    saved: float
    """Share of the tokens that is saved against padding the images of a batch to the largest of them, in rows and columns."""
    saved_sequences: float
    """The same against padding their sequences to the longest of them."""


@dataclass(frozen=True)
class PackedCurve:
    """Accuracy and the padding saved, by resolution."""

    examples: int
    points: tuple[PackedPoint, ...]
    batch: int
    rule: str
    """How positions were resized to each image's grid."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Passed:
    """An image's logits at each resolution, and the tokens of its batch."""

    logits: Sequence[Float64[np.ndarray, " label"]]
    counts: Sequence[TokenCounts]


def choose_sides(predictor: Predictor, sides: Sequence[int]) -> tuple[int, ...]:
    """Return the resolutions to measure, ascending; of none named, SHARES of the model's own.

    Raises:
        ConfigError: a model that was exported, can't pack, or computes in int8, or a side out of range.
    """
    folder = predictor.folder
    if isinstance(folder, ExportedFolder):
        folder.refuse("to pack images")
    if folder.merge:
        raise ConfigError("merged patches have no place of their own, so images can't be packed; leave out merge")
    check_packing(folder.model.config)
    if predictor.engine.precision == "int8":
        raise ConfigError("int8 was calibrated for one size of image; choose --precision fp32 or bf16 to pack images")
    assert isinstance(folder.model, ViT)
    image, patch = Size(*folder.model.config.image), Size(*folder.model.config.patch)
    own, most = (image.rows * image.cols) ** 0.5, LARGEST * max(image)
    for side in sides:
        if not max(patch) <= side <= most:
            raise ConfigError(
                f"a resolution of packed images is {side}; it must be {max(patch)}, a patch's side, to {most} pixels"
            )
    step = max(patch)
    return tuple(sorted(set(sides) or {max(step, round(share * own / step) * step) for share in SHARES}))


def measure_packed_curve(
    predictor: Predictor,
    source: Source,
    labels: Int64[np.ndarray, " example"],
    sides: Sequence[int],
    batch: int = 64,
    progress: Progress | None = None,
) -> PackedCurve:
    """Classify every image once at each resolution, a batch of them packed into few sequences.

    Args:
        predictor: the model, by torch.
        source: labelled examples.
        labels: their classes among the model's.
        sides: resolutions, as `choose_sides` returns them.
        batch: images that are packed together.
        progress: called after each image.

    Raises:
        ImageError: a file that can't be read. DataError: logits that are not finite.
    """
    folder = predictor.folder
    assert isinstance(folder, ModelFolder)
    sums, totals, infinite = np.zeros((len(sides), 2)), np.zeros((len(sides), 4), np.int64), 0
    decode = partial(prepare, source, folder, sides=sides)
    found = overlap(iter(range(len(source))), decode, partial(classify, predictor, sides=sides), batch)
    for index, one in enumerate(found):
        infinite += count_infinite(np.stack(one.logits)) > 0
        for place, row in enumerate(one.logits):
            sums[place] += row.argmax() == labels[index], logsumexp(row) - row[labels[index]]
        totals += np.array(one.counts)
        if progress is not None:
            progress(index + 1, len(source))
    refuse_infinite(infinite, len(source))
    points = [
        PackedPoint(side, right, loss, own / len(source), 1 - packed / images, 1 - packed / sequences)
        for side, (right, loss), (own, packed, images, sequences) in zip(
            sides, (sums / len(source)).tolist(), totals.tolist(), strict=True
        )
    ]
    return PackedCurve(len(source), tuple(points), batch, folder.resize)


def prepare(
    source: Source, folder: ModelFolder, index: int, sides: Sequence[int]
) -> list[Pixels[np.ndarray, "_ _ channel"]]:
    """Return an image at each resolution; raises ImageError."""
    whole = replace(folder.decode, at_least=None)
    image = decode_whole(source.read(index), whole, folder.preprocess, source.names[index])
    patch = Size(*folder.model.config.patch)
    return [preprocess_whole(image, folder.preprocess, patch, side) for side in sides]


def classify(
    predictor: Predictor, group: list[list[Pixels[np.ndarray, "_ _ channel"]]], sides: Sequence[int]
) -> list[_Passed]:
    """Return each image's logits at each resolution; the first one's counts are those of the batch, and the others have none."""
    folder = predictor.folder
    assert isinstance(folder, ModelFolder) and isinstance(folder.model, ViT)
    config, patch = folder.model.config, Size(*folder.model.config.patch)
    found: list[np.ndarray] = []
    counts: list[TokenCounts] = []
    for place, side in enumerate(sides):
        images = [one[place] for one in group]
        sizes = [Size(*image.shape[:2]) for image in images]
        lengths = tuple(count_length(config, size) for size in sizes)
        budget = max(max(lengths), side * side // (patch.rows * patch.cols) + config.prefix)
        layout = Layout(lengths, budget)
        counts.append(count_packed(config, sizes, layout))
        logits = torch.empty(len(images), len(folder.classes))
        several = max(1, MOST_PAIRS // layout.length**2)
        for first in range(0, len(layout.sequences), several):
            chosen = [image for sequence in layout.sequences[first : first + several] for image in sequence]
            logits[chosen] = compute_logits(predictor, folder, [images[image] for image in chosen], budget)
        found.append(logits.double().numpy())
    none = [TokenCounts(0, 0, 0, 0)] * len(sides)
    return [_Passed([each[at] for each in found], none if at else counts) for at in range(len(group))]


def compute_logits(
    predictor: Predictor, folder: ModelFolder, images: Sequence[Pixels[np.ndarray, "_ _ channel"]], budget: int
) -> Float[torch.Tensor, "image label"]:
    """Return the logits of images in whole patches over the model's temperature, packed into sequences of so many tokens."""
    assert isinstance(folder.model, ViT)
    with torch.inference_mode(), torch.autocast(predictor.device.type, torch.bfloat16, enabled=predictor.bf16):
        pixels = [torch.from_numpy(image).permute(2, 0, 1)[None].to(predictor.device) for image in images]
        ready = [normalize(one, folder.preprocess)[0] for one in pixels]
        return (forward_packed(folder.model, ready, folder.resize, budget).float() / folder.temperature).cpu()
