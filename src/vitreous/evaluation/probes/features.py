"""Frozen features: every image of a source passes through a model once; the vectors are kept on disk and
memory-mapped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vitreous.data.sources.base import Source, refuse_multilabel
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.engines.base import check_precision
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError, DataError, ImageError, check_count
from vitreous.evaluation.accuracy import Progress
from vitreous.evaluation.probes.feature_cache import cache_key, find, keep
from vitreous.evaluation.probes.layers import Layer, find_layer, read_layers
from vitreous.evaluation.probes.least_squares import CHUNK
from vitreous.images.inputs import Image, prepare
from vitreous.images.tensors import normalize
from vitreous.metrics.classification import find_indices
from vitreous.predictor import Predictor
from vitreous.runtime.device import choose_device, takes_bf16, tune_cpu
from vitreous.shapes import Float32, Int64, Pixels
from vitreous.weights.model_folder import ModelFolder


@dataclass(frozen=True, eq=False)
class Features:
    """One vector for each labelled image."""

    vectors: Float32[np.ndarray, "example features"]
    """May be mapped from a file; read large ones in pieces."""
    labels: Int64[np.ndarray, " example"]
    """Indices into `classes`."""
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, indices: Int64[np.ndarray, " chosen"]) -> "Features":
        """Return some of the images, in the given order; their vectors are copied."""
        names = tuple(self.names[index] for index in indices)
        return Features(np.asarray(self.vectors[indices]), self.labels[indices], names, self.classes)


@dataclass(frozen=True)
class FeatureOptions:
    """How features are computed."""

    layer: str = "features"
    """Name of the layer, see `evaluation/probes/layers.py`."""
    precision: str = "fp32"
    """fp32; bf16 (autocast); auto: bf16 where the hardware multiplies it faster."""
    batch: int = 64
    """Images in one pass through the model."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    workers: int | Literal["auto"] = 0
    """Processes that decode."""
    cache: bool = True
    """Keep the features on disk, and use existing ones (see `evaluation/probes/feature_cache.py`)."""


def features(
    model: ModelFolder | Predictor,
    source: Source,
    options: FeatureOptions = FeatureOptions(),
    progress: Progress | None = None,
) -> Features:
    """Return the representation of each image of a source, in the source's order; each passes through the model once.

    Features already computed for the same model, images, layer and precision are mapped from the cache.

    Args:
        model: a loaded model; it needs no head. A Predictor stays on its device, whatever the options say.
        source: labelled images.
        options: which layer, and how it is computed.
        progress: called after each batch with (images done, all images).

    Raises:
        DataError: no images, several labels per image, or features that are not finite. ImageError: a file that can't
            be read.
        ConfigError: no such layer or precision, or an empty batch.
    """
    refuse_multilabel(source, "a probe of features")
    folder = model.folder if isinstance(model, Predictor) else model
    if isinstance(model, Predictor):
        options = replace(options, device=str(model.device))
    if not len(source):
        raise DataError("there are no images to compute features of")
    check_batch(options)
    check_layer(folder, options.layer)
    if isinstance(model, Predictor) and reads_engine(model, options.layer, options.precision):
        vectors = keep(None, engine_chunks(model, source, options, progress), len(source))
        return Features(vectors, np.asarray(source.labels), tuple(source.names), tuple(source.classes))
    layer = find_layer(folder.model, options.layer)
    device = choose_device(options.device)
    bf16 = _takes_bf16(options.precision, device)
    key = cache_key(folder, source, str(layer), bf16, device.type) if options.cache else None
    vectors = find(key, len(source)) if key is not None else None
    if vectors is None:
        chunks = (vectors for (vectors,) in layer_chunks(folder, source, [layer], options, progress))
        vectors = keep(key, chunks, len(source))
    elif progress is not None:
        progress(len(source), len(source))
    return Features(vectors, np.asarray(source.labels), tuple(source.names), tuple(source.classes))


