"""Build a Setting from the command's arguments: open the data, and at laptop scale choose a fixed part of it."""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, open_dataset
from vitreous.data.sources.base import FileSource, refuse_multilabel
from vitreous.errors import ConfigError
from vitreous.storage.atomic import check_name, translate_write_errors, write_atomically
from vitreous.studies.engine.study import Scale, Setting
from vitreous.training.reporter import Reporter, Silent

PART = {"smoke": (400, 100), "laptop": (20_000, 4_000)}
"""Most training and validation images at each scale."""
CHOSEN = "data.csv"


def open_setting(scale: Scale, data: str, folder: Path, reporter: Reporter | None = None) -> Setting:
    """Open the data for a study in `folder`.

    Args:
        scale: smoke, laptop, gpu or paper.
        data: what `vitreous train` accepts; at laptop scale at most 20,000 + 4,000 of its images are used, chosen by
            hashes of
            their names, class by class, and listed in FOLDER/data.csv.
        folder: the study's folder; created if necessary.
        reporter: receives the scan's progress.

    Raises:
        DataError: the data can't be used. ConfigError: no folder can have that name.
    """
    check_name(folder)
    reporter, folder = reporter or Silent(), folder.resolve()
    config = DataConfig(data)
    reporter.phase(f"scanning {data}")
    dataset = open_dataset(config, progress=lambda done, total: reporter.progress(done, total, {}))
    refuse_multilabel(dataset.train, "a study")
    if scale in PART and isinstance(dataset.train, FileSource):
        config = write_subset(dataset, PART[scale], folder)
        dataset = open_dataset(config)
    if len(dataset.facts.classes) < 2:
        raise ConfigError(f"{data} has one class; a study needs two or more")
    return Setting(scale, config, dataset.facts, folder)


def write_subset(dataset: Dataset, most: tuple[int, int], folder: Path) -> DataConfig:
    """List at most `most` training and validation images in FOLDER/data.csv; return the settings that open them."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("path", "label", "split"))
    for source, count, split in zip((dataset.train, dataset.validation), most, ("train", "val"), strict=True):
        assert isinstance(source, FileSource)
        for index in stratify(source.names, source.labels.tolist(), count):
            place = (source.root / source.names[index]).resolve()
            table.writerow((place, source.classes[source.labels[index]], split))
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CHOSEN, text.getvalue().encode(errors="surrogateescape"))
    return replace(DataConfig(), path=str(folder / CHOSEN))


def stratify(names: Sequence[str], labels: Sequence[int], most: int) -> list[int]:
    """Return at most about `most` indices, each class in proportion, by hashes of the names; at least one of each
    class."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[label].append(index)
    share = min(1.0, most / len(names))
    chosen = []
    for members in by_class.values():
        ordered = sorted(
            members, key=lambda index: hashlib.blake2b(names[index].encode(errors="surrogateescape")).digest()
        )
        chosen += ordered[: max(1, round(share * len(members)))]
    return sorted(chosen)
