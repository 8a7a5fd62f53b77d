"""`vitreous.embed`: a model's representation of images, as vectors."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result, describe_skipped
from vitreous.data.dataset import is_built_in
from vitreous.data.labelled_images import open_images, open_splits
from vitreous.data.listing.discovery import MANIFESTS
from vitreous.data.sources.base import FileSource, Source
from vitreous.data.sources.files import check_broken
from vitreous.data.sources.packed_data import is_packed
from vitreous.errors import ConfigError, DataError, ImageError, check_path
from vitreous.evaluation.probes.feature_cache import model_hash
from vitreous.evaluation.probes.feature_file import check_target, write_features
from vitreous.evaluation.probes.features import FeatureOptions, Features, check_layer, features
from vitreous.evaluation.probes.frame_features import frame_features, join_features
from vitreous.image_paths import expand_paths
from vitreous.images.config import DecodeConfig
from vitreous.images.formats import is_video
from vitreous.images.video import check_every
from vitreous.predictor import Predictor
from vitreous.runtime.data_frames import Tabular
from vitreous.shapes import Float32
from vitreous.storage.presence import path_exists
from vitreous.training.reporter import Reporter, Silent, progress_of

Images = str | Path | Iterable[str | Path]
"""Files, folders and globs, one or many; an iterator's paths are always treated as files."""


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingResult(Result, Tabular):
    """One vector for each image."""

    model: str
    """Where the model was loaded from."""
    layer: str
    splits: Mapping[str, Features]
    """The vectors by the split of the data: train, validation and test, or all under ""."""
    path: Path | None
    """The file that holds them, if one was written."""
    skipped: tuple[tuple[str, str], ...]
    """Images left out because they can't be read: (name, reason)."""
    facts: Mapping[str, str]
    """A description of the vectors, which the file holds too: model, layer, precision, a hash of the model, ..."""

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(map(len, self.splits.values()))

    @property
    def vectors(self) -> Float32[np.ndarray, "image features"]:
        """All vectors, part after part."""
        return np.concatenate([part.vectors for part in self.splits.values()])

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names, in the same order."""
        return tuple(name for part in self.splits.values() for name in part.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """The images' class names, in the same order; empty if the images have no labels."""
        return tuple(part.classes[label] for part in self.splits.values() for label in part.labels)

    @property
    def width(self) -> int:
        """The length of a vector."""
        return next(iter(self.splits.values())).vectors.shape[1]

    @property
    def columns(self) -> dict[str, Any]:
        """The vectors as columns: name; label and split if the data has them; then one column per value of the vector
        (0, 1, ...)."""
        found: dict[str, Any] = {"name": self.names}
        if any(self.labels):
            found["label"] = self.labels
        if any(self.splits):
            found["split"] = [split for split, part in self.splits.items() for _ in range(len(part))]
        return found | {str(place): column for place, column in enumerate(self.vectors.T)}

    def __str__(self) -> str:
        where = f"are in {self.path}" if self.path else f"of layer {self.layer}"
        said = f"{len(self):,} vectors of length {self.width:,} {where}"
        return "\n".join([said, *describe_skipped("images", self.skipped)])