def check_layer(folder: ModelFolder | ExportedFolder, layer: str) -> None:
    """Raise ConfigError for a layer that a model doesn't have; an export has its features alone."""
    if not isinstance(folder, ExportedFolder) or layer != "features":
        find_layer(folder.model, layer)


def reads_engine(predictor: Predictor, layer: str, precision: str) -> bool:
    """Return whether features are the engine's own, of an export or in int8; raises ConfigError for an inner layer in int8."""
    if isinstance(predictor.folder, ExportedFolder):
        return True
    if precision == "int8" and layer != "features":
        raise ConfigError(
            f"in int8 only the model's features are computed, not {layer}; choose --precision fp32 or bf16"
        )
    return precision == "int8"


def engine_chunks(
    predictor: Predictor, source: Source, options: FeatureOptions, progress: Progress | None = None
) -> Iterator[Float32[np.ndarray, "batch features"]]:
    """Yield what an engine gives as features, a batch at a time, in the source's order.

    Raises:
        ConfigError: an export without features, or another precision than it was loaded with. ImageError: a file that
            can't be read.
    """
    check_loaded(predictor, options.precision)
    folder, done = predictor.folder, 0
    for part in load_evaluation_batches(
        Examples(source, folder.preprocess, folder.decode), options.batch, options.workers
    ):
        done += len(part.indices)
        yield predictor.engine.features(part.pixels.permute(0, 2, 3, 1).numpy())
        if progress is not None:
            progress(done, len(source))


def check_loaded(predictor: Predictor, precision: str) -> None:
    """Raise ConfigError for a precision that is not the one that a model was loaded with."""
    if precision not in ("auto", predictor.engine.precision):
        raise ConfigError(
            f"{predictor.path or 'the model'} computes in {predictor.engine.precision}, as it was loaded, not in {precision}; choose "
            f"--precision {'auto' if isinstance(predictor.folder, ExportedFolder) else predictor.engine.precision}"
        )


def layer_chunks(
    folder: ModelFolder,
    source: Source,
    layers: list[Layer],
    options: FeatureOptions = FeatureOptions(),
    progress: Progress | None = None,
) -> Iterator[list[Float32[np.ndarray, "batch features"]]]:
    """Yield the vectors of several layers, a batch at a time, in the source's order.

    Raises:
        ImageError: a file that can't be read. DataError: vectors that are not finite. ConfigError: no batch.
    """
    check_batch(options)
    device = choose_device(options.device)
    if device.type == "cpu":
        tune_cpu()
    folder.model.to(device).eval()
    bf16 = _takes_bf16(options.precision, device)
    done = 0
    for part in load_evaluation_batches(
        Examples(source, folder.preprocess, folder.decode), options.batch, options.workers, device=device
    ):
        if part.indices[0] != done:
            raise AssertionError(f"image {int(part.indices[0])} came where image {done} was due")
        vectors = _read_batch(folder, part.pixels.to(device, non_blocking=True), layers, bf16)
        for layer, one in zip(layers, vectors, strict=True):
            check_layer_output(one, str(layer), source.names[done : done + len(one)])
        done += len(part.indices)
        yield vectors
        if progress is not None:
            progress(done, len(source))
    if done != len(source):
        raise AssertionError(f"{done} of {len(source)} images came")


def image_vector(predictor: Predictor, image: Image, layer: str, precision: str) -> Float32[np.ndarray, " features"]:
    """Return the vector of one image of any kind that a Predictor accepts, in the same way as `features` for a source.

    Raises:
        ImageError: it can't be read. ConfigError: no such layer or precision. DataError: a vector that is not finite.
    """
    check_layer(predictor.folder, layer)
    ready = prepare(image, 1, predictor.folder, "torch")
    if ready.pixels is None:
        raise ImageError(str(ready.error))
    vectors = pixel_vectors(predictor, ready.pixels[None], layer, precision)
    check_layer_output(vectors, layer, [ready.name])
    return vectors[0]


