"""A review of labelled images as sections of a report: pictures of what the user should look at."""

import numpy as np

from vitreous.data.sources.files import FileSource
from vitreous.evaluation.review.checks import BLURRED, DUPLICATE, FLAT, OUTLIER, SMALL, WRONG, Finding, Review
from vitreous.images.decode import decode
from vitreous.reports.blocks import Block, Numbers, Section, Table, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles
from vitreous.shapes import UInt8

SHOWN = 40
"""Most pictures of each kind."""
CONFUSED = 20
TITLES = {
    WRONG: ("Likely wrong labels", "The label of an image, and the prediction of a regression on the other "
                                   "images' features; the least probable label first."),
    DUPLICATE: ("Near-duplicates", "Images that show the same: across splits first, where they flatter every "
                                   "accuracy. Left, what a cleaned manifest leaves out."),
    OUTLIER: ("Outliers", "Far from all other images of their class: wrong kinds of images, or rare ones. The farthest first."),
    SMALL: ("Too small", "Their shorter side is less than a quarter of the median one."),
    BLURRED: ("Blurred", "Their sharpness, the variance of the Laplacian, is less than a twenty-fifth of the median."),
    FLAT: ("Of one colour", "They show nothing."),
}  # fmt: skip
"""Each kind of finding: its heading, and what it means."""


def build_sections(review: Review, sources: dict[str, FileSource], left_out: tuple[str, ...]) -> list[Section]:
    """Return the figures, then each kind of finding with pictures, then the classes; raises ImageError for a missing
    file."""
    figures = [(TITLES[kind][0].lower(), f"{len(review.of(kind)):,}", "") for kind in TITLES]
    lacking: list[Block] = [Words(one, "Left out") for one in left_out]
    found = [Section("results", "Results", [Numbers([*figures, ("images", f"{len(review.names):,}", "")]), *lacking])]
    for kind, (title, meaning) in TITLES.items():
        if every := review.of(kind):
            words = f"{meaning} {len(every):,} in all{f', {SHOWN} shown' if len(every) > SHOWN else ''}."
            tiles = [_tile(one, review, sources) for one in every[:SHOWN]]
            paired = "pairs" if kind == DUPLICATE else "tiles"
            found.append(Section(kind.replace(" ", "-"), title, [Words(words), Tiles(tiles, paired)]))
    if review.confused:
        rows = [(label, other, f"{count:,}") for label, other, count in review.confused[:CONFUSED]]
        table = Table("Classes that the features confuse", ("class", "taken for", "images"), rows, words=2)
        found.append(Section("confused", "Confused classes", [table]))
    if review.unbalanced:
        found.append(Section("balance", "Balance", [Words(describe_balance(review))]))
    return found


def describe_balance(review: Review) -> str:
    """Describe how much the classes' sizes differ."""
    assert review.unbalanced is not None
    most, large, least, small = review.unbalanced
    return (
        f"{most} has {large:,} images and {least} {small:,}, {large / small:.0f} times fewer: look at each "
        "class's accuracy, not only at the mean."
    )


def _tile(one: Finding, review: Review, sources: dict[str, FileSource]) -> Tile:
    label, split = review.labels[one.index], review.splits[one.index]
    where = f" ({split})" if split else ""
    picture = Picture(_pixels(one.index, sources), label)
    if one.kind == WRONG:
        lines = [
            Line(label, f"{one.score:.1%}{where}", wrong=True),
            Line(review.classes[one.other], before="more likely: "),
        ]
        return Tile(picture, lines, review.names[one.index])
    if one.kind == DUPLICATE:
        other = Picture(_pixels(one.other, sources), review.labels[one.other])
        beside = f" ({review.splits[one.other]})" if review.splits[one.other] else ""
        lines = [
            Line(label, f"{one.score:.3f}{where}"),
            Line(review.labels[one.other], f"{review.names[one.other]}{beside}"),
        ]
        return Tile(picture, lines, review.names[one.index], other)
    return Tile(picture, [Line(label, f"{one.score:.3g}{where}")], review.names[one.index])


def _pixels(index: int, sources: dict[str, FileSource]) -> UInt8[np.ndarray, "row col channel"]:
    """Return an image of any split, as it is."""
    for source in sources.values():
        if index < len(source):
            return decode(source.read(index), source.decode, "RGB", name=source.names[index])
        index -= len(source)
    raise AssertionError(index)
