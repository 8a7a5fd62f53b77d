"""Two models on the same images, as sections of a report: their differences and their costs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.evaluation.throughput import Cost
from vitreous.images.pixels import describe_colours
from vitreous.metrics.comparison import Comparison
from vitreous.metrics.mcnemar import McNemar
from vitreous.reports.blocks import Block, Section, Table, Words
from vitreous.reports.evaluation.accuracy import MOST_CLASSES, TABLE_CLASSES, list_costs
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles, render_input
from vitreous.runtime.display import Shown
from vitreous.weights.model_folder import ModelFolder

SHOWN = 24
"""Most images shown for each way of differing."""
ALPHA = 0.05
"""The p below which the report says that chance explains the difference poorly."""
SHARES = {"top1": "top-1 accuracy", "balanced": "balanced accuracy", "macro_f1": "macro F1"}
NUMBERS = {"nll": "loss (less is better)", "ece": "calibration error (less is better)"}


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult(Shown):
    """A model beside another."""

    other: str
    """Where the other model was loaded from."""
    names: tuple[str, str]
    """Distinct names of both, the model's first."""
    figures: Comparison
    """Every figure of both with the interval of the difference, McNemar's test, and recall by class."""
    costs: tuple[Cost, ...] = ()
    """Costs of both, if measured."""

    def __str__(self) -> str:
        return "\n".join(format_lines(self)).lstrip("\n")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"with": self.other, **self.figures.to_dict()}


def build_sections(
    found: Comparison,
    names: tuple[str, str],
    folder: ModelFolder,
    source: Source,
    prices: tuple[Cost, ...] = (),
) -> list[Section]:
    """Return figures, the cost of both, classes, and the images that only one gets right, as the first sees them.

    Raises:
        ImageError: an image has become unreadable.
    """
    both = [list_costs(*prices, names=names)] if prices else []
    shown = [_build_images(found, right, names, folder, source) for right in (0, 1)]
    return [
        Section(
            "comparison", f"Compared with {names[1]}", [list_figures(found, names), *_describe(found, names), *both]
        ),
        Section("class-by-class", "Compared class by class", [tabulate_classes(found, names)]),
        Section("only-first", f"Only {names[0]} is right", shown[0]),
        Section("only-second", f"Only {names[1]} is right", shown[1]),
    ]


def list_figures(found: Comparison, names: tuple[str, str]) -> Table:
    """Return every metric of both, with the interval of the difference."""
    rows = []
    for one in found.differences:
        share = one.metric in SHARES
        both = [f"{value:.2%}" if share else f"{value:.4f}" for value in (one.first, one.second)]
        difference, *span = [
            format_points(value) if share else f"{value:+.4f}" for value in (one.difference, *(one.interval or ()))
        ]
        rows.append(((SHARES | NUMBERS)[one.metric], *both, difference, " to ".join(span) or "–"))
    caption = (
        "The difference is the first minus the second, in percentage points for shares; its 95% interval "
        "is from the paired bootstrap"
    )
    return Table(caption, ("metric", *names, "difference", "95% interval"), rows)


def format_points(share: float) -> str:
    """Format a difference of shares in percentage points."""
    return f"{100 * share:+.2f}"


def _describe(found: Comparison, names: tuple[str, str]) -> list[Block]:
    test, count = found.test, len(found.labels)
    rows = [
        ("both", f"{test.both:,}", f"{test.both / count:.1%}"),
        (f"only {names[0]}", f"{test.only_first:,}", f"{test.only_first / count:.1%}"),
        (f"only {names[1]}", f"{test.only_second:,}", f"{test.only_second / count:.1%}"),
        ("neither", f"{test.neither:,}", f"{test.neither / count:.1%}"),
    ]
    agree = f"Both give the same class, right or wrong, for {found.agreement:.1%} of the images."
    return [
        Words(describe_mcnemar(test, names)),
        Table("Who is right", ("right", "images", "share"), rows),
        Words(agree),
    ]


def describe_mcnemar(test: McNemar, names: tuple[str, str]) -> str:
    """Describe the result of McNemar's test in a sentence."""
    if not test.only_first + test.only_second:
        return "Both are right on the same images."
    verdict = "chance explains so uneven a split poorly" if test.p < ALPHA else "chance may well explain the difference"
    way = "exact" if test.method == "exact" else "chi-squared with continuity correction"
    return (
        f"{names[0]} alone is right on {test.only_first:,} images, {names[1]} alone on {test.only_second:,}; "
        f"McNemar's test, {way}: p = {test.p:.2g}: {verdict}."
    )


def tabulate_classes(found: Comparison, names: tuple[str, str]) -> Table:
    """Return each class's recall under both models, the largest differences first."""
    every = sorted(found.per_class, key=lambda one: (not one.support, -abs(one.first - one.second)))
    rows = []
    for one in every[:MOST_CLASSES]:
        recalls = (
            (f"{one.first:.1%}", f"{one.second:.1%}", format_points(one.first - one.second))
            if one.support
            else ("–",) * 3
        )
        rows.append((one.name, f"{one.support:,}", *recalls, f"{one.only_first:,}", f"{one.only_second:,}"))
    heads = (
        "class",
        "images",
        *(f"recall of {name}" for name in names),
        "difference",
        *(f"only {name}" for name in names),
    )
    return Table("Recall of each class, the largest difference first", heads, rows, fold_after=TABLE_CLASSES)


def _build_images(
    found: Comparison, right: int, names: tuple[str, str], folder: ModelFolder, source: Source
) -> list[Block]:
    """Return the images that only the given model classifies correctly."""
    every = found.select_only(right)
    if not len(every):
        return [Words(f"There is no image that only {names[right]} has right.")]
    shown = every[:SHOWN]
    words = f"{len(every):,} images, as {names[0]} sees them" if len(every) > 1 else f"1 image, as {names[0]} sees it"
    if len(shown) < len(every):
        words += f"; the {len(shown)} on which both are surest" if found.sure else f"; the first {len(shown)}"
    return [
        Words(f"{words}. {describe_colours(folder.preprocess)}".strip()),
        Tiles(
            [_build_tile(found, index, names, render_input(folder, source, index), source) for index in map(int, shown)]
        ),
    ]


def _build_tile(found: Comparison, index: int, names: tuple[str, str], pixels: np.ndarray, source: Source) -> Tile:
    classes = [one.name for one in found.per_class]
    label = classes[found.labels[index]]
    lines = [Line(f"true: {label}")]
    for name, judged in zip(names, found.judged, strict=True):
        said = f"{judged.confidence[index]:.1%} ({name})" if found.sure else f"({name})"
        lines.append(Line(classes[judged.predicted[index]], said, bool(judged.rank[index])))
    return Tile(Picture(pixels, label), lines, source.names[index])


def format_lines(result: ComparisonResult) -> list[str]:
    """Return both models' figures side by side, for a terminal."""
    costs = zip(result.names, result.costs, strict=False)
    speeds = [f"{name}: {one.images_per_second:,.0f} images/s, {one.parameters:,} parameters" for name, one in costs]
    return [
        "",
        str(list_figures(result.figures, result.names)),
        describe_mcnemar(result.figures.test, result.names),
        *speeds,
    ]
