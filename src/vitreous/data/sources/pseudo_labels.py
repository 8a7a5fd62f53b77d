"""Images with a teacher's labels: the file of those labels, and the examples of labelled and pseudo-labelled images together."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.data.sources.subset import Subset
from vitreous.errors import ConfigError, DataError
from vitreous.shapes import Float32, Int64, Pixels

COLUMNS = ("path", "label", "confidence", "copies")
MOST_COPIES = 200_000_000
"""Most copies of all images together: their order takes 16 bytes each."""
FINEST = 1000
"""Largest denominator of the ratio of pseudo-labelled to labelled examples."""
ROUNDING = 1e-3
"""How far the probabilities of a soft label may be from 1 in sum."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """A teacher's labels for images, in the order of their source."""

    names: tuple[str, ...]
    labels: Int64[np.ndarray, " image"]
    """Indices into the classes."""
    confidence: Float32[np.ndarray, " image"]
    """The teacher's probability of that class, 0 to 1."""
    copies: Int64[np.ndarray, " image"]
    """How often each occurs in an epoch of these images; 0: it is left out."""
    targets: Float32[np.ndarray, "image label"] | None = None
    """Soft labels: the probability of each class; None: the label alone counts."""


@dataclass(frozen=True)
class ClassCount:
    """What was kept of one class."""

    name: str
    labelled: int
    """Images that the teacher put into it."""
    kept: int
    """Of these, the images that are used."""
    examples: int
    """Their copies in all."""


def count_by_class(found: PseudoLabels, classes: Sequence[str]) -> list[ClassCount]:
    """Count images and examples of each class."""
    weights = (None, found.copies > 0, found.copies)
    counted = (np.bincount(found.labels, one, minlength=len(classes)) for one in weights)
    rows = zip(classes, *(counts.astype(int).tolist() for counts in counted), strict=True)
    return [ClassCount(*row) for row in rows]


def format_pseudo_labels(found: PseudoLabels, classes: Sequence[str]) -> bytes:
    """Return the file of pseudo labels: one line for each image, those left out with 0 copies; every number is exact."""
    text = io.StringIO()
    table = csv.writer(text)  # its \r\n as line ends has names with either quoted
    table.writerow([*COLUMNS, *([] if found.targets is None else name_probabilities(classes))])
    for index, name in enumerate(found.names):
        row = () if found.targets is None else found.targets[index]
        numbers = [f"{value:.9g}" for value in (found.confidence[index], *row)]
        table.writerow([name, classes[found.labels[index]], numbers[0], int(found.copies[index]), *numbers[1:]])
    return text.getvalue().encode("utf-8", "surrogateescape")


def name_probabilities(classes: Sequence[str]) -> list[str]:
    """Return the columns of a soft label's probabilities.

    >>> name_probabilities(["cat", "dog"])
    ['probability of cat', 'probability of dog']
    """
    return [f"probability of {name}" for name in classes]


