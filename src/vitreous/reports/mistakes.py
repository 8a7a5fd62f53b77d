"""A model's mistakes as pictures, the most confident first: often wrong labels, or gaps in the data."""

from collections.abc import Iterable, Sequence

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.data.stream.shared_batch import Label
from vitreous.predictor import CLAIMED
from vitreous.reports.blocks import Block, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles, render_input
from vitreous.shapes import Bool, Float, Int64
from vitreous.storage.scratch import release
from vitreous.weights.model_folder import ModelFolder

MISTAKES = 24
"""Most pictures."""
SHOWN, LEAST = 3, 0.01
"""Classes of a soft label that are named, and the least probability of one."""
NONE = "no label"


def build_mistakes(
    folder: ModelFolder,
    source: Source,
    predicted: Int64[np.ndarray, " example"],
    confidence: Float[np.ndarray, " example"],
    labels: Int64[np.ndarray, " example"],
    what: str = "images",
) -> list[Block]:
    """Return the most confident wrong predictions; raises ImageError for a missing file.

    `confidence`: probability of the predicted class.
    """
    names = folder.classes
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        return [Words(f"None: all {len(labels):,} {what} are classified correctly.")]
    tiles = []
    for index in map(int, sort_by_confidence(confidence, wrong)[:MISTAKES]):
        true, guess = names[labels[index]], names[predicted[index]]
        lines = [Line(guess, f"{confidence[index]:.1%}", wrong=True), Line(true, before="true: ")]
        picture = Picture(render_input(folder, source, index), f"{true}, taken for {guess}")
        tiles.append(Tile(picture, lines, source.names[index]))
    lead = (
        "The most confident wrong predictions, as the model sees the images: look here for wrong labels and "
        "missing kinds of images."
    )
    return [Words(lead), Tiles(tiles)]


def sort_by_confidence(confidence: Float[np.ndarray, " example"], chosen: np.ndarray) -> np.ndarray:
    """Return examples by the model's confidence in them, the most confident first."""
    return chosen[np.argsort(-confidence[chosen], kind="stable")]


def build_multilabel_mistakes(
    folder: ModelFolder,
    source: Source,
    blocks: Iterable[tuple[slice, Float[np.ndarray, "row label"]]],
    targets: Bool[np.ndarray, "example label"],
    what: str = "images",
) -> list[Block]:
    """Return the labels that the model was most confident of and wrong: predicted but absent, or present but missed.

    `blocks`: all probabilities in order, some rows with their place at a time.
    """
    names, wrong, probability = folder.classes, np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    for place, rows in blocks:
        found = np.argwhere((rows >= CLAIMED) != targets[place])
        wrong = np.concatenate([wrong, found + np.array([place.start, 0])])
        probability = np.concatenate([probability, rows[tuple(found.T)]])
        first = np.argsort(-np.abs(probability - CLAIMED), kind="stable")[:MISTAKES]
        wrong, probability = wrong[first], probability[first]
        release(targets)
    if not len(wrong):
        return [Words(f"None: the model predicts exactly the labels of all {len(targets):,} {what}.")]
    tiles = []
    for (index, label), share in zip(wrong.tolist(), probability, strict=True):
        said = "claimed" if share >= CLAIMED else "not seen"
        true = list_labels(targets[index], names)
        lines = [Line(names[label], f"{said}, {share:.1%}", wrong=True), Line("", f"true: {true}")]
        tiles.append(Tile(Picture(render_input(folder, source, index), true), lines, source.names[index]))
    lead = (
        "The most confident wrong labels, as the model sees the images: predicted but absent, or present but "
        "missed. Look here for wrong or forgotten labels."
    )
    return [Words(lead), Tiles(tiles)]


def list_labels(which: Label, classes: Sequence[str]) -> str:
    """Format a class, or several; of a soft label those that count most, with their probabilities."""
    if isinstance(which, int):
        return classes[which]
    if which.dtype == np.float32:
        ranked = [index for index in np.argsort(-which, kind="stable")[:SHOWN] if which[index] >= LEAST]
        sure = which.max() > 1 - LEAST
        return (
            classes[which.argmax()] if sure else ", ".join(f"{which[index]:.0%} {classes[index]}" for index in ranked)
        )
    return ", ".join(classes[index] for index in np.flatnonzero(which)) or NONE
