"""From images to labels, or to features: one image or a stream of them, from bytes, files, arrays or Pillow images."""

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitreous.errors import ConfigError, ImageError, UnknownName, VitreousError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import probe, read
from vitreous.images.pixels import keep_scale
from vitreous.images.preprocess import normalize, preprocess_image
from vitreous.model.vit import ViT
from vitreous.runtime.device import choose_device, has_native_bf16, tune_cpu
from vitreous.shapes import Pixels
from vitreous.storage.presence import explain_url
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import Report

PRECISIONS = ("auto", "fp32", "bf16")
Image = Any
"""bytes of a file, a path (str or Path), a uint8 array (row col, or row col channel), or a Pillow image; where a model sees
channels as they are, an array of any numbers, read as a file of them would be.

Arrays of floats are refused: whether 1.0 is white or nearly black can't be told from an array."""
FILES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "TIFF": ("CMYK", "YCbCr", "LAB", "F", "I")}
"""Formats that hold Pillow's modes without loss."""
Ranked = tuple[tuple[str, float], ...]
"""Classes with their probabilities, the most probable first."""
CLAIMED = 0.5
"""Probability from which a class is said to be there, where an image may have several."""
DECODERS = 4
"""Most threads that decode ahead of the model."""
HEADLESS = (
    "this model has no head, so it can't classify: take its .features(images), .tokens(images) or .maps(images), give it a new "
    "head (vitreous.load(PATH, classes=...)), or train one (vitreous train DATA --recipe finetune --weights PATH)"
)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image, or why it couldn't."""

    name: str
    """The path, or "image 3" for an image without one, counted from 1."""
    label: str | None = None
    """The most probable class."""
    score: float | None = None
    """Its probability, 0 to 1: softmax; where an image may have several classes, each class's own sigmoid."""
    top: tuple[tuple[str, float], ...] = ()
    """The most probable classes with their probabilities, best first; all of `labels` among them."""
    error: str | None = None
    """Why there is no label, in one line."""
    filled: bool = False
    """It is a JPEG that lacks its last bytes, filled with grey (decode.truncated)."""
    labels: tuple[str, ...] | None = None
    """Where an image may have several classes: those with a probability of at least one half, most probable first."""

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values; labels where an image may have several."""
        top = [{"label": label, "score": score} for label, score in self.top]
        found = {"name": self.name, "label": self.label, "score": self.score, "top": top, "error": self.error}
        found |= {"filled": True} if self.filled else {}
        return found if self.labels is None else {**found, "labels": list(self.labels)}


@dataclass(frozen=True)
class Ready:
    """An image on its way to the model: pixels, or the reason why there are none."""

    name: str
    pixels: np.ndarray | None
    error: str | None = None
    filled: bool = False
    """It lacks its last bytes, which are grey."""


class Predictor:
    """A model ready to classify, or, with or without head, to give features.

    Images go through the preprocessing that travels with the weights.

    Args:
        folder: the model and all that belongs to it.
        device: auto, cpu, cuda or mps.
        batch: most images that pass through the model at once.
        precision: fp32; bf16 (autocast); auto: bf16 where the hardware multiplies it natively.
        top: classes listed in each prediction, most probable first.

    Raises:
        UserError: the device is not there, or a setting makes no sense.
    """

    def __init__(
        self, folder: ModelFolder, device: str = "auto", batch: int = 32, precision: str = "fp32", top: int = 5
    ) -> None:
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        for name, value in (("batch", batch), ("top", top)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self.device = choose_device(device)
        if self.device.type == "cpu":
            tune_cpu()
        self.folder, self.batch, self.top = folder, batch, min(top, len(folder.classes))
        self.bf16 = precision == "bf16" or (precision == "auto" and has_native_bf16(self.device))
        self.model = folder.model.to(self.device).eval()
        self.report: Report | None = None
        """What became of the weights, where there is something to tell."""
        self.path = ""
        """Where the model was loaded from, as it was said; "" for one from memory."""
        self.load_options: dict[str, Any] = {}
        """How its weights were taken, as it was said."""

    @classmethod
    def load(
        cls, path: str | Path, device: str = "auto", batch: int = 32, precision: str = "fp32", top: int = 5
    ) -> "Predictor":
        """Load a model folder, a run folder's exported model, a file or folder of foreign weights, or a name on the Hub.

        Raises:
            CheckpointError: nothing there that can be loaded; what was wrong.
        """
        folder, report = open_model(path)
        predictor = cls(folder, device, batch, precision, top)
        predictor.report, predictor.path = report, str(path)
        return predictor

    @overload
    def __call__(self, images: list[Image] | tuple[Image, ...]) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Image) -> Prediction: ...
    def __call__(self, images: Image) -> Prediction | list[Prediction]:
        """Classify one image, or each of many in their order.

        An image is bytes of a file, a path, a uint8 array of shape (row, col), (row, col, channel) or a Pillow image.
        Many are any other iterable of those. An image that can't be read gives a Prediction with `error` set.

        Raises:
            ConfigError: the model has no head.
        """
        self.check_head()
        if is_single(images):
            return next(self._classify([prepare(images, 1, self.folder)]))
        return list(self.predict_many(images))

    def predict_many(self, images: Iterable[Image]) -> Iterator[Prediction]:
        """Classify a stream of images, in order, decoding ahead of the model; memory stays bounded.

        An image that can't be read gives a Prediction with `error` set and stops nothing.

        Raises:
            ConfigError: the model has no head.
        """
        self.check_head()
        return self._predicted(images)

    @property
    def said(self) -> dict[str, Any]:
        """Where the model was loaded from and how its weights were taken, as JSON values."""
        taken = {"taken": self.load_options} if self.load_options else {}
        return {"model": self.path, **taken}

    def check_head(self) -> None:
        """Raise ConfigError if the model has no head, so that it can't classify."""
        if not self.folder.classes:
            raise ConfigError(HEADLESS)

    def features(self, images: Image) -> Float[Tensor, "*image features"]:
        """Return what represents each image: what a head reads, in float32 on the CPU; of one image, a single vector.

        Args:
            images: one or many, as in a call.

        Raises:
            ImageError: an image that can't be read.
        """
        return self._seen(images, self.model.features)

    def tokens(self, images: Image) -> Float[Tensor, "*image token dim"]:
        """Return a ViT's sequence after the last block and, unless it stands after pooling, the final norm.

        Prefix tokens ([class], distillation, registers) come first, then the patches row by row. See `features`.

        Raises:
            ImageError: an image that can't be read. ConfigError: a ResNet, which has no tokens.
        """
        return self._seen(images, self._vit("tokens").tokens)

    def maps(self, images: Image, layer: int = -1) -> Float[Tensor, "*image grid_row grid_col dim"]:
        """Return the patches' vectors after a block, through the final norm where it stands over the sequence, as maps.

        Args:
            images: one or many, as in a call.
            layer: the block, 0 the first, -1 the last.

        Raises:
            ImageError: an image that can't be read. ConfigError: no such block, or a ResNet.
        """
        model = self._vit("maps of patches")
        return self._seen(images, lambda pixels: model.maps(pixels, [layer])[0])

    def _vit(self, what: str) -> ViT:
        if not isinstance(self.model, ViT):
            raise ConfigError(f"a ResNet has no {what}; take its .features(images)")
        return self.model

    def _seen(self, images: Image, see: Callable[[Tensor], Tensor]) -> Tensor:
        """Pass one image or many through a part of the model, a batch at a time."""
        single = is_single(images)
        found: list[Tensor] = []
        source = enumerate([images] if single else images, start=1)
        while group := [prepare(image, number, self.folder) for number, image in islice(source, self.batch)]:
            broken = next((ready.error for ready in group if ready.error is not None), None)
            if broken is not None:
                raise ImageError(broken)
            pixels = np.stack([ready.pixels for ready in group if ready.pixels is not None])
            found.append(self._passed(torch.from_numpy(pixels).permute(0, 3, 1, 2), see).cpu())
        if not found:
            raise ConfigError("there are no images")
        return found[0][0] if single else torch.cat(found)

    def _predicted(self, images: Iterable[Image]) -> Iterator[Prediction]:
        source = enumerate(images, start=1)
        waiting: deque[Future[Ready]] = deque()
        pool = ThreadPoolExecutor(min(DECODERS, os.cpu_count() or 1), thread_name_prefix="decode")

        def decode_ahead() -> None:
            for number, image in islice(source, 2 * self.batch - len(waiting)):
                waiting.append(pool.submit(prepare, image, number, self.folder))

        try:
            decode_ahead()
            while waiting:
                group = [waiting.popleft().result() for _ in range(min(self.batch, len(waiting)))]
                decode_ahead()
                yield from self._classify(group)
        finally:
            pool.shutdown(cancel_futures=True)

    def logits(self, pixels: Pixels[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return the model's outputs for preprocessed pixels, in float32 on the model's device."""
        return self._passed(pixels, self.model)

    def _passed(self, pixels: Pixels[Tensor, "batch channel row col"], see: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return see(normalize(pixels.to(self.device), self.folder.preprocess)).float()

    def _classify(self, group: list[Ready]) -> Iterator[Prediction]:
        """Pass a batch through the model; those without pixels keep their place."""
        pixels = [ready.pixels for ready in group if ready.pixels is not None]
        rows: Iterator[Ranked] = iter(self._best(np.stack(pixels)) if pixels else [])
        for ready in group:
            if ready.pixels is None:
                yield Prediction(ready.name, error=ready.error)
            else:
                yield replace(self._prediction(ready.name, next(rows)), filled=ready.filled)

    def _prediction(self, name: str, ranked: Ranked) -> Prediction:
        """Say what a model makes of an image, from its classes by probability."""
        if not self.folder.several:
            return Prediction(name, *ranked[0], ranked)
        labels = tuple(label for label, score in ranked if score >= CLAIMED)
        return Prediction(name, *ranked[0], ranked[: max(self.top, len(labels))], labels=labels)

    def _best(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> list[Ranked]:
        """Return each image's most probable classes; all of them where it may have several."""
        probabilities = self.folder.probabilities(self.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        classes = self.folder.classes
        scores, labels = probabilities.topk(len(classes) if self.folder.several else self.top)
        return [
            tuple((classes[label], score) for label, score in zip(*row, strict=True))
            for row in zip(labels.tolist(), scores.tolist(), strict=True)
        ]


def prepare(image: Image, number: int, folder: ModelFolder) -> Ready:
    """Turn any image into a model's pixels; never raises for a bad one. `number`: names one without a path."""
    name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
    try:
        if isinstance(image, (str, Path)):
            image = read(Path(image), folder.decode)
        pixels = _read_pixels(image, name, folder)
        return Ready(name, pixels, filled=isinstance(image, bytes) and is_filled(image, folder.decode))
    except VitreousError as error:
        told = explain_url(image) if isinstance(image, (str, Path)) else None  # it could not be read
        return Ready(name, None, told or _format_line(error))


def is_filled(data: bytes, decode: DecodeConfig) -> bool:
    """Tell whether a file is a JPEG that lacks its last bytes, where these are filled; raises ImageError."""
    return decode.truncated == "fill" and not probe(data, decode).complete


def _read_pixels(image: Image, name: str, folder: ModelFolder) -> Pixels[np.ndarray, "row col channel"]:
    decode, preprocess = folder.decode, folder.preprocess
    if isinstance(image, (bytes, bytearray, memoryview)):
        return preprocess_image(bytes(image), decode, preprocess, name)
    if isinstance(image, np.ndarray):
        image = _convert_kept(image, folder, name) if isinstance(preprocess.mode, int) else _convert_array(image, name)
    elif _is_pillow(image):
        image = _convert_pillow(image, name)
    else:
        raise ImageError(f"{name} is a {type(image).__name__}; give bytes, a path, a uint8 array or a Pillow image")
    return preprocess_image(image, decode, preprocess, name)


_pillow_lock = threading.Lock()
"""Held while a Pillow image reads its file, since two threads may have been handed the same image."""


def _is_pillow(image: Image) -> bool:
    return hasattr(image, "getexif") and hasattr(image, "mode")


def is_single(images: Image) -> bool:
    """Tell one image from many."""
    if isinstance(images, np.ndarray):
        return images.ndim <= 3
    single = isinstance(images, (str, Path, bytes, bytearray, memoryview)) or _is_pillow(images)
    return single or not isinstance(images, Iterable)


def _convert_kept(array: np.ndarray, folder: ModelFolder, name: str) -> Float[np.ndarray, "row col channel"]:
    """Bring an array's channels to 0 to 255 as those of a file: uint8, whole numbers of more bits, or floats with levels."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "uif" or not array.size:
        raise ImageError(
            f"{name} is an array of {array.dtype}, shape {array.shape}; expected numbers, (row, col, {folder.preprocess.mode})"
        )
    try:
        return keep_scale(array, folder.decode)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def _convert_array(array: np.ndarray, name: str) -> Pixels[np.ndarray, "row col channel"] | bytes:
    """Check an array and give it its channel axis; with alpha, as the bytes of a PNG, which decoding composites."""
    if array.dtype != np.uint8:
        hint = "scale floats to 0..255 and convert, for example (a * 255).round().astype('uint8')"
        raise ImageError(f"{name} is an array of {array.dtype}; expected uint8: {hint}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or not array.size:
        hint = (
            "; move the channels last: a.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        )
        expected = "(row, col) or (row, col, channel) with 1 to 4 channels"
        raise ImageError(f"{name} is an array of shape {array.shape}; expected {expected}{hint}")
    if array.shape[2] in (2, 4):
        from PIL import Image as Pillow

        return _encode(Pillow.fromarray(np.ascontiguousarray(array)), "PNG")
    return np.array(array)  # a copy: the caller's may be read-only or change meanwhile


def _convert_pillow(image: Image, name: str) -> Pixels[np.ndarray, "row col channel"] | bytes:
    """Bring a Pillow image upright; unusual modes go on as the bytes of a file, so that decoding treats them as ever."""
    from PIL import ImageOps

    try:
        with _pillow_lock:
            image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGB", "L") and not image.has_transparency_data:
            return np.array(image).reshape(image.height, image.width, -1)
        kind = next((kind for kind, modes in FILES.items() if image.mode in modes), None)
        return _encode(image, kind) if kind else np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise ImageError(f"{name} can't be read: {error or type(error).__name__}") from error


def _encode(image: Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()


def _format_line(error: Exception) -> str:
    return " ".join(str(error).split())
