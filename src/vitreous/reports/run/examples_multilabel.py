"""The report's pictures where an image may have several labels: mistakes, and examples to look at."""

from collections.abc import Sequence

import numpy as np

from vitreous.data.stream.shared_batch import Label
from vitreous.drawing.html import paragraph, text
from vitreous.predictor import CLAIMED
from vitreous.reports.image_grid import Line, Tile, Tiles, seen
from vitreous.reports.run.contents import Findings, MeasuredSets

MISTAKES = 24
"""Most pictures."""
NONE = "no label"


def labels(which: Label, classes: Sequence[str]) -> str:
    """Write a class, or several."""
    if isinstance(which, int):
        return classes[which]
    return ", ".join(classes[index] for index in np.flatnonzero(which)) or NONE


def mistakes(found: Findings, measured: MeasuredSets) -> str:
    """Return the labels that the model was surest of and wrong: one that is not there, or one that it doesn't see."""
    assert found.predictor is not None
    assert found.dataset is not None
    source, names = found.dataset.validation, found.classes
    claimed = measured.probabilities >= CLAIMED
    wrong = np.argwhere(claimed != measured.targets)
    if not len(wrong):
        return paragraph(
            f"None: all {len(claimed):,} validation images have just the labels that the model gives them."
        )
    sure = np.abs(measured.probabilities[tuple(wrong.T)] - CLAIMED)
    tiles = []
    for index, label in wrong[np.argsort(-sure, kind="stable")][:MISTAKES].tolist():
        said = "claimed" if claimed[index, label] else "not seen"
        true = labels(measured.targets[index], names)
        lines = [
            Line(names[label], f"{said}, {measured.probabilities[index, label]:.1%}", wrong=True),
            Line("", f"true: {true}"),
        ]
        tiles.append(Tile(seen(found.predictor.folder, source, index), true, lines, source.names[index]))
    lead = (
        "Labels that the model is surest of and wrong, as it sees the images: claimed and not there, or there and not seen. "
        "Look here for wrong or forgotten labels."
    )
    return paragraph(lead) + Tiles(tiles).html()


def looked_at(measured: MeasuredSets, names: Sequence[str], most: int) -> list[tuple[int, str, str]]:
    """Return a few examples, wholly right ones of different sets and the worst last: which, its labels, and words in HTML."""
    claimed = measured.probabilities >= CLAIMED
    right = (claimed == measured.targets).all(1)
    _, first = np.unique(measured.targets[right], axis=0, return_index=True)
    chosen = np.flatnonzero(right)[np.sort(first)][: most - 1].tolist()
    wrong = np.flatnonzero(~right)
    gaps = np.abs(measured.probabilities - measured.targets).max(1)
    chosen += wrong[np.argsort(-gaps[wrong], kind="stable")][: most - len(chosen) if not chosen else 1].tolist()
    return [(index, labels(measured.targets[index], names), words(measured, index, names)) for index in chosen]


def words(measured: MeasuredSets, index: int, names: Sequence[str]) -> str:
    """Return what the model claims of an example, in HTML; with its true labels where that is wrong."""
    said = []
    for label in np.argsort(-measured.probabilities[index], kind="stable").tolist():
        score = measured.probabilities[index, label]
        if score >= CLAIMED:
            kind = "name" if measured.targets[index, label] else "name wrong"
            said.append(f'<span class="{kind}">{text(names[label])}</span> {score:.1%}')
    right = ((measured.probabilities[index] >= CLAIMED) == measured.targets[index]).all()
    return (", ".join(said) or NONE) + ("" if right else f"<br>true: {text(labels(measured.targets[index], names))}")
