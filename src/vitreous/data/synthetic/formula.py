"""Labelled images drawn from formulas: unlimited, free of licences, nothing to download.

A class is a formula's parameters, an instance its variation. Each image is a pure function of (kind, seed, class,
instance, size, colours), so it is drawn on demand, in any process, and nothing is stored.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import SupportsIndex, overload
from urllib.parse import parse_qsl

import numpy as np

from vitreous.data.listing.split import count_held_out
from vitreous.data.sources.base import Drawn
from vitreous.data.stream.order import find_example
from vitreous.data.synthetic.contours import draw_contours
from vitreous.data.synthetic.fractals import draw_fractal
from vitreous.data.synthetic.visual_atoms import draw_atom
from vitreous.errors import DataError, UnknownName
from vitreous.shapes import Int64, UInt8

SCHEME = "formula:"
EDITION = 1
"""Version of the formulas: increased by a change of any pixel, so that the fingerprints change."""
KINDS: dict[str, Callable[[int, int, int, int, int], UInt8[np.ndarray, "size size c"]]] = {
    "fractals": draw_fractal,
    "fractals-one": draw_fractal,
    "contours": draw_contours,
    "atoms": draw_atom,
}
"""The function that draws each kind, from (seed, class, instance, size, channels)."""
ONE = "fractals-one"
UNVARIED = -1
"""The instance that is its class's own formula."""
RANGES = {"classes": (2, 10_000_000), "images": (1, 10_000_000), "size": (8, 1024), "seed": (0, 2**63 - 1)}
MOST = 100_000_000
"""Most images of one source: their labels take 8 bytes each."""


@dataclass(frozen=True)
class Formula:
    """Describes images: `formula:KIND?classes=1000&images=100&size=32&seed=0&colours=rgb`, each part after ? optional.

    Class c depends on (kind, seed, c) alone: 1,000 classes are the first 1,000 of 10,000.
    """

    kind: str
    """fractals, contours or atoms; fractals-one: one image per class, the formula unvaried."""
    classes: int = 1000
    images: int = 100
    """Images of each class, training and validation together. fractals-one: 1."""
    size: int = 32
    """Rows and columns, in pixels."""
    seed: int = 0
    """Seed of the classes and all their instances."""
    colours: str = "rgb"
    """rgb, or grey: a single channel."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of formula", self.kind, KINDS)
        if self.colours not in ("rgb", "grey"):
            raise UnknownName("colours of a formula", self.colours, ("rgb", "grey"))
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"{name}={getattr(self, name)} in {self}; it must be from {low:,} to {high:,}")
        if self.classes * self.images > MOST:
            raise DataError(f"{self} are {self.classes * self.images:,} images; one source may have at most {MOST:,}")
        if self.kind == ONE and self.images != 1:
            raise DataError(f"{ONE} has one image a class, not images={self.images}; use fractals for more")

    def __str__(self) -> str:
        settings = "&".join(f"{one.name}={getattr(self, one.name)}" for one in fields(self)[1:])
        return f"{SCHEME}{self.kind}?{settings}"

    @property
    def channels(self) -> int:
        """3 for colours, 1 for grey."""
        return 3 if self.colours == "rgb" else 1

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, such as fractals-00012. fractals-one uses the names of fractals."""
        kind = "fractals" if self.kind == ONE else self.kind
        return tuple(f"{kind}-{label:05}" for label in range(self.classes))


def is_formula(path: str) -> bool:
    """Return whether a data set's path names images from formulas."""
    return path.startswith(SCHEME)


