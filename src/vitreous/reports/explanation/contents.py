"""The contents of the page, gathered from a model and a stream of images."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.engines.torch_engine import to_probabilities
from vitreous.errors import DataError
from vitreous.images.inputs import Image, Ready, prepare
from vitreous.images.pixels import select_visible
from vitreous.insight.attention_distance import AttentionDistance, join_distances
from vitreous.insight.explanation import BATCH, Opened, array, look_at
from vitreous.insight.faithfulness import Curve, draw_random_heat, measure_deletion, measure_insertion
from vitreous.insight.methods import MapOptions, compute_heat, list_fitting
from vitreous.insight.patch_features import colour_features, compute_patch_features, compute_token_norms
from vitreous.insight.windows import iterate_images, measure_distances
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.reports.explanation.attention_rows import Rows, compute_attention_rows
from vitreous.runtime.display import strip_hidden
from vitreous.shapes import Float, Pixels, UInt8

STEPS = 12
"""Changes of an image along a deletion or insertion curve."""
Progress = Callable[[str, int], None]
"""Called with the current step, and the number of images done."""


@dataclass(frozen=True)
class ExplainedImage:
    """One image, and the requested map."""

    name: str
    pixels: Pixels[np.ndarray, "row col channel"]
    """The model's input."""
    picture: UInt8[np.ndarray, "row col channel2"]
    """The picture shown to people."""
    probabilities: Float[np.ndarray, " label"]
    target: int
    """The class that maps explain; -1: the model has no head."""
    heat: Float[np.ndarray, "map_row map_col"]


@dataclass(frozen=True)
class Compared:
    """The faithfulness of one method's maps, as means over images."""

    deletion: Curve
    insertion: Curve


@dataclass
class ExplanationContents:
    """What the page is drawn from."""

    ready: Opened
    map_options: MapOptions
    shown: list[ExplainedImage] = field(default_factory=list)
    """The images on the page."""
    count: int = 0
    """The number of readable images."""
    broken: list[str] = field(default_factory=list)
    """Why the others couldn't be read."""
    distances: list[AttentionDistance] = field(default_factory=list)
    """Over all images, for each stage: a ViT is one stage, a ResNet has none."""
    maps: dict[str, Float[np.ndarray, "image map_row map_col"]] = field(default_factory=dict)
    """Every fitting method's maps of the images on the page."""
    rows: Rows | None = None
    colours: Float[np.ndarray, "image grid_row grid_col 3"] | None = None
    norms: Float[np.ndarray, "layer image token"] | None = None
    compared: dict[str, Compared] = field(default_factory=dict)
    """The faithfulness of each method's maps, on the first `compared_images` images."""
    compared_images: int = 0


@dataclass(frozen=True)
class PageOptions:
    """How much the page shows."""

    map_options: MapOptions
    """The settled options of the map that overlays each image."""
    page: int = 8
    """Most images on the page."""
    faithful: int = 2
    """Most images on which maps are compared by deletion and insertion; 0: none."""


def gather(
    ready: Opened,
    images: Iterable[Image],
    options: PageOptions,
    keep: Callable[[int, ExplainedImage], None],
    progress: Progress,
) -> ExplanationContents:
    """Look into a model on a stream of images: all get their map, the first ones everything else too.

    Args:
        ready: the model.
        images: any number of them; unreadable ones are counted and left out.
        options: how much goes on the page.
        keep: called with each image and its number, from 0, as soon as it is explained.
        progress: called during the work.

    Raises:
        DataError: no image could be read.
    """
    found, measured = ExplanationContents(ready, options.map_options), []
    for batch in _iterate_batches(images, found):
        pixels = np.stack([one.pixels for one in batch])
        scores, targets, maps, _ = look_at(ready, pixels, options.map_options)
        for place, one in enumerate(batch):
            shown = select_visible(pixels[place], ready.folder.preprocess)
            seen = ExplainedImage(one.name, pixels[place], shown, scores[place], int(targets[place]), maps[place])
            keep(found.count + place, seen)
            found.shown += [seen] if len(found.shown) < options.page else []
        measured.append(measure_distances(ready.model, ready.images(pixels)))
        found.count += len(batch)
        progress("looking", found.count)
    if not found.count:
        raise DataError(f"none of the {len(found.broken):,} images can be read; the first: {found.broken[0]}")
    found.distances = [join_distances(stage) for stage in zip(*measured, strict=True)]
    labels = shorten_names([one.name for one in found.shown])
    found.shown = [replace(one, name=label) for one, label in zip(found.shown, labels, strict=True)]
    progress("making every map", 0)
    look_closer(found)
    compare(found, options.faithful, progress)
    return found


