"""Compare an export with its model: run both on the same real images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image as Pillow

from vitreous.engines.base import Engine
from vitreous.engines.exported_engine import ExportedEngine
from vitreous.errors import CheckpointError, DataError
from vitreous.images.inputs import Image, prepare
from vitreous.shapes import Pixels
from vitreous.weights.model_folder import ModelFolder

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""Largest allowed difference of an export's outputs, as a share of the largest output, by precision."""
MOST = 32
"""Number of the user's images that are run, at most."""
BATCHES = (1, 5)
"""Batch sizes, in turn: an export with a fixed batch size fails on the second batch, or on the batch of a single image
and its mirror image."""
SAMPLES = ("china.jpg", "flower.jpg")
"""scikit-learn's photographs, 427 rows and 640 columns (CC BY 2.0, sklearn/datasets/images/README.txt)."""


@dataclass(frozen=True)
class Proof:
    """The result of running both on the same images."""

    images: int
    source: str
    """A description of the images."""
    engine: str
    """The engine that ran the export, with its version."""
    difference: float
    """Largest absolute difference of an output, as a share of the largest output of its kind."""
    scale: float
    """Largest logit, or largest feature if there are no logits."""
    agreement: float | None
    """Share of the images with the same most probable class; None without logits."""
    tolerance: float

    def __str__(self) -> str:
        same = "" if self.agreement is None else f", top-1 agreement {self.agreement:.1%}"
        return (
            f"{self.images} images ({self.source}) through torch and {self.engine}: largest difference {self.difference:.1e} of the "
            f"largest output ({self.scale:.3g}; {self.tolerance:g} is allowed){same}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def sample_images(channels: int | None) -> list[np.ndarray]:
    """Return crops of two photographs: whole, quarters, a tall and a wide strip, each also mirrored.

    Args:
        channels: number of channels that the model keeps as they are; None: colour.
    """
    found = []
    for name in SAMPLES:
        with files("sklearn.datasets.images").joinpath(name).open("rb") as file:
            photo = np.asarray(Pillow.open(file).convert("RGB"))
        rows, cols = photo.shape[0] // 2, photo.shape[1] // 2
        crops = [photo, photo[:rows, :cols], photo[:rows, cols:], photo[rows:, :cols], photo[rows:, cols:]]
        crops += [photo[:, cols - 90 : cols + 90], photo[rows - 60 : rows + 60]]
        found += [crop for each in crops for crop in (each, each[:, ::-1])]
    if channels is None:
        return found
    return [
        np.ascontiguousarray(np.resize(np.moveaxis(crop, 2, 0), (channels, *crop.shape[:2])).transpose(1, 2, 0))
        for crop in found
    ]


def gather_pixels(folder: ModelFolder, images: Sequence[Image] | None) -> tuple[np.ndarray, str]:
    """Return real images as the model sees them, and their description; raises DataError if none can be read."""
    kept = folder.preprocess.channels if folder.preprocess.keeps_channels else None
    given = sample_images(kept) if images is None else list(islice(images, MOST))
    ready = [prepare(image, number, folder) for number, image in enumerate(given, start=1)]
    pixels = [one.pixels for one in ready if one.pixels is not None]
    if not pixels:
        why = next((one.error for one in ready if one.error), "there are none")
        raise DataError(f"there is no image to run the export on: {why}")
    return np.stack(pixels), "crops of two photographs" if images is None else "yours"


def prove(
    reference: Engine,
    export: ExportedEngine,
    pixels: Pixels[np.ndarray, "image row col channel"],
    source: str,
    engine: str,
) -> Proof:
    """Run both; raises CheckpointError if they differ by more than the precision allows."""
    tolerance = TOLERANCES[export.folder.graph.precision]
    batches = list(split_batches(pixels))
    found = join_outputs([export.outputs(batch) for batch in batches])
    expected = join_outputs([{name: getattr(reference, name)(batch) for name in found} for batch in batches])
    differences = [measure_difference(found[name], expected[name]) for name in found]
    for other in list_further_batches(pixels, export.folder.graph.dynamic_image):
        outputs = export.outputs(other)
        differences += [measure_difference(outputs[name], getattr(reference, name)(other)) for name in outputs]
    worst = float(np.max(differences))  # NaN stays
    main = "logits" if "logits" in found else "features"
    agreement = None
    if "logits" in found:
        agreement = float((found["logits"].argmax(1) == expected["logits"].argmax(1)).mean())
    proof = Proof(len(pixels), source, engine, worst, float(np.abs(expected[main]).max()), agreement, tolerance)
    if not worst <= tolerance:
        raise CheckpointError(f"the export is not the same function, and nothing was written: {proof}")
    return proof


def join_outputs(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the outputs of several batches joined into one."""
    return {name: np.concatenate([one[name] for one in batches]) for name in batches[0]}


def list_further_batches(
    pixels: Pixels[np.ndarray, "image row col channel"], dynamic: bool
) -> list[Pixels[np.ndarray, "batch row2 col2 channel"]]:
    """Return batches for what the images alone don't test: two images, if there is only one; and, for an export that
    takes other sizes too, images half as large again with more rows than columns, and the reverse."""
    mirrored = np.ascontiguousarray(np.flip(pixels[:1], 2))
    found = [np.concatenate([pixels, mirrored])] if len(pixels) == 1 else []
    if dynamic:
        rows, cols = pixels.shape[1:3]
        wide = np.concatenate([pixels[:1], mirrored], axis=2)
        tall = np.concatenate([pixels[:1], np.flip(pixels[:1], 1)], axis=1)
        found += [
            np.ascontiguousarray(wide[:, :, : cols + cols // 2]),
            np.ascontiguousarray(tall[:, : rows + rows // 2]),
        ]
    return found


def measure_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference as a share of the largest expected value; infinite if shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
    return float(np.abs(found - expected).max()) / scale


def split_batches(
    pixels: Pixels[np.ndarray, "image row col channel"],
) -> Iterator[Pixels[np.ndarray, "batch row col channel"]]:
    """Yield the images in batches of several sizes."""
    start, turn = 0, 0
    while start < len(pixels):
        size = BATCHES[turn % len(BATCHES)]
        yield pixels[start : start + size]
        start, turn = start + size, turn + 1
