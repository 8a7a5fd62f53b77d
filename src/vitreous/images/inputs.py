"""Turn images as callers have them, bytes of a file, arrays or Pillow images, into a model's pixels."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vitreous.errors import ImageError, VitreousError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.decode import probe, read
from vitreous.images.formats import is_video
from vitreous.images.pixels import keep_scale
from vitreous.images.preprocess import Resizer, preprocess_image
from vitreous.images.video import Frame
from vitreous.shapes import Float, Pixels
from vitreous.storage.presence import explain_url

Image = Any
"""bytes of a file, a path (str or Path), a uint8 array (row col, or row col channel), or a Pillow image; where a model
keeps channels as they are, an array of any numbers, read like a file of them.

Arrays of floats are refused, because an array doesn't say whether 1.0 is white or nearly black.
"""
FILE = (bytes, bytearray, memoryview)
"""Kinds of what a file holds."""
FILES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "TIFF": ("CMYK", "YCbCr", "LAB", "F", "I")}
"""Formats that hold Pillow's modes without loss."""
EQUAL = {**dict.fromkeys(("I;16B", "I;16L", "I;16N"), "I"), **dict.fromkeys(("PA", "RGBa"), "RGBA"), "La": "LA"}
"""Modes of FILES that hold those which no format has."""


@dataclass(frozen=True)
class Packed:
    """One of several images in a file, read only when it is needed."""

    name: str
    stamp: str
    """Changes with its contents."""
    read: Callable[[], bytes | np.ndarray]
    """Returns its bytes, or its pixels; raises ImageError."""

    def __str__(self) -> str:
        return self.name


@runtime_checkable
class Preparation(Protocol):
    """How images become a model's pixels: what model folders and exported ones say."""

    @property
    def decode(self) -> DecodeConfig:
        """Limits and conventions for reading files."""

    @property
    def preprocess(self) -> PreprocessConfig:
        """The evaluation transform."""

    @property
    def resizer(self) -> Resizer:
        """Who resizes."""


@dataclass(frozen=True)
class Ready:
    """An image on its way to the model: its pixels, or the reason why there are none."""

    name: str
    pixels: np.ndarray | None
    error: str | None = None
    filled: bool = False
    """Whether its last bytes are missing and filled with grey."""
    reduction: int = 1
    """What its size was divided by when it was decoded."""
    partial: bool = False
    """Whether it is a video that was read in part."""


def read_pixels(
    image: Image, decode: DecodeConfig, preprocess: PreprocessConfig, name: str, resizer: Resizer = "torch"
) -> Pixels[np.ndarray, "row col channel"]:
    """Return an image of any kind but a path as the model's pixels, before normalisation; raises ImageError."""
    if isinstance(image, FILE):
        return preprocess_image(bytes(image), decode, preprocess, name, resizer)
    if isinstance(image, np.ndarray):
        image = (
            _convert_kept(image, decode, preprocess, name) if preprocess.keeps_channels else convert_array(image, name)
        )
    elif is_pillow(image):
        image = convert_pillow(image, name)
    else:
        raise ImageError(f"{name} is a {type(image).__name__}; give bytes, a path, a uint8 array or a Pillow image")
    return preprocess_image(image, decode, preprocess, name, resizer)


_pillow_lock = threading.Lock()
"""Held while a Pillow image reads its file, since two threads may share the same image."""


def is_pillow(image: Image) -> bool:
    """Return whether this is a Pillow image."""
    return hasattr(image, "getexif") and hasattr(image, "mode")


def is_single(images: Image) -> bool:
    """Return whether the argument is one image rather than many."""
    if isinstance(images, np.ndarray):
        return images.ndim <= 3
    single = isinstance(images, (str, Path, *FILE)) or is_pillow(images) or is_open_file(images)
    tensor = hasattr(images, "requires_grad")  # refused whole, not row by row
    return single or tensor or not isinstance(images, Iterable)


