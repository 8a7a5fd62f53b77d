"""`vitreous.similar`: find the images most similar to a given one, by their vectors, among those that `vitreous.embed`
wrote."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.api.features import EmbeddingResult
from vitreous.api.loading import load
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported
from vitreous.errors import CheckpointError, ConfigError, DataError, ImageError
from vitreous.evaluation.probes.feature_cache import model_hash
from vitreous.evaluation.probes.features import image_vector
from vitreous.evaluation.probes.stored_features import StoredFeatures, cosines, read_features
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode, read
from vitreous.images.inputs import Image, read_pixels
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Block, Report, Section, Table, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles
from vitreous.runtime.data_frames import Tabular
from vitreous.shapes import Float32, Size, UInt8
from vitreous.storage.presence import is_file, path_exists
from vitreous.training.reporter import Reporter, Silent

SIDE = 160
"""Pixels of a picture's longer side on the page."""


@dataclass(frozen=True)
class Neighbour:
    """An image that is similar to the given one."""

    name: str
    cosine: float
    """Cosine of the two vectors, -1 to 1."""
    label: str | None
    """Its class, if the embeddings have classes."""
    path: Path
    """The path of its file when it was embedded."""


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityResult(Reported, Tabular):
    """The images most similar to the given one, the most similar first."""

    image: str
    """The name of the given image."""
    embeddings: str
    similar: tuple[Neighbour, ...]
    count: int
    """Number of images searched."""
    query: Image = field(repr=False)
    """The image for the page: a path, or the given one."""

    def __str__(self) -> str:
        return "\n".join(f"{one.cosine:.4f}  {one.name}{f'  {one.label}' if one.label else ''}" for one in self.similar)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each image's name, cosine and, if there are classes, label."""
        labelled = any(one.label is not None for one in self.similar)
        return [
            {"name": one.name, "cosine": round(one.cosine, 6), **({"label": one.label} if labelled else {})}
            for one in self.similar
        ]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The rows as columns."""
        return {name: [row[name] for row in self.rows] for name in (self.rows[0] if self.rows else ("name", "cosine"))}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"image": self.image, "embeddings": self.embeddings, "images": self.count, "similar": self.rows}

    @cached_property
    def report(self) -> Report:
        """The report: the image, and the similar ones, with pictures of those that still exist."""
        tiles, gone = [], []
        for one in self.similar:
            pixels = read_picture(one.path, one.name)
            if pixels is None:
                gone.append((one.name, one.label or "", f"{one.cosine:.4f}"))
            else:
                tiles.append(Tile(Picture(pixels, one.name), [Line(one.label or "", f"{one.cosine:.4f}")], one.name))
        query = read_picture(self.query, self.image)
        blocks: list[Block] = []
        if query is not None:
            blocks.append(Tiles([Tile(Picture(query, self.image), [Line("query image")], self.image)]))
        blocks += [Tiles(tiles)] if tiles else []
        if gone:
            blocks.append(Words("These images can no longer be read from the paths in the embeddings."))
            blocks.append(Table("Without picture", ("image", "class", "cosine"), gone, words=2))
        lead = (
            f"The {len(self.similar)} of {self.count:,} images in {self.embeddings} most similar to "
            f"{self.image}, by cosine of the vectors."
        )
        return Report(
            f"Like {Path(self.image).name}", lead, [Section("results", "Most similar", blocks)], self.to_dict()
        )


@shows_progress
def similar(
    image: Image,
    embeddings: str | Path | EmbeddingResult,
    model: ModelLike | None = None,
    *,
    top: int = 10,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> SimilarityResult:
    """Return the images most similar to a given one, by the cosine of their vectors, among those that `vitreous.embed`
    wrote.

    >>> print(vitreous.similar("cat.jpg", "features.parquet", top=3))                    # doctest: +SKIP
    0.9312  unsorted/17.jpg
    0.9106  unsorted/3.jpg
    0.8990  unsorted/40.jpg

    Args:
        image: a file, or any image that a Predictor takes; or the name of an embedded image or the end of its name,
            whose stored vector is then used, so that no model is needed. The image itself is not among the results.
        embeddings: a file that `vitreous.embed` wrote, .parquet or .npz, or its result.
        model: the model that made the embeddings; None: loaded from the path recorded in them.
        top: number of images to return, at least 1.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: top below 1, or a file with another ending. DataError, ImageError: a file that can't be read, or an
            unknown name.
        CheckpointError: no such model, or not the one that made the embeddings.
    """
    if top < 1:
        raise ConfigError(f"top is {top}; it must be at least 1")
    display = reporter or Silent()
    display.phase("opening the embeddings")
    stored = hold(embeddings) if isinstance(embeddings, EmbeddingResult) else read_features(Path(embeddings))
    where = (
        f"the embeddings of {len(stored.names):,} images"
        if isinstance(embeddings, EmbeddingResult)
        else str(embeddings)
    )
    predictor = None if model is None else check_model(as_predictor(model, device), stored, where)
    index = find_name(str(image), stored, where) if isinstance(image, (str, Path)) else None
    if index is None:
        display.phase("loading the model that made the embeddings")
        predictor = predictor or check_model(load_recorded(stored, where, device), stored, where)
        vector = image_vector(predictor, image, stored.facts["layer"], stored.facts["precision"])
    else:
        vector = stored.vector(index)
    display.phase(f"comparing with {len(stored.names):,} images")
    found = tuple(rank(stored, vector, top, image if index is None else index))
    named = isinstance(image, (str, Path))
    query = image if index is None else stored.place(index)
    return SimilarityResult(str(image) if named else "the image", where, found, len(stored.names), query)


def hold(found: EmbeddingResult) -> StoredFeatures:
    """Return a result's embeddings in the form in which a file stores them."""
    labels = found.labels
    splits = [name for name, part in found.splits.items() for _ in range(len(part))]

    def chunks() -> Iterator[Float32[np.ndarray, "chunk features"]]:
        return (part.vectors for part in found.splits.values())

    return StoredFeatures(found.names, chunks, found.facts, labels if any(labels) else None, splits)


