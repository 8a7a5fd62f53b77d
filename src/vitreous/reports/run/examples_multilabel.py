"""The report's pictures where an image may have several labels: mistakes, and examples to look at."""

from collections.abc import Sequence

import numpy as np

from vitreous.data.stream.shared_batch import Label
from vitreous.predictor import CLAIMED
from vitreous.reports.blocks import Block, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles, seen
from vitreous.reports.run.contents import Findings, MeasuredMultilabel

MISTAKES = 24
"""Most pictures."""
NONE = "no label"


def labels(which: Label, classes: Sequence[str]) -> str:
    """Write a class, or several."""
    if isinstance(which, int):
        return classes[which]
    return ", ".join(classes[index] for index in np.flatnonzero(which)) or NONE


def mistakes(found: Findings, measured: MeasuredMultilabel) -> list[Block]:
    """Return the labels that the model was surest of and wrong: one that is not there, or one that it doesn't see."""
    assert found.predictor is not None
    assert found.dataset is not None
    source, names = found.dataset.validation, found.classes
    claimed = measured.probabilities >= CLAIMED
    wrong = np.argwhere(claimed != measured.targets)
    if not len(wrong):
        return [Words(f"None: all {len(claimed):,} validation images have just the labels that the model gives them.")]
    sure = np.abs(measured.probabilities[tuple(wrong.T)] - CLAIMED)
    tiles = []
    for index, label in wrong[np.argsort(-sure, kind="stable")][:MISTAKES].tolist():
        said = "claimed" if claimed[index, label] else "not seen"
        true = labels(measured.targets[index], names)
        lines = [
            Line(names[label], f"{said}, {measured.probabilities[index, label]:.1%}", wrong=True),
            Line("", f"true: {true}"),
        ]
        tiles.append(Tile(Picture(seen(found.predictor.folder, source, index), true), lines, source.names[index]))
    lead = (
        "Labels that the model is surest of and wrong, as it sees the images: claimed and not there, or there and not seen. "
        "Look here for wrong or forgotten labels."
    )
    return [Words(lead), Tiles(tiles)]


def looked_at(measured: MeasuredMultilabel, names: Sequence[str], most: int) -> list[tuple[int, str, list[Line]]]:
    """Return a few examples, wholly right ones of different sets and the worst last: which, its labels, and what is said."""
    claimed = measured.probabilities >= CLAIMED
    right = (claimed == measured.targets).all(1)
    _, first = np.unique(measured.targets[right], axis=0, return_index=True)
    chosen = np.flatnonzero(right)[np.sort(first)][: most - 1].tolist()
    wrong = np.flatnonzero(~right)
    gaps = np.abs(measured.probabilities - measured.targets).max(1)
    chosen += wrong[np.argsort(-gaps[wrong], kind="stable")][: most - len(chosen) if not chosen else 1].tolist()
    return [(index, labels(measured.targets[index], names), lines(measured, index, names)) for index in chosen]


def lines(measured: MeasuredMultilabel, index: int, names: Sequence[str]) -> list[Line]:
    """Return what the model claims of an example, the surest first; with its true labels where that is wrong."""
    order = np.argsort(-measured.probabilities[index], kind="stable").tolist()
    claimed = [label for label in order if measured.probabilities[index, label] >= CLAIMED]
    said = [
        Line(names[label], f"{measured.probabilities[index, label]:.1%}", not measured.targets[index, label])
        for label in claimed
    ] or [Line("", NONE)]
    right = set(claimed) == set(np.flatnonzero(measured.targets[index]).tolist())
    return said if right else [*said, Line("", f"true: {labels(measured.targets[index], names)}")]
