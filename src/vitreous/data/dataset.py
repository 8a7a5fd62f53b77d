"""Where examples come from. `open_dataset` turns settings into training and validation examples, verified."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.data.channels import find_common_channels
from vitreous.data.config import DataConfig
from vitreous.data.folds import ALL, ALL_NOTE, refuse_folds, take_array_fold, take_fold
from vitreous.data.listing.listing import Listing, format_names
from vitreous.data.listing.scan import SAMPLE, Progress, ScanReport, summarize_sizes
from vitreous.data.listing.split import hold_out, hold_out_multilabel
from vitreous.data.scanned_splits import scan_splits
from vitreous.data.sources.base import Source, get_label_matrix
from vitreous.data.sources.digits import DIGITS, load_digits
from vitreous.data.sources.files import ScannedListing, build_source, keep_readable, number_classes
from vitreous.data.sources.pseudo_labels import PseudoLabelled
from vitreous.data.sources.subset import divide
from vitreous.data.synthetic.formula import is_formula, parse_formula, split_formula
from vitreous.data.unlabelled import open_pseudo_labelled
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig
from vitreous.runtime.collection import pause_collection
from vitreous.shapes import Size


@dataclass(frozen=True)
class Facts:
    """The facts of the data that a recipe needs."""

    classes: tuple[str, ...]
    train: int
    validation: int
    channels: int
    """1 if every image is grey; their number of channels if all have the same, above 4; else 3."""
    size: Size
    """Median rows and cols."""
    counts: tuple[int, ...]
    """Training examples of each class."""
    multilabel: bool = False
    """Whether an example may have several of the classes, or none."""
    held_out: bool = False
    """Whether the validation examples were held out of the training examples, rather than a split of the data's own."""


@dataclass(frozen=True)
class Dataset:
    """Training and validation examples, and notes about how they were found."""

    train: Source
    validation: Source
    facts: Facts
    report: ScanReport
    test: Source | None = None
    """Used neither for training nor for choices: measured once, at the end."""
    pseudo: PseudoLabelled | None = None
    """The training examples together with pseudo-labelled ones, if there are any."""

    @property
    def learned(self) -> Source:
        """Everything that training draws from."""
        return self.train if self.pseudo is None else self.pseudo

    @property
    def parts(self) -> dict[str, Source]:
        """The examples of which a run compares a few files when it goes on."""
        others = {} if self.pseudo is None else {"pseudo_labelled": self.pseudo.others}
        return {"train": self.train, "validation": self.validation, **others}


@dataclass(frozen=True)
class OpenedData:
    """A data set that is open, and the settings that it was opened with: what a run was planned from, for the run itself."""

    dataset: Dataset
    config: DataConfig
    decode: DecodeConfig

    def serves(self, config: DataConfig, decode: DecodeConfig) -> bool:
        """Return whether opening by these settings would give the same; what happens to broken images doesn't matter
        where there are none."""
        same = replace(self.config, broken=config.broken) == config and self.decode == decode
        return same and not self.dataset.report.broken


def open_dataset(
    config: DataConfig, decode: DecodeConfig = DecodeConfig(), progress: Progress | None = None
) -> Dataset:
    """Find, verify and split the data.

    Args:
        config: where it is, and how to split it.
        decode: limits of decoding.
        progress: called with (files scanned, files in all).

    Raises:
        DataError: nothing there, too few classes or images, or broken files with `data.broken` at "raise".
    """
    dataset = open_whole(config, decode, progress)
    if config.folds and config.fold == ALL:
        dataset = replace(dataset, report=replace(dataset.report, notes=(*dataset.report.notes, ALL_NOTE)))
    dataset = hold_out_for_tuning(dataset, config) if config.tuning_holdout else dataset
    if config.pseudo_labels is None:
        return dataset
    pseudo, note = open_pseudo_labelled(dataset.train, config, decode)
    return replace(dataset, pseudo=pseudo, report=replace(dataset.report, notes=(*dataset.report.notes, note)))