def check_layer_output(vectors: Float32[np.ndarray, "image features"], layer: str, names: Sequence[str]) -> None:
    """Raise DataError, naming the first such image, if a vector has a value that is not finite."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise DataError(
            f"layer {layer} of {names[bad[0]]} is not finite, so the model can't be used; check its weights"
        )


def pixel_vectors(
    predictor: Predictor, pixels: Pixels[np.ndarray, "batch row col channel"], layer: str, precision: str
) -> Float32[np.ndarray, "batch features"]:
    """Return the vectors of prepared pixels, finite or not; raises ConfigError for no such layer or precision."""
    if reads_engine(predictor, layer, precision):
        check_loaded(predictor, precision)
        return predictor.engine.features(pixels)
    assert not isinstance(predictor.folder, ExportedFolder)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(predictor.device)
    found = find_layer(predictor.folder.model, layer)
    return _read_batch(predictor.folder, images, [found], _takes_bf16(precision, predictor.device))[0]


def _takes_bf16(precision: str, device: torch.device) -> bool:
    check_precision("torch", precision, ("fp32", "bf16"))
    return takes_bf16(precision, device)


def _read_batch(
    folder: ModelFolder, pixels: Pixels[Tensor, "batch channel row col"], layers: list[Layer], bf16: bool
) -> list[Float32[np.ndarray, "batch features"]]:
    """Return the layers' vectors of preprocessed pixels on the model's device."""
    with torch.inference_mode(), torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        found = read_layers(folder.model, normalize(pixels, folder.preprocess), layers)
    return [one.cpu().numpy() for one in found]


def check_batch(options: FeatureOptions) -> None:
    """Raise ConfigError for an empty batch."""
    check_count("batch", options.batch)


def match(train: Features, test: Features) -> Features:
    """Return `test` with its labels as indices into `train`'s classes, matched by name.

    Raises:
        DataError: no images, a single class, a class that `train` has no image of; vectors of different lengths, or
            vectors
        that are not finite.
    """
    check_parts(train, test)
    for name, part in (("training", train), ("test", test)):
        check_finite(name, part)
    if train.vectors.shape[1] != test.vectors.shape[1]:
        widths = (train.vectors.shape[1], test.vectors.shape[1])
        raise DataError(
            f"the training features have length {widths[0]}, but the test features {widths[1]}; use "
            "one model and layer for both"
        )
    return Features(test.vectors, find_indices(test.classes, train.classes)[test.labels], test.names, train.classes)


def check_finite(name: str, part: Features) -> None:
    """Raise DataError if a vector has a value that is not finite; reads a chunk at a time."""
    for first in range(0, len(part), CHUNK):
        bad = np.flatnonzero(~np.isfinite(part.vectors[first : first + CHUNK]).all(1))
        if len(bad):
            raise DataError(
                f"the {name} features of {part.names[first + bad[0]]} are not finite; leave the image out, or "
                "find out why"
            )


def check_parts(train: Features | Source, test: Features | Source) -> None:
    """Raise DataError unless a probe that learns from one part can be measured on the other: images, classes."""
    for part in (train, test):
        if not isinstance(part, Features):
            refuse_multilabel(part, "a probe of features")
    for name, part in (("training", train), ("test", test)):
        if not len(part):
            raise DataError(f"the {name} split has no images")
    learned = {train.classes[label] for label in np.unique(train.labels)}
    if len(learned) < 2:
        raise DataError(f"the training split has a single class, {next(iter(learned))!r}; a probe needs at least two")
    needed = [test.classes[label] for label in np.unique(test.labels)]
    unknown = [name for name in needed if name not in learned]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"the test split has classes without training images: {', '.join(map(repr, unknown[:5]))}{more}; name "
            "other images to learn from, or leave these classes out"
        )