@shows_progress
def embed(
    model: ModelLike,
    images: Images | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    layer: str = "features",
    precision: str = "fp32",
    batch: int = 64,
    device: str = "auto",
    cache: bool = True,
    broken: str = "raise",
    every: float = 1.0,
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> EmbeddingResult:
    """Return a model's representation of images as vectors, and write them to a file for other programs.

    >>> found = vitreous.embed("runs/photos-1", "unsorted/", out="features.parquet")     # doctest: +SKIP
    >>> found.vectors.shape                                                              # doctest: +SKIP
    (1234, 384)

    Args:
        model: what `vitreous.load` accepts or returns, with or without a head.
        images: files, folders or globs, one or many. An iterator's paths are always treated as files.
        data: labelled images instead: a folder of class folders, a manifest, "digits" or a formula; labels and splits
            are kept and written too.
        out: a file to write, .parquet (needs pyarrow) or .npz; an existing file is replaced. None: none is written.
        layer: features (the head's input), mean, norm, pooled, block.5, block.5:class, stage.2, ...
        precision: fp32; bf16 (autocast); auto: bf16 on hardware with fast bf16 arithmetic.
        batch: images in one pass through the model, at least 1.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        cache: keep features on disk, and reuse them.
        broken: what to do with images that can't be read: raise, or skip (they are counted).
        every: for videos among the images: seconds from one frame to the next.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: neither images nor data, or both; an unknown layer, precision or extension; batch below 1.
        DataError, ImageError: images that can't be read. CheckpointError: no such model.
        StorageError: the file can't be written.
    """
    target = None if out is None else Path(out)
    if target is not None:
        check_target(target)
    check_every(every)
    check_broken(broken)
    named = name_files(images, data)
    display, predictor = reporter or Silent(), as_predictor(model, device)
    check_layer(predictor.folder, layer)
    display.phase("opening the images")
    how = FeatureOptions(layer, precision, batch, cache=cache)
    if isinstance(named, list) and any(map(is_video, named)):
        return embed_videos(predictor, named, how, Videos(every, broken, target), display)
    sources = open_named(named, predictor.folder.decode, broken)
    found = {}
    for part, source in sources.items():
        display.phase(f"features of {len(source):,} {part} images".replace("  ", " "))
        found[part] = features(predictor, source, how, progress_of(display))
    facts = {"model": predictor.path, "layer": layer, "precision": precision, **describe_model(predictor, sources)}
    if target is not None:
        write_features(target, found, facts)
    skipped = tuple(one for source in sources.values() for one in getattr(source, "skipped", ()))
    return EmbeddingResult(predictor.path, layer, found, target, skipped, facts)


def describe_model(predictor: Predictor, sources: Mapping[str, Source]) -> dict[str, str]:
    """Return what is needed to embed another image in the same way, and to find the images: a hash, load options,
    folders."""
    roots = {part: str(source.root) for part, source in sources.items() if isinstance(source, FileSource)}
    facts = {
        "load_options": predictor.load_options,
        "roots": {part: root for part, root in roots.items() if root != "."},
    }
    said = {name: json.dumps(value, default=str) for name, value in facts.items() if value}
    return {"model_hash": model_hash(predictor.folder), **said}


def open_named(named: list[Path] | str, decode: DecodeConfig, broken: str) -> dict[str, Source]:
    """Return the images of each split of the data; raises DataError for images that can't be read."""
    return open_splits(named, decode, broken) if isinstance(named, str) else {"": open_images(named, decode, broken)}


def name_files(images: Images | None, data: str | Path | None) -> list[Path] | str:
    """Return the named files, or the name of labelled data; raises ConfigError for neither or both, DataError if there
    are no files."""
    if images is not None and not isinstance(images, Iterable):
        check_path("the images argument", images)
    paths = images if isinstance(images, Iterator) else [images] if isinstance(images, (str, Path)) else images or []
    if data is None and isinstance(paths, list | tuple) and len(paths) == 1 and is_data_name(str(paths[0])):
        paths, data = [], paths[0]
    if (data is None) == (not paths):
        raise ConfigError(
            "name either images (files, folders, globs, or -) or labelled data with --data DATA, not both"
        )
    if data is not None:
        return str(data)
    return list(map(Path, paths) if isinstance(paths, Iterator) else expand_paths([str(path) for path in paths]))


@dataclass(frozen=True)
class Videos:
    """How videos among the images are read, and where their vectors go."""

    every: float
    broken: str
    target: Path | None


def embed_videos(
    predictor: Predictor, files: list[Path], how: FeatureOptions, videos: Videos, display: Reporter
) -> EmbeddingResult:
    """Return the vectors of images and of videos' frames, in the order of the files; raises as `embed`."""
    parts, skipped = list[Features](), list[tuple[str, str]]()
    for moving, group in groupby(files, is_video):
        if not moving:
            source = open_images(group, predictor.folder.decode, videos.broken)
            display.phase(f"features of {len(source):,} images")
            parts.append(features(predictor, source, how, progress_of(display)))
            skipped += getattr(source, "skipped", ())
            continue
        for path in group:
            display.phase(f"features of the frames of {path}")
            for one in frame_features(predictor, path, videos.every, how):
                if isinstance(one, Features):
                    parts.append(one)
                elif videos.broken == "raise":
                    raise ImageError(f"{one.error}; embed the readable ones with --broken skip")
                else:
                    skipped.append((one.name, one.error or ""))
    if not parts:
        raise DataError(f"no frame can be read: {skipped[0][1]}")
    found = {"": join_features(parts)}
    facts = {"model": predictor.path, "layer": how.layer, "precision": how.precision, **describe_model(predictor, {})}
    if videos.target is not None:
        write_features(videos.target, found, facts)
    return EmbeddingResult(predictor.path, how.layer, found, videos.target, tuple(skipped), facts)


def is_data_name(name: str) -> bool:
    """Return whether a name means a data set rather than images: digits, a formula, a manifest, or packed files."""
    if is_built_in(name):
        return not path_exists(name)
    return Path(name).suffix.lower() in MANIFESTS or is_packed(Path(name))
