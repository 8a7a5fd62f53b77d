"""`vitreous.review`: possible problems in labelled images, and a manifest without them."""

import csv
import io
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.api.data import shorten_name
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported
from vitreous.data.labelled_images import open_splits
from vitreous.data.listing.listing import format_names
from vitreous.data.sources.base import refuse_multilabel
from vitreous.data.sources.files import FileSource
from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.probes.features import FeatureOptions, Features, check_batch, features
from vitreous.evaluation.review.checks import DUPLICATE, WRONG, Review, review_images
from vitreous.evaluation.review.pictures import Look, look_at_all
from vitreous.reports.blocks import Report
from vitreous.reports.evaluation.review import TITLES, build_sections, describe_balance
from vitreous.runtime.data_frames import Tabular
from vitreous.storage.atomic import check_name, write_atomically
from vitreous.storage.presence import path_exists
from vitreous.training.reporter import Reporter, Silent, progress_of

TABLE = "review.csv"
"""A table next to the report: every finding."""
LISTED = 20
"""Number of findings of each kind that the terminal lists."""
SPELT = {"validation": "val"}
"""Splits that have another name in a manifest."""
TRUSTED = 0.9
"""Share of the labels that features predict from which on a label that they don't predict is doubtful by itself."""
WITHOUT_WEIGHTS = "likely wrong labels, outliers and confused classes need features: name a model (--weights MODEL)"


