"""From images to maps as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.drawing.images import draw_overlay, draw_thumbnail
from vitreous.errors import DataError
from vitreous.images.config import PreprocessConfig
from vitreous.images.inputs import Image, prepare_all
from vitreous.images.pixels import select_visible
from vitreous.images.tensors import normalize
from vitreous.insight.methods import MapOptions, compute_heat, compute_probabilities, settle_options
from vitreous.model.factory import Model
from vitreous.predictor import Predictor
from vitreous.runtime.device import choose_device, tune_cpu
from vitreous.runtime.display import Shown, escape_text
from vitreous.shapes import Float, Float64, Int64, Pixels, UInt8
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder

BATCH = 16
"""Images prepared and examined at once."""
SHOWN = 16
"""Most images that a notebook shows."""


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """A model's predictions for some images, and where it looks for them."""

    method: str
    """How the maps are made; see docs/insight.md."""
    layer: int | None
    """The layer of the maps, from 0; None: the last layer, or all layers."""
    names: tuple[str, ...]
    """Names of the images: paths, or "image 3"."""
    pixels: Pixels[np.ndarray, "image row col channel"]
    """The model's input, before normalisation."""
    classes: tuple[str, ...]
    probabilities: Float64[np.ndarray, "image label"]
    """Softmax (sigmoids, where an image may have several classes), in the order of `classes`; no columns without a
    head."""
    targets: Int64[np.ndarray, " image"]
    """The class, by number, that each map explains; -1 for a model without a head."""
    maps: Float[np.ndarray, "image map_row map_col"]
    """Larger values mean more; cells are patches, or places of a convolution's map."""
    by_head: Float[np.ndarray, "image head map_row map_col"] | None
    """Each head's own map, where the method has heads."""

    def caption(self, index: int) -> str:
        """Return an image's file name with the class that its map explains and its probability, if there is one."""
        target = int(self.targets[index])
        said = f": {self.classes[target]} {self.probabilities[index, target]:.1%}" if target >= 0 else ""
        return f"{Path(self.names[index]).name}{said}"

    def overlay(self, index: int, head: int | None = None) -> UInt8[np.ndarray, "row col 3"]:
        """Return an image in grey under its map, or under that of one head where the method has heads."""
        heat = self.maps[index] if head is None or self.by_head is None else self.by_head[index, head]
        return draw_overlay(select_visible(self.pixels[index], PreprocessConfig()), heat)

    def _repr_html_(self) -> str:
        """Return the first images for a notebook, each under its map, with its name and the class that the map
        explains."""
        tiles = ""
        for index in range(min(SHOWN, len(self.names))):
            picture = f'<img src="{draw_thumbnail(self.overlay(index))}" alt="" style="display: block; width: 160px">'
            tiles += f'<div style="width: 160px">{picture}{escape_text(self.caption(index))}</div>'
        return f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{tiles}</div>'


@dataclass(frozen=True)
class Opened:
    """A model prepared for looking inside."""

    folder: ModelFolder
    device: torch.device

    @property
    def model(self) -> Model:
        """The model, on its device, in evaluation mode."""
        return self.folder.model

    def images(self, pixels: Pixels[np.ndarray, "image row col channel"]) -> Float[Tensor, "image channel row col"]:
        """Return pixels as the model takes them."""
        stacked = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        return normalize(stacked, self.folder.preprocess)


def open_inside(model: Predictor | ModelFolder | str | Path, device: str = "auto") -> Opened:
    """Prepare any form of a model for looking inside; a predictor stays on its own device."""
    if isinstance(model, Predictor):
        _ = model.model  # an export has none, and says so
        return Opened(model.folder, model.device)
    folder = model if isinstance(model, ModelFolder) else open_model(model)[0]
    place = choose_device(device)
    if place.type == "cpu":
        tune_cpu()
    folder.model.to(place).eval()
    return Opened(folder, place)


def explain(
    model: Predictor | ModelFolder | str | Path,
    images: Image | Iterable[Image],
    method: str = "auto",
    layer: int | None = None,
    head: int | None = None,
    target: str | int | None = None,
) -> Explanation:
    """Return where a model looks in some images, as arrays.

    >>> found = vitreous.explain("runs/photos-1", ["a.jpg", "b.jpg"], "rollout")        # doctest: +SKIP
    >>> found.maps.shape                                                                # doctest: +SKIP
    (2, 14, 14)

    Args:
        model: a Predictor, a model folder, or anything `vitreous.load` takes; with or without a head.
        images: one image or many, each a path, bytes of a file, a uint8 array, or a Pillow image.
        method: attention, pooling, rollout, relevance, gradient, grad-cam or activation; auto: the most informative
            one.
        layer: for attention, gradient, grad-cam and activation: 0 is the first, -1 the last; None: the last.
        head: for attention, pooling and gradient: 0 is the first; None: the mean over heads.
        target: for relevance, gradient and grad-cam: a class by name or number; None: the most probable one.

    Raises:
        ImageError: an image that can't be read. DataError: no images.
        ConfigError: something that the model or the method doesn't have.
    """
    ready = open_inside(model)
    options = settle_options(MapOptions(method, layer, head, target), ready.folder)
    names, pixels = [], []
    for name, one in prepare_all(images, ready.folder):
        names.append(name)
        pixels.append(one)
    if not pixels:
        raise DataError("there are no images to explain; give at least one")
    parts = [look_at(ready, np.stack(pixels[start : start + BATCH]), options) for start in range(0, len(pixels), BATCH)]
    scores, targets, maps, heads = ([part[index] for part in parts] for index in range(4))
    return Explanation(
        options.method, options.layer, tuple(names), np.stack(pixels), ready.folder.classes,
        np.concatenate(scores), np.concatenate(targets), np.concatenate(maps),
        None if heads[0] is None else np.concatenate([part for part in heads if part is not None]),
    )  # fmt: skip


def look_at(
    ready: Opened, pixels: Pixels[np.ndarray, "image row col channel"], options: MapOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return probabilities, targets, maps and maps by head of one batch, for settled options."""
    images = ready.images(pixels)
    scores = compute_probabilities(ready.folder, images)
    best = scores.argmax(dim=1) if scores.shape[1] else torch.full((len(images),), -1)
    targets = best if options.target is None else torch.full_like(best, int(options.target))
    maps, heads = compute_heat(ready.model, images, targets.tolist(), options)
    return scores.numpy(), targets.numpy(), array(maps), None if heads is None else array(heads)


def array(values: Tensor) -> np.ndarray:
    """Return a tensor as an array of float32."""
    return values.detach().float().cpu().numpy()