def hold_out_for_tuning(dataset: Dataset, config: DataConfig) -> Dataset:
    """Return the training examples alone, with a share of them held out in place of the validation; raises
    DataError."""
    train, validation = divide(dataset.train, config.tuning_holdout, config.split_seed + 1)
    counts, held = (count_labels(part) for part in (train, validation))
    facts = replace(dataset.facts, train=len(train), validation=len(validation), counts=tuple(counts), held_out=False)
    note = f"{len(validation):,} training images are held out to choose settings by; the validation images are left out"
    report = replace(
        dataset.report,
        train=len(train),
        validation=len(validation),
        counts=dict(zip(train.classes, counts, strict=True)),
        validation_counts=dict(zip(train.classes, held, strict=True)),
        notes=(*dataset.report.notes, note),
    )
    return Dataset(train, validation, facts, report)


def count_labels(source: Source) -> list[int]:
    """Return the number of examples of each class."""
    label_matrix = get_label_matrix(source)
    return (
        np.bincount(source.labels, minlength=len(source.classes)) if label_matrix is None else label_matrix.sum(0)
    ).tolist()


def open_whole(config: DataConfig, decode: DecodeConfig, progress: Progress | None) -> Dataset:
    """Find, verify and split the data, without regard to `data.tuning_holdout`; raises DataError."""
    if config.path == DIGITS:
        return open_digits(config)
    if is_formula(config.path):
        return open_formula(config)
    return divide_and_assemble(config, decode, *scan_splits(config, decode, progress))


@pause_collection()  # as many lasting objects as images
def divide_and_assemble(config: DataConfig, decode: DecodeConfig, parts: list[ScannedListing], test: bool) -> Dataset:
    """Combine scanned splits into a dataset, and hold out validation images if there are none; raises DataError. `test`: whether
    the last split is for the test."""
    broken = tuple(pair for part in parts for pair in part.broken)
    good = [keep_readable(part, config.broken) for part in parts]
    apart = good.pop() if test else None
    if config.labels == "needed":
        check_classes(config.path, good[0])
    held_out = not config.folds and len(good) == 1
    if config.folds:
        good = take_fold(good, config)
    elif held_out:
        held = choose_held_out(good[0].listing, config)
        good = [good[0].take([not out for out in held]), good[0].take(held)]
    dataset = assemble(config, decode, good[0], good[1], broken)
    dataset = replace(dataset, facts=replace(dataset.facts, held_out=held_out))
    return dataset if apart is None else add_test(dataset, good, apart, config, decode)


def add_test(
    dataset: Dataset,
    others: Sequence[ScannedListing],
    test: ScannedListing | None,
    config: DataConfig,
    decode: DecodeConfig,
) -> Dataset:
    """Return a dataset with its test split, for the run that is measured on it: not for trials of settings or single
    folds. Raises DataError if its images have other channels.

    `others`: the training and the validation split, which should share no image with it.
    """
    assert test is not None
    classes, counts = dataset.facts.classes, Counter(test.listing.all_labels)
    unknown = sorted(set(counts) - set(classes))
    notes = dataset.report.notes
    if unknown:
        test = None
        notes = (
            *notes,
            f"the test split has classes that are not in training, so it is left out: {format_names(unknown)}",
        )
    trial = config.tuning_holdout > 0 or (config.folds > 0 and config.fold != ALL) or config.test_split == "hidden"
    source = build_source(test, classes, decode, test.broken) if test and not trial else None
    report = replace(
        dataset.report,
        test=len(test) if test else 0,
        test_counts={label: counts[label] for label in classes} if test else {},
        test_modes=dict(Counter(record.mode for record in test.records if record.rows)) if test and source else {},
        leaks=tuple(pair for part in others for pair in find_same_bytes(part, test)) if test else (),
        notes=notes,
    )
    find_common_channels(config.path, report.all_modes)
    return replace(dataset, report=report, test=source)