def read_pseudo_labels(path: Path, classes: Sequence[str]) -> PseudoLabels:
    """Read a file of pseudo labels; columns of probabilities make them soft.

    Raises:
        DataError: it isn't one, or a line is wrong or of a class that is not in `classes`; names the line.
    """
    number = {name: index for index, name in enumerate(classes)}
    rows = read_lines(path)
    line, header = next(rows, (1, []))
    soft = len(header) > len(COLUMNS)
    if header != [*COLUMNS, *(name_probabilities(classes) if soft else ())]:
        raise DataError(
            f"{path}, line {line}: not the columns of pseudo labels, which are {', '.join(COLUMNS)}, and for soft labels the "
            f"probability of each of the {len(classes):,} classes in their order"
        )
    names: list[str] = []
    labels, confidence, copies, targets = [], [], [], []
    for line, values in rows:
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise DataError(f"{where}: {len(values)} fields, but the first line names {len(header)}")
        if values[1] not in number:
            raise DataError(f"{where}: the label {values[1]!r} is not a class of the labelled images")
        names.append(values[0])
        labels.append(number[values[1]])
        confidence.append(read_share(values[2], "confidence", where))
        copies.append(read_copies(values[3], where))
        if soft:
            targets.append([read_share(*one, where) for one in zip(values[4:], header[4:], strict=True)])
            if abs(math.fsum(targets[-1]) - 1) > ROUNDING:
                raise DataError(f"{where}: the probabilities are {math.fsum(targets[-1]):g} in sum; they must be 1")
    return PseudoLabels(
        tuple(names),
        np.array(labels, np.int64),
        np.array(confidence, np.float32),
        np.array(copies, np.int64),
        np.array(targets, np.float32).reshape(-1, len(classes)) if soft else None,
    )


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of a CSV's lines that aren't empty, with the line's number; raises DataError."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            yield from ((reader.line_num, values) for values in reader if values)
    except OSError as error:
        raise DataError(f"can't read the pseudo labels in {path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def read_share(text: str, name: str, where: str) -> float:
    """Return a number from 0 to 1; raises DataError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise DataError(f"{where}: {name} is {text[:40]!r}; it must be a number from 0 to 1")
    return found


def read_copies(text: str, where: str) -> int:
    """Return a number of copies; raises DataError."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise DataError(f"{where}: copies is {text[:40]!r}; it must be a whole number, 0 or more")
    return int(text)


@dataclass(frozen=True, eq=False)
class PseudoLabelled:
    """Labelled examples, followed by pseudo-labelled ones, each as often as it has copies.

    Training takes `every` examples at a time, of which `labelled_of` are labelled, whatever the number of either
    (`data/stream/interleaving.py`).
    """

    labelled: Source
    others: Source
    """The pseudo-labelled examples, copies included."""
    other_labels: Int64[np.ndarray, " other"]
    other_targets: Float32[np.ndarray, "image label"] | None
    """The soft labels of the images, before they are copied."""
    rows: Int64[np.ndarray, " other"]
    """The row of `other_targets` of each."""
    ratio: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labelled) + len(self.others)

    @cached_property
    def every(self) -> int:
        """Examples after which the proportion is exact."""
        return find_labelled_share(self.ratio).denominator

    @cached_property
    def labelled_of(self) -> int:
        """How many of `every` examples are labelled."""
        return find_labelled_share(self.ratio).numerator

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.labelled.classes

    @cached_property
    def labels(self) -> Int64[np.ndarray, " example"]:
        """The class of each example; of a soft label the most probable one."""
        return np.concatenate([self.labelled.labels, self.other_labels])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The examples' names."""
        return (*self.labelled.names, *self.others.names)

    def read(self, index: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an example's file, or its pixels."""
        labelled = len(self.labelled)
        return self.labelled.read(index) if index < labelled else self.others.read(index - labelled)

    def target(self, index: int) -> int | Float32[np.ndarray, " label"]:
        """Return an example's class, or where labels are soft its probability of each class."""
        other = index - len(self.labelled)
        if self.other_targets is None:
            return int(self.labelled.labels[index] if other < 0 else self.other_labels[other])
        if other >= 0:
            return self.other_targets[self.rows[other]]
        row = np.zeros(len(self.classes), np.float32)
        row[self.labelled.labels[index]] = 1
        return row

    def wrap(self, labelled: Source, others: Source) -> "PseudoLabelled":
        """Return the same examples, read in another way."""
        return replace(self, labelled=labelled, others=others)


def find_labelled_share(ratio: float) -> Fraction:
    """Return the share of labelled examples, for `ratio` pseudo-labelled ones to each.

    >>> find_labelled_share(3.0), find_labelled_share(0.5)
    (Fraction(1, 4), Fraction(2, 3))
    """
    return 1 / (1 + Fraction(ratio).limit_denominator(FINEST))


def check_proportion(batch: int, ratio: float) -> None:
    """Raise ConfigError for a batch that can't have labelled and pseudo-labelled examples in exactly this ratio."""
    share = find_labelled_share(ratio)
    every = share.denominator
    if batch % every:
        near = max(1, round(batch / every)) * every
        raise ConfigError(
            f"batch is {batch:,}, but at data.pseudo_ratio {ratio:g} {share.numerator:,} of {every:,} examples are labelled; give a "
            f"multiple of {every:,}, such as --batch {near}"
        )


def join_pseudo_labelled(
    labelled: Source, images: Source, found: PseudoLabels, ratio: float, path: str
) -> PseudoLabelled:
    """Return labelled examples and the images with their pseudo labels together.

    Args:
        labelled: the labelled examples.
        images: those that the labels are for.
        found: their labels, in any order; images that it doesn't name are left out.
        ratio: pseudo-labelled examples to each labelled one.
        path: the file of the labels, for messages.

    Raises:
        DataError: a label for an image that isn't there, two for one, or none with a copy.
    """
    place = {name: index for index, name in enumerate(images.names)}
    unknown = next((name for name in found.names if name not in place), None)
    if unknown is not None:
        raise DataError(f"{path} labels {unknown}, which is not among the unlabelled images; label them again")
    if len(set(found.names)) < len(found.names):
        (twice, _), *_ = Counter(found.names).most_common(1)
        raise DataError(f"{path} labels {twice} twice; list each image once, with its number of copies")
    if not found.copies.any():
        raise DataError(f"{path} leaves out every image: all have 0 copies")
    if (total := int(found.copies.sum())) > MOST_COPIES:
        raise DataError(f"{path} asks for {total:,} copies in all, above the limit of {MOST_COPIES:,}; lower them")
    order = np.argsort([place[name] for name in found.names], kind="stable")
    rows = np.repeat(order, found.copies[order]).astype(np.int64)
    indices = np.array([place[found.names[row]] for row in rows], np.int64)
    state = hashlib.blake2b(digest_size=16)
    for part in (labelled.fingerprint, images.fingerprint, str(Fraction(ratio).limit_denominator(FINEST))):
        state.update(f"{part}\n".encode())
    for array in (indices, found.labels[rows], *(() if found.targets is None else (found.targets[order],))):
        state.update(np.ascontiguousarray(array).tobytes())
    return PseudoLabelled(
        labelled, Subset(images, indices), found.labels[rows], found.targets, rows, ratio, state.hexdigest()
    )