def is_open_file(image: Image) -> bool:
    """Return whether this is a file, or like one, that is open for reading; a Pillow image isn't."""
    return hasattr(image, "read") and not is_pillow(image)


def _convert_kept(
    array: np.ndarray, decode: DecodeConfig, preprocess: PreprocessConfig, name: str
) -> Float[np.ndarray, "row col channel"]:
    """Scale an array's channels to 0 to 255 like those of a file: uint8, whole numbers of more bits, or floats with
    levels."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "uif" or not array.size:
        raise ImageError(
            f"{name} is an array of {array.dtype}, shape {array.shape}; expected numbers, (row, col, {preprocess.mode})"
        )
    try:
        return keep_scale(array, decode)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def convert_array(array: np.ndarray, name: str) -> Pixels[np.ndarray, "row col channel"] | bytes:
    """Check an array and add its channel axis; with alpha, return the bytes of a PNG, which decoding composites."""
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


def convert_pillow(image: Image, name: str) -> Pixels[np.ndarray, "row col channel"] | bytes:
    """Turn a Pillow image upright; unusual modes become the bytes of a file, so that decoding treats them as usual."""
    from PIL import ImageOps

    try:
        with _pillow_lock:
            image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGB", "L") and not image.has_transparency_data:
            return np.array(image).reshape(image.height, image.width, -1)
        if image.mode in EQUAL:
            image = image.convert(EQUAL[image.mode])
        kind = next((kind for kind, modes in FILES.items() if image.mode in modes), None)
        return _encode(image, kind) if kind else np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise ImageError(f"{name} can't be read: {error or type(error).__name__}") from error


def _encode(image: Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()


def prepare(image: Image | Ready, number: int, folder: Preparation, resizer: Resizer | None = None) -> Ready:
    """Turn any image into the model's input pixels; never raises for an unreadable one. `number` names an image
    without a path; `resizer` names the library that resizes, by default the folder's."""
    if isinstance(image, Ready):
        return image
    if isinstance(image, Frame) and image.pixels is None:
        return Ready(image.name, None, image.error, partial=image.partial)
    path = image if isinstance(image, (str, Path)) else None
    name = str(image) if isinstance(image, (str, Path, Packed)) else f"image {number}"
    try:
        if isinstance(image, Packed):
            image = image.read()
        if isinstance(image, Frame):
            name, image = image.name, image.pixels
        if path is not None:
            image = read(Path(path), folder.decode)
        elif is_open_file(image):
            image = image.read()
        pixels = read_pixels(image, folder.decode, folder.preprocess, name, resizer or folder.resizer)
        return describe_decoding(Ready(name, pixels), image, folder.decode)
    except VitreousError as error:
        return Ready(name, None, (path and _explain_path(path)) or _format_line(error))


def prepare_all(
    images: Image | Iterable[Image], folder: Preparation
) -> Iterator[tuple[str, Pixels[np.ndarray, "row col channel"]]]:
    """Yield the name and the model's input pixels of one image, or of each of many; raises ImageError at one that can't be read."""
    for number, image in enumerate([images] if is_single(images) else images, start=1):
        ready = prepare(image, number, folder)
        if ready.pixels is None:
            raise ImageError(ready.error)
        yield ready.name, ready.pixels


def describe_decoding(ready: Ready, image: Image, decode: DecodeConfig) -> Ready:
    """Return a prepared image with what decoding filled in or reduced, if the settings allow that; raises
    ImageError."""
    if not isinstance(image, FILE) or (decode.truncated == "refuse" and decode.at_least is None):
        return ready
    info = probe(bytes(image), decode)
    return replace(ready, filled=not info.complete, reduction=info.reduction)


def _explain_path(path: str | Path) -> str | None:
    """Say why a path leads to no image, if the path itself shows it: to a video, or to a server."""
    if is_video(path):
        return f"{path} is a video, but an image is needed; read its frames with vitreous.frames"
    return explain_url(path)


def _format_line(error: Exception) -> str:
    return " ".join(str(error).split())