def choose_held_out(listing: Listing, config: DataConfig) -> list[bool]:
    """Return for each file whether it is held out; raises DataError."""
    how = (config.holdout, config.split_seed)
    if listing.multilabel:
        return hold_out_multilabel(listing.names, listing.label_lists, *how)
    return hold_out(listing.names, listing.labels, *how)


def is_built_in(name: str) -> bool:
    """Return whether data comes with this package: the digits, or images from formulas."""
    return name == DIGITS or is_formula(name)


def check_classes(path: str, part: ScannedListing) -> None:
    """Raise DataError unless there are at least two classes; one suffices where an image may have none."""
    classes = sorted(set(part.listing.all_labels))
    if part.listing.multilabel and not classes:
        raise DataError(f"none of the {len(part):,} training images in {path} has a label; add labels")
    if not part.listing.multilabel and len(classes) < 2:
        raise DataError(f"{path} has a single class, {classes[0]!r}; a classifier needs at least two")


def assemble(
    config: DataConfig,
    decode: DecodeConfig,
    train: ScannedListing,
    validation: ScannedListing,
    broken: tuple[tuple[str, str], ...],
) -> Dataset:
    """Combine two scanned splits into a dataset."""
    counts, held = Counter(train.listing.all_labels), Counter(validation.listing.all_labels)
    classes, multilabel = tuple(sorted(counts)), train.listing.multilabel
    number_classes(classes, held, f"the validation data in {validation.listing.root}")
    notes = list(dict.fromkeys((*train.listing.notes, *validation.listing.notes)))
    absent = [label for label in classes if label not in held]
    if absent:
        notes.append(f"{len(absent):,} classes have no validation images: {format_names(absent)}")
    if multilabel:
        notes.append(describe_multilabel(train))
    if not len(validation):
        raise DataError(
            f"no image of {config.path} can be held out, since each is the only one of some class; add images, or give validation data of its "
            "own (--data.validation, or a column split)"
        )
    if multilabel and not held and config.labels == "needed":
        raise DataError(
            f"none of the {len(validation):,} validation images of {config.path} has a label, so nothing could be "
            "measured; add images, or give validation data of its own (--data.validation, or a column split)"
        )
    everything = [record for record in train.records + validation.records if record.rows]
    if config.scan == "later":
        notes.append(
            f"{len(everything):,} images were looked at, up to {SAMPLE} of each part; sizes, modes and channels are theirs, and a broken "
            "image is found when it is its turn"
        )
    common, smallest, median, largest = summarize_sizes(everything)
    own_files = validation.listing.root != train.listing.root
    report = ScanReport(
        path=config.path,
        train=len(train),
        validation=len(validation),
        counts={label: counts[label] for label in classes},
        validation_counts={label: held[label] for label in classes},
        sizes=common,
        smallest=smallest,
        median=str(median),
        largest=largest,
        modes=dict(Counter(record.mode for record in everything).most_common()),
        formats=dict(Counter(record.format for record in everything).most_common()),
        broken=broken,
        duplicates=find_same_bytes(train, validation),
        conflicts=find_conflicts(train, validation),
        ignored=dict(Counter(train.listing.ignored) + Counter(validation.listing.ignored if own_files else {})),
        notes=tuple(notes),
    )
    channels = find_common_channels(config.path, report.modes)
    each = tuple(counts[label] for label in classes)
    facts = Facts(classes, len(train), len(validation), channels, median, each, multilabel)
    sources = (build_source(part, classes, decode, broken) for part in (train, validation))
    return Dataset(*sources, facts, report)


def describe_multilabel(train: ScannedListing) -> str:
    """Describe how many labels the training images have."""
    label_lists = train.listing.label_lists
    mean, bare = sum(map(len, label_lists)) / len(label_lists), sum(not labels for labels in label_lists)
    return f"several labels an image: {mean:.2f} on average in training, {bare:,} images without any"