@dataclass(frozen=True, eq=False, repr=False)
class ReviewResult(Reported, Tabular):
    """Possible problems in labelled images."""

    data: str
    review: Review
    left_out: tuple[str, ...]
    """Checks that couldn't be made, and why."""
    broken: tuple[tuple[str, str], ...]
    """Files that can't be read: (name, reason)."""
    sources: dict[str, FileSource] = field(repr=False)
    """The images by split: train, validation and test, or all under ""."""

    def __str__(self) -> str:
        found = self.review
        lines = [f"{len(found.names):,} images of {self.data}"]
        for kind, (title, _) in TITLES.items():
            every = found.of(kind)
            lines += [f"{title}: {len(every):,}"] if every else []
            lines += [f"  {doubt}"] if kind == WRONG and (doubt := describe_doubt(found)) else []
            lines += [f"  {self._line(one)}" for one in every[:LISTED]]
            lines += [f"  ... and {len(every) - LISTED:,} more"] if len(every) > LISTED else []
        lines += [f"  {label} is taken for {other}: {count:,}" for label, other, count in found.confused[:3]]
        lines += [describe_balance(found)] if found.unbalanced else []
        lines += [f"{len(self.broken):,} files can't be read; the first: {self.broken[0][1]}"] if self.broken else []
        return "\n".join([*lines, *(f"left out: {one}" for one in self.left_out)])

    def _line(self, one: Any) -> str:
        found = self.review
        said = f"{found.names[one.index]}  {found.labels[one.index]}  {one.score:.3g}"
        if one.kind == WRONG:
            return f"{said}  more likely {found.classes[one.other]}"
        return f"{said}  like {found.names[one.other]}" if one.kind == DUPLICATE else said

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Every finding, as columns: finding, path, split, label, score, other (image or class), left_out (by
        `apply`)."""
        found, every = self.review, self.review.findings
        other = [
            "" if one.other < 0 else found.classes[one.other] if one.kind == WRONG else found.names[one.other]
            for one in every
        ]
        columns: dict[str, list[Any]] = {
            "finding": [one.kind for one in every],
            "path": [found.names[one.index] for one in every],
            "split": [found.splits[one.index] for one in every],
            "label": [found.labels[one.index] for one in every],
            "score": [one.score for one in every],
            "other": other,
            "left_out": [one.leave_out for one in every],
        }
        for name, reason in self.broken:
            for column, value in zip(columns.values(), ("unreadable", name, "", "", "", reason, True), strict=True):
                column.append(value)
        return columns

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        columns = self.columns
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {"findings": rows, "confused": self.review.confused, "not_checked": self.left_out}

    @cached_property
    def report(self) -> Report:
        """The report: each kind of finding with pictures, the worst first."""
        lead = (
            f"{len(self.review.names):,} images of {self.data}, compared with each other. {TABLE} lists every finding."
        )
        if doubt := describe_doubt(self.review):
            lead += f" Likely wrong labels: {doubt}."
        said = {"data": self.data, "results": self.to_dict()}
        return Report(
            f"{shorten_name(self.data)}: review",
            lead,
            build_sections(self.review, self.sources, self.left_out),
            said,
            {TABLE: self.columns},
        )

    def apply(self, manifest: str | Path) -> str:
        """Write a manifest (CSV) of the images except those that a finding leaves out; no image is touched.

        One image of each near-duplicate pair, the most certain of the likely wrong labels, and images of one colour are left
        out. Returns a description of what was done, and of which classes have no image left.

        Args:
            manifest: a new file, which `train` takes; its paths are relative to it.

        Raises:
            ConfigError: the file already exists, or can't have this name. StorageError: it can't be written.
        """
        target = check_manifest(manifest)
        gone = {one.index for one in self.review.findings if one.leave_out}
        file = io.StringIO(newline="")
        table, place = csv.writer(file), target.absolute().parent
        split = set(self.sources) != {""}
        table.writerow(["path", "label", *["split"] * split])
        paths = [source.root / name for source in self.sources.values() for name in source.names]
        for index, path in enumerate(paths):
            if index not in gone:
                part = [SPELT.get(self.review.splits[index], self.review.splits[index])] if split else []
                table.writerow([os.path.relpath(path.absolute(), place), self.review.labels[index], *part])
        write_atomically(target, file.getvalue().encode("utf-8", "surrogateescape"))
        kept, labels = len(paths) - len(gone), self.review.labels
        lost = sorted(set(labels) - {label for index, label in enumerate(labels) if index not in gone})
        warning = f"; classes without an image left: {format_names(lost)}" if lost else ""
        return f"{kept:,} of {len(paths):,} images are in {target}, {len(gone):,} were left out; no file was touched{warning}"


def describe_doubt(review: Review) -> str:
    """Say how far to trust which labels are likely wrong, where the features predict many others wrongly, too; else empty."""
    right = 1 - len(review.of(WRONG)) / max(1, len(review.names))
    if right >= TRUSTED:
        return ""
    return (
        f"these features predict {right:.0%} of all labels from the other images, so many of these labels may be right; look at each, or "
        "give --weights that tell such images apart better"
    )


def check_manifest(manifest: str | Path) -> Path:
    """Return the path for a manifest; raises ConfigError unless it is a new CSV in an existing folder."""
    target = Path(manifest)
    check_name(target)
    if target.suffix.lower() != ".csv":
        raise ConfigError(f"{target} ends in {target.suffix or 'nothing'}; name a new file that ends in .csv")
    if path_exists(target):
        raise ConfigError(f"{target} already exists; name a new file")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"can't write {target}: there is no folder {target.parent}")
    return target


@shows_progress
def review(
    data: str | Path,
    weights: ModelLike | None = None,
    *,
    batch: int = 64,
    device: str = "auto",
    cache: bool = True,
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> ReviewResult:
    """Look for problems in labelled image files: near-duplicates, wrong labels, outliers, images that show nothing.

    >>> found = vitreous.review("photos", "runs/photos-1")                               # doctest: +SKIP
    >>> found.save("review"), found.apply("cleaned.csv")                                 # doctest: +SKIP

    Args:
        data: a folder of class folders, or a manifest with one label per image.
        weights: a model whose frozen features reveal wrong labels and outliers, as `vitreous.load` accepts or returns
            it; None: these checks are left out, and the result says so.
        batch: images in one pass through the model.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        cache: keep features on disk, and reuse them.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: batch below 1. DataError: no image files, or several labels per image. CheckpointError: no such
            model.
    """
    how, display = FeatureOptions(batch=batch, cache=cache), reporter or Silent()
    check_batch(how)
    display.phase("opening the images")
    sources = open_files(str(data))
    predictor = None if weights is None else as_predictor(weights, device)
    display.phase("examining every image")
    looks: list[Look] = []
    total, report_progress = sum(map(len, sources.values())), progress_of(display)
    for source in sources.values():
        before = len(looks)
        looks += look_at_all(source, lambda done, before=before: report_progress(before + done, total))
    joined = None
    if predictor is not None:
        display.phase("features of all images")
        joined = join([features(predictor, source, how, report_progress) for source in sources.values()])
    left_out = () if predictor is not None else (WITHOUT_WEIGHTS,)
    if joined is not None and len(joined.classes) < 2:
        joined, left_out = None, ("there is only one class, so wrong labels can't be found",)
    found = review_images(sources, looks, joined, display.phase)
    broken = tuple(one for source in sources.values() for one in source.skipped)
    return ReviewResult(str(data), found, left_out, broken, sources)


def open_files(data: str) -> dict[str, FileSource]:
    """Return labelled image files by split; raises DataError for other data."""
    found: dict[str, FileSource] = {}
    for split, source in open_splits(data, broken="skip").items():
        refuse_multilabel(source, "a review")
        if not isinstance(source, FileSource):
            raise DataError(f"{data} has no image files to review; name a folder of class folders, or a manifest")
        if len(source):
            found[split] = source
    return found


def join(parts: list[Features]) -> Features:
    """Return the features of all splits together; labels are numbered by the sorted classes of all splits."""
    classes = tuple(sorted({part.classes[label] for part in parts for label in np.unique(part.labels)}))
    number: Mapping[str, int] = {name: place for place, name in enumerate(classes)}
    labels = [number[part.classes[label]] for part in parts for label in part.labels]
    vectors = np.concatenate([part.vectors for part in parts])
    return Features(vectors, np.array(labels, np.int64), tuple(name for part in parts for name in part.names), classes)


def describe_next(data: str, applied: str | None, weights: str | None = None) -> str:
    """Suggest what to do after a review with these weights."""
    if applied:
        return f"next: vitreous train {shlex.quote(applied)}"
    by = f" --weights {shlex.quote(weights)}" if weights else ""
    return f"next: vitreous inspect {shlex.quote(data)} --review{by} --apply cleaned.csv"
