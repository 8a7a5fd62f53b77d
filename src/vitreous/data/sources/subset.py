"""A part of a source: some of its examples, in their own order."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitreous.data.listing.split import hold_out, hold_out_multilabel
from vitreous.data.sources.base import Source, get_label_matrix
from vitreous.shapes import Bool, Int64, Pixels


@dataclass(frozen=True, eq=False)
class Subset:
    """Some examples of a source."""

    source: Source
    indices: Int64[np.ndarray, " example"]
    """Indices into the source."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def classes(self) -> tuple[str, ...]:
        """The source's classes, including those without examples here."""
        return self.source.classes

    @cached_property
    def labels(self) -> Int64[np.ndarray, " example"]:
        """Indices into `classes`."""
        return self.source.labels[self.indices]

    @cached_property
    def label_matrix(self) -> Bool[np.ndarray, "example label"] | None:
        """Which classes each has, where an example may have several."""
        label_matrix = get_label_matrix(self.source)
        return None if label_matrix is None else label_matrix[self.indices]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What people call each example."""
        return tuple(self.source.names[index] for index in self.indices.tolist())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the source's contents and of the choice."""
        chosen = np.ascontiguousarray(self.indices, dtype="<i8").tobytes()
        return hashlib.blake2b(self.source.fingerprint.encode() + chosen, digest_size=16).hexdigest()

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        return self.source.read(int(self.indices[index]))


def divide(source: Source, share: float, seed: int) -> tuple[Subset, Subset]:
    """Return a source in two parts: the rest, and a share held out, stratified by class (see `split`).

    Raises:
        DataError: the share is not between 0 and 1, or a class has a single example.
    """
    label_matrix, classes = get_label_matrix(source), source.classes
    if label_matrix is None:
        held = np.array(hold_out(source.names, [classes[label] for label in source.labels], share, seed))
    else:
        label_lists = [[classes[label] for label in np.flatnonzero(row)] for row in label_matrix]
        held = np.array(hold_out_multilabel(source.names, label_lists, share, seed))
    left, out = (np.flatnonzero(part).astype(np.int64) for part in (~held, held))
    return Subset(source, left), Subset(source, out)


def draw_subset(source: Source, count: int, seed: int = 0) -> Source:
    """Return `count` examples drawn at random, in the source's order; the source itself if it has no more."""
    if len(source) <= count:
        return source
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return Subset(source, np.sort(chosen).astype(np.int64))