def find_name(name: str, stored: StoredFeatures, where: str) -> int | None:
    """Return the embedded image with this name, or with a name that ends in it; None for a file that is not among them.

    Raises:
        DataError: neither a file nor such a name, or several such names.
    """
    same = [index for index, one in enumerate(stored.names) if one == name]
    if path_exists(name):  # a file of that name, which isn't always the embedded one
        file = Path(name).resolve()
        return next((index for index in same if stored.place(index).resolve() == file), None)
    ends = same or [index for index, one in enumerate(stored.names) if one.endswith(f"/{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        listed = ", ".join(str(stored.place(index) if same else stored.names[index]) for index in ends[:3])
        more = "give the path of the file" if same else "give more of the name"
        raise DataError(f"{name} may be any of {len(ends):,} images in {where}, such as {listed}; {more}")
    raise DataError(
        f"there is no file {name}, and no image of that name in {where}, which has names such as {stored.names[0]}"
    )


def load_recorded(stored: StoredFeatures, where: str, device: str) -> Predictor:
    """Load the model that made the embeddings from its recorded path; raises CheckpointError."""
    path = stored.facts["model"]
    if not path:
        raise CheckpointError(f"{where} was made by a model from memory; give the model")
    try:
        return load(path, device=device, **stored.load_options)
    except (ConfigError, CheckpointError, TypeError) as error:
        raise CheckpointError(
            f"the model that made {where} can't be loaded from {path}, its place at that time: {error}; name it with --model"
        ) from error


def check_model(predictor: Predictor, stored: StoredFeatures, where: str) -> Predictor:
    """Return the model if it made the embeddings; raises CheckpointError for any other."""
    made = stored.facts.get("model_hash")
    if made is None:
        raise CheckpointError(
            f"{where} comes from an earlier version and doesn't say which weights made it; write it again with vitreous embed"
        )
    if model_hash(predictor.folder) != made:
        raise CheckpointError(
            f"{where} was made by {stored.facts['model'] or 'a model from memory'}, with other weights, architecture or "
            f"preprocessing than {predictor.path or 'this model'}; name that model, or embed the images again with this one"
        )
    return predictor


def rank(
    stored: StoredFeatures, vector: Float32[np.ndarray, " features"], top: int, itself: Image
) -> Iterator[Neighbour]:
    """Yield the most similar images without the image itself, which its index or its file identifies; ties stay in
    order."""
    scores = cosines(stored, vector)
    left = top
    for index in map(int, np.argsort(-scores, kind="stable")):
        path = stored.place(index)
        if not left:
            return
        if index == itself if isinstance(itself, int) else is_same_file(itself, path):
            continue
        left -= 1
        yield Neighbour(
            stored.names[index], float(scores[index]), stored.labels[index] if stored.labels else None, path
        )


def is_same_file(image: Image, path: Path) -> bool:
    """Return whether an image was given as the file at a path."""
    return isinstance(image, (str, Path)) and is_file(image) and is_file(path) and os.path.samefile(image, path)  # noqa: PTH121 (Path.samefile raises)


def read_picture(image: Image, name: str) -> UInt8[np.ndarray, "row col channel"] | None:
    """Return the picture of an image for people; None if it can't be read."""
    try:
        data = read(Path(image)) if isinstance(image, (str, Path)) else image
        if isinstance(data, bytes):
            return decode(data, name=name)
        return read_pixels(data, DecodeConfig(), PreprocessConfig(Size(SIDE, SIDE), crop=1.0, resize="border"), name)
    except ImageError:
        return None