def find_same_bytes(train: ScannedListing, validation: ScannedListing) -> tuple[tuple[str, str], ...]:
    """List the validation images whose bytes are in the training data too; not those that are training images themselves."""
    names, others = list_split_names(train, validation)
    first = {record.digest: name for record, name in zip(train.records, names, strict=True) if record.digest}
    found = ((first.get(record.digest), name) for record, name in zip(validation.records, others, strict=True))
    return tuple((other, name) for other, name in found if other not in (None, name))


def find_conflicts(train: ScannedListing, validation: ScannedListing) -> tuple[tuple[str, str], ...]:
    """List the images that occur twice, with different labels."""
    seen: dict[str, tuple[str, str]] = {}
    found = []
    for part, names in zip((train, validation), list_split_names(train, validation), strict=True):
        for record, name, label in zip(part.records, names, part.listing.labels, strict=True):
            if not record.digest:
                continue
            before, other = seen.setdefault(record.digest, (name, label))
            if label != other:
                found.append((before, name))
    return tuple(found)


def list_split_names(*parts: ScannedListing) -> list[list[str]]:
    """Return the names of each part's files, preceded by their folder if the parts have different folders."""
    apart = len({part.listing.root for part in parts}) > 1
    return [[f"{part.listing.root.name}/{name}" if apart else name for name in part.listing.names] for part in parts]


def name_dataset(path: str) -> str:
    """Return a short name for a data set that can name a folder: a formula's kind, or a path's last part."""
    if is_formula(path):
        return f"formula-{parse_formula(path).kind}"
    return path if path == DIGITS else Path(path).resolve().name


def open_digits(config: DataConfig) -> Dataset:
    """Return the digits, with their facts."""
    refuse_second_holdout(config)
    parts = load_digits(config.holdout, config.split_seed)
    train, validation = take_array_fold(parts, config) if config.folds else parts
    dataset = open_pixels(config.path, train, validation, (8, 8, 1))
    return replace(dataset, facts=replace(dataset.facts, held_out=not config.folds))


def open_formula(config: DataConfig) -> Dataset:
    """Return images from formulas, with their facts; draws none of them."""
    refuse_second_holdout(config)
    refuse_folds(config)
    formula = parse_formula(config.path)
    train, validation = split_formula(formula, config.holdout, config.split_seed)
    notes = (f"drawn on demand: {formula}",)
    if formula.images == 1:
        notes += ("the only image of each class is for training; validation uses another instance of each class",)
    return open_pixels(config.path, train, validation, train.shape, notes)


def refuse_second_holdout(config: DataConfig) -> None:
    """Refuse validation data for a set that holds out its own; raises DataError."""
    if config.validation is not None:
        raise DataError(
            f"{config.path} holds out its own validation (data.holdout); "
            f"leave out --data.validation {config.validation}"
        )


def open_pixels(
    path: str,
    train: Source,
    validation: Source,
    shape: tuple[int, int, int],
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Combine two parts whose images all have one shape (rows, columns, channels) and come from no files."""
    rows, cols, channels = shape
    side, total = str(Size(rows, cols)), len(train) + len(validation)
    counts, held = (np.bincount(part.labels, minlength=len(part.classes)).tolist() for part in (train, validation))
    report = ScanReport(
        path=path,
        train=len(train),
        validation=len(validation),
        counts=dict(zip(train.classes, counts, strict=True)),
        validation_counts=dict(zip(train.classes, held, strict=True)),
        sizes={side: total},
        smallest=side,
        median=side,
        largest=side,
        modes={"L" if channels == 1 else "RGB": total},
        formats={"array": total},
        notes=notes,
    )
    facts = Facts(train.classes, len(train), len(validation), channels, Size(rows, cols), tuple(counts))
    return Dataset(train, validation, facts, report)
