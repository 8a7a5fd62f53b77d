"""Find the measured images that the model was trained on, by path or by content of their files."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitreous.data.dataset import Dataset
from vitreous.data.run_data import read_data_config
from vitreous.data.sources.base import ArraySource, FileSource, Over, PackedSource, Source
from vitreous.data.sources.subset import Subset
from vitreous.errors import UserError
from vitreous.evaluation.refit import read_refit
from vitreous.image_paths import expand_paths
from vitreous.images.config import DecodeConfig
from vitreous.run_folder import read_run
from vitreous.runtime.display import Shown
from vitreous.storage.run_config import find_own_run

Item = Path | bytes
"""An image in comparable form: its file, or its pixels."""


@dataclass(frozen=True)
class Overlap(Shown):
    """The number of measured images that a run has seen."""

    measured: int
    trained: int
    """Of these: among the run's training images."""
    held_out: int
    """Of these: among the run's validation images, which chose the best weights and nothing else, and not trained on too."""
    refitted: bool = False
    """Whether the model's head has learned from the validation images too, so that they are counted as trained on."""

    def __str__(self) -> str:
        if self.refitted:
            return (
                f"{self.trained:,} of these {self.measured:,} images are among those that the model was trained on, so the "
                f"numbers flatter it; {self.held_out:,} of them measured it before it learned from them too (leave out DATA "
                "for that measurement)"
            )
        return (
            f"{self.trained:,} of these {self.measured:,} images are among those that the model was trained on, "
            "so the numbers flatter it"
            + (
                f"; {self.held_out:,} are its held-out ones (to measure only those, leave out DATA)"
                if self.held_out
                else ""
            )
        )


def overlap(model: Path, source: Source, decode: DecodeConfig) -> Overlap | None:
    """Return how many images of a source a model's run has seen; None if it belongs to no run, or saw none of them.

    A run whose data is gone, or comes from formulas, can't be compared.
    """
    data = find_data(model, decode)
    return None if data is None else compare(source, data, refitted=read_refit(model) is not None)


def overlap_of_files(model: Path, root: Path, decode: DecodeConfig) -> Overlap | None:
    """Return how many of the image files in a folder a model's run has seen; None as for `overlap`."""
    data = find_data(model, decode)
    if data is None:
        return None
    try:
        return count(list(expand_paths([str(root.resolve())])), data, read_refit(model) is not None)
    except UserError:  # no image files
        return None


def find_data(model: Path, decode: DecodeConfig) -> Dataset | None:
    """Return the data of a model's run; None if it belongs to no run, or its data is gone."""
    from vitreous.data.dataset import open_dataset

    run = find_own_run(model)
    if run is None:
        return None
    try:
        return open_dataset(read_data_config(read_run(run).config, run), decode)
    except UserError:
        return None


def compare(source: Source, data: Dataset, *, refitted: bool = False) -> Overlap | None:
    """Return how many images of a source are among the training and the validation images; None if none were trained
    on. `refitted`: whether the validation images were trained on too."""
    return count(items(source), data, refitted)


def count(mine: Sequence[Item], data: Dataset, refitted: bool) -> Overlap | None:
    """Return how many of some images are among the training and the validation images; None if none were trained on."""
    learned = items(data.train) + ([] if data.pseudo is None else items(data.pseudo.others))
    trained, held_out = find_shared(mine, learned), find_shared(mine, items(data.validation))
    if refitted:
        trained = [one or other for one, other in zip(trained, held_out, strict=True)]
    else:
        held_out = [other and not one for one, other in zip(trained, held_out, strict=True)]
    return Overlap(len(mine), sum(trained), sum(held_out), refitted) if any(trained) else None


def items(source: Source) -> list[Item]:
    """Return the comparable form of a source's images, in order; empty for images that are drawn on demand."""
    if isinstance(source, Over):
        return items(source.source)
    if isinstance(source, Subset):
        inner = items(source.source)
        return [inner[index] for index in source.indices] if inner else []
    if isinstance(source, PackedSource):
        return [Path(source.reader.location, name) for name in source.names]
    if isinstance(source, FileSource):
        root = source.root.resolve()
        return [root / name for name in source.names]
    if isinstance(source, ArraySource):
        return [pixels.tobytes() for pixels in source.pixels]
    return []


def find_shared(mine: Sequence[Item], theirs: Sequence[Item]) -> list[bool]:
    """Return for each image whether it is among others: the same file, or one of the same length and bytes.

    Only files as long as one of the others are read.
    """
    known, by_length = set(theirs), defaultdict(list)
    lengths = {length(item) for item in mine if item not in known} - {-1}
    for item in theirs:
        if length(item) in lengths:
            by_length[length(item)].append(item)
    hashes = {size: {digest(item) for item in same} for size, same in by_length.items()}
    return [item in known or digest_among(item, hashes.get(length(item), ())) for item in mine]


def digest_among(item: Item, hashes: Iterable[bytes]) -> bool:
    """Return whether an image's hash is among some; the image is read only if there are any."""
    return bool(hashes) and digest(item) in hashes


def length(item: Item) -> int:
    """Return an image's size in bytes; -1 for a file that is gone."""
    if isinstance(item, bytes):
        return len(item)
    try:
        return item.stat().st_size
    except OSError:
        return -1


def digest(item: Item) -> bytes:
    """Return the hash of an image's bytes; the hash of nothing for a file that can't be read."""
    try:
        return hashlib.blake2b(item if isinstance(item, bytes) else item.read_bytes(), digest_size=16).digest()
    except OSError:
        return b""