def shorten_names(names: list[str]) -> list[str]:
    """Return names as a page shows them: paths without their common folders, and only valid text."""
    folders = {str(Path(name).parent) for name in names}
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # relative and absolute ones
        common = ""
    return [strip_hidden(os.path.relpath(name, common) if common else name) for name in names]


def _iterate_batches(images: Iterable[Image], found: ExplanationContents) -> Iterator[list[Ready]]:
    """Yield images with pixels in batches; record the others."""
    batch: list[Ready] = []
    for number, image in enumerate(images, start=1):
        one = prepare(image, number, found.ready.folder)
        if one.pixels is None:
            found.broken.append(one.error or "")
            continue
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def look_closer(found: ExplanationContents) -> None:
    """Make every fitting map of the images on the page, and what only Transformers have."""
    images, targets = _stack_images(found), [one.target for one in found.shown]
    model = found.ready.model
    for method in list_fitting(found.ready.folder):
        if method == found.map_options.method:
            found.maps[method] = np.stack([one.heat for one in found.shown])
        else:
            found.maps[method] = array(compute_heat(model, images, targets, MapOptions(method))[0])
    if isinstance(model, Swin):
        with torch.no_grad():
            features = torch.cat([model.maps(part, [-1])[0] for part in iterate_images(model, images)])
        found.colours = array(colour_features(features).values)
    if isinstance(model, ViT):
        found.rows = compute_attention_rows(model, images)
        found.colours = array(colour_features(compute_patch_features(model, images)).values)
        found.norms = array(compute_token_norms(model, images))


def compare(found: ExplanationContents, most: int, progress: Progress) -> None:
    """Compare the maps of the first images with one another, and with random ones, by deletion and insertion."""
    if not found.ready.folder.classes or not most:
        return
    chosen = found.shown[:most]
    found.compared_images = len(chosen)
    for place, one in enumerate(chosen):
        progress("comparing maps on image", place + 1)
        heats = {method: torch.from_numpy(maps[place]) for method, maps in found.maps.items()}
        rows, cols = next(iter(heats.values())).shape
        heats["random"] = draw_random_heat(rows, cols, seed=place)
        image = _stack_images(found)[place]
        for method, values in heats.items():
            curves = _measure_curves(found.ready, image, one.target, values)
            found.compared[method] = _add(found.compared.get(method), curves, len(chosen))


def _measure_curves(ready: Opened, image: Tensor, target: int, heat: Tensor) -> Compared:
    def score(images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, " batch"]:
        return to_probabilities(ready.model(images), ready.folder)[:, target]

    return Compared(
        measure_deletion(score, image, heat, steps=STEPS), measure_insertion(score, image, heat, steps=STEPS)
    )


def _add(sofar: Compared | None, more: Compared, count: int) -> Compared:
    """Return the sum so far, plus one image's part of the mean."""

    def both(first: Curve | None, second: Curve) -> Curve:
        part = second.probabilities / count
        return Curve(second.shares, part if first is None else first.probabilities + part)

    return Compared(
        both(sofar.deletion if sofar else None, more.deletion), both(sofar.insertion if sofar else None, more.insertion)
    )


def _stack_images(found: ExplanationContents) -> Float[Tensor, "image channel row col"]:
    return found.ready.images(np.stack([one.pixels for one in found.shown]))
