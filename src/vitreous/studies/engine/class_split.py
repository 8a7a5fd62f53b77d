"""One data set split in two: pre-training on half of its classes, transfer to the other half.

The source has the images of every second class in alphabetical order, and the target those of the others, optionally
with a limited number of training images per class. Both are listed in the study's folder: source.csv, target.csv.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.base import FileSource, Source
from vitreous.errors import ConfigError
from vitreous.storage.atomic import translate_write_errors, write_atomically
from vitreous.studies.engine.data_subset import stratify
from vitreous.studies.engine.study import Setting

SOURCE, TARGET = "source", "target"


def split_classes(setting: Setting, labelled: int | None = None) -> tuple[Setting, Setting]:
    """Return the settings of the source and of the target, with their facts; nothing is opened or written.

    Args:
        setting: of the whole data.
        labelled: most training images of each class that the target keeps; None: all.

    Raises:
        ConfigError: fewer than four classes.
    """
    names = setting.facts.classes
    if len(names) < 4:
        raise ConfigError(
            f"this study divides the classes in two, so it needs four or more, but the data has {len(names)}"
        )
    parts = []
    for first, part in enumerate((SOURCE, TARGET)):
        classes = names[first::2]
        counts = setting.facts.counts[first::2]
        if part == TARGET and labelled is not None:
            counts = tuple(min(labelled, count) for count in counts)
        validation = setting.facts.validation * len(classes) // len(names)
        facts = replace(setting.facts, classes=classes, counts=counts, train=sum(counts), validation=validation)
        parts.append(replace(setting, data=DataConfig(str(setting.folder / f"{part}.csv")), facts=facts))
    return parts[0], parts[1]


def write_split(setting: Setting, labelled: int | None = None) -> None:
    """Write the lists that `split_classes` names, unless they exist."""
    if all((setting.folder / f"{part}.csv").exists() for part in (SOURCE, TARGET)):
        return
    dataset = open_dataset(setting.data)
    for first, part in enumerate((SOURCE, TARGET)):
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("path", "label", "split"))
        for split, source in (("train", dataset.train), ("val", dataset.validation)):
            kept = np.isin(source.labels, np.arange(first, len(source.classes), 2))
            chosen = np.flatnonzero(kept)
            if labelled is not None and (part, split) == (TARGET, "train"):
                chosen = limit_examples(source, chosen, [labelled] * len(source.classes))
            for index in map(int, chosen):
                table.writerow(
                    (write_example(source, index, setting.folder), source.classes[source.labels[index]], split)
                )
        write_atomically(setting.folder / f"{part}.csv", text.getvalue().encode(errors="surrogateescape"))


def limit_examples(source: Source, chosen: np.ndarray, most: Sequence[int]) -> np.ndarray:
    """Return some of these examples, by hashes of their names. `most`: how many of each class at most."""
    kept = []
    for label in np.unique(source.labels[chosen]):
        own = chosen[source.labels[chosen] == label]
        some = stratify([source.names[index] for index in own], [0] * len(own), most[label])
        kept += own[some].tolist()
    return np.array(sorted(kept))


def write_example(source: Source, index: int, folder: Path) -> Path:
    """Return an example's file; one in memory is written to the study's folder as a PNG."""
    if isinstance(source, FileSource):
        return (source.root / source.names[index]).resolve()
    path = folder / "images" / f"{source.names[index]}.png"
    pixels = source.read(index)
    if isinstance(pixels, bytes):
        raise ConfigError("this study needs images in files or in memory")
    with translate_write_errors(
        path
    ):  # files missing after an interruption are written again: source.csv and target.csv come last
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG")
    return path
