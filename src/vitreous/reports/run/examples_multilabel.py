"""The report's pictures where an image may have several labels: examples to look at."""

from collections.abc import Sequence

import numpy as np

from vitreous.predictor import CLAIMED
from vitreous.reports.image_grid import Line
from vitreous.reports.mistakes import NONE, list_labels
from vitreous.reports.run.contents import MeasuredMultilabel


def choose_examples(measured: MeasuredMultilabel, names: Sequence[str], most: int) -> list[tuple[int, str, list[Line]]]:
    """Return a few examples, wholly correct ones of different sets and the worst last: index, labels, predictions."""
    claimed = measured.probabilities >= CLAIMED
    right = (claimed == measured.targets).all(1)
    _, first = np.unique(measured.targets[right], axis=0, return_index=True)
    chosen = np.flatnonzero(right)[np.sort(first)][: most - 1].tolist()
    wrong = np.flatnonzero(~right)
    gaps = np.abs(measured.probabilities - measured.targets).max(1)
    chosen += wrong[np.argsort(-gaps[wrong], kind="stable")][: most - len(chosen) if not chosen else 1].tolist()
    return [
        (index, list_labels(measured.targets[index], names), list_lines(measured, index, names)) for index in chosen
    ]


def list_lines(measured: MeasuredMultilabel, index: int, names: Sequence[str]) -> list[Line]:
    """Return the labels that the model predicts for an example, the most confident first; with its true labels if
    that is wrong."""
    order = np.argsort(-measured.probabilities[index], kind="stable").tolist()
    claimed = [label for label in order if measured.probabilities[index, label] >= CLAIMED]
    said = [
        Line(names[label], f"{measured.probabilities[index, label]:.1%}", not measured.targets[index, label])
        for label in claimed
    ] or [Line("", NONE)]
    right = set(claimed) == set(np.flatnonzero(measured.targets[index]).tolist())
    return said if right else [*said, Line("", f"true: {list_labels(measured.targets[index], names)}")]