def parse_formula(path: str) -> Formula:
    """Read `formula:KIND?name=value&...`.

    >>> parse_formula("formula:atoms?classes=10").names[9]
    'atoms-00009'

    Raises:
        UnknownName: there is no such kind or setting; the nearest is suggested.
        DataError: a value that is not a whole number, is given twice, or is out of its range.
    """
    kind, _, query = path.removeprefix(SCHEME).partition("?")
    settings: dict[str, int | str] = {"images": 1} if kind == ONE else {}
    given: set[str] = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in (known := [one.name for one in fields(Formula)[1:]]):
            raise UnknownName(f"setting in {path}:", name, known)
        if name in given:
            raise DataError(f"{name} is given twice in {path}; give it once")
        given.add(name)
        settings[name] = value if name == "colours" else read_whole(name, value, path)
    return Formula(kind, **settings)  # type: ignore[arg-type]


def read_whole(name: str, value: str, path: str) -> int:
    """Read a whole number; raises DataError."""
    digits = value.replace("_", "")
    if not (digits.isascii() and digits.removeprefix("-").isdigit() and len(digits) < 20):
        low, high = RANGES[name]
        raise DataError(f"{name}={value} in {path}; it must be a whole number from {low:,} to {high:,}")
    return int(digits)


@dataclass(frozen=True, eq=False)
class FormulaSource(Drawn):
    """Images from formulas, the same number of every class, class by class."""

    formula: Formula
    each: int
    """Images per class in this source."""
    first: int = 0
    """Position of a class's first image in its shuffled instances; with `unvaried`, its only instance."""
    split_seed: int = 0
    """Seed of that shuffling."""
    shuffled: int = 0
    """Number of instances of a class that are shuffled; 0: none, they are counted from `first`."""

    def __len__(self) -> int:
        return self.formula.classes * self.each

    def __reduce__(self) -> tuple:
        """Go to another process as a few numbers, without the labels."""
        return FormulaSource, (self.formula, self.each, self.first, self.split_seed, self.shuffled)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of every image."""
        return self.formula.size, self.formula.size, self.formula.channels

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.formula.names

    @cached_property
    def labels(self) -> Int64[np.ndarray, " example"]:
        """The class of each example: 8 bytes each, made on first use."""
        return np.repeat(np.arange(self.formula.classes, dtype=np.int64), self.each)

    @property
    def names(self) -> "Names":
        """Class and instance of each example, such as fractals-00012/000345."""
        return Names(self)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines the pixels; nothing is drawn for it."""
        parts = (EDITION, self.formula, self.each, self.first, self.split_seed, self.shuffled)
        return hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=16).hexdigest()

    def place(self, index: int) -> tuple[int, int]:
        """Return an example's class and instance."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        label, turn = divmod(index % len(self), self.each)
        turn += self.first
        return label, find_example(self.split_seed, label, turn, self.shuffled) if self.shuffled else turn

    def read(self, index: int) -> UInt8[np.ndarray, "row col channel"]:
        """Draw an example."""
        formula, (label, instance) = self.formula, self.place(index)
        return KINDS[formula.kind](formula.seed, label, instance, formula.size, formula.channels)


@dataclass(frozen=True)
class Names(Sequence[str]):
    """The names of a source's examples, made on demand."""

    source: FormulaSource

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        label, instance = self.source.place(int(index))
        return f"{self.source.classes[label]}/{'one' if instance == UNVARIED else f'{instance:06}'}"


def split_formula(formula: Formula, holdout: float, seed: int) -> tuple[FormulaSource, FormulaSource]:
    """Return training and validation examples: the same share of every class is held out, chosen by `seed`.

    If a class has a single image, it is for training, and the validation is another instance of each class.

    Raises:
        DataError: the share is out of range.
    """
    if not 0 < holdout < 1:
        raise DataError(f"data.holdout is {holdout}; it must be above 0 and below 1")
    if formula.images == 1:
        return FormulaSource(formula, 1, UNVARIED if formula.kind == ONE else 0), FormulaSource(formula, 1, 1)
    held = count_held_out({"": formula.images}, holdout)[""]
    shuffle = {"split_seed": seed, "shuffled": formula.images}
    return FormulaSource(formula, formula.images - held, held, **shuffle), FormulaSource(formula, held, 0, **shuffle)
