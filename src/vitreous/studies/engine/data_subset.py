"""Build a Setting from the command's arguments: open the data, and at laptop scale choose a fixed part of it."""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, Facts, open_dataset
from vitreous.data.listing.scan import find_median
from vitreous.data.sources.base import FileSource, refuse_multilabel
from vitreous.errors import ConfigError
from vitreous.storage.atomic import check_name
from vitreous.studies.engine.study import Images, Scale, Setting
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.run_inputs import hash_dataset

PART = {"smoke": (400, 100), "laptop": (20_000, 4_000)}
"""Most training and validation images at each scale."""
CHOSEN = "data.csv"
SPLITS = ("train", "val")
Subsets = dict[str, tuple[FileSource, list[int]]]
"""The images chosen from each split."""


def open_setting(scale: Scale, data: str, folder: Path, reporter: Reporter | None = None) -> Setting:
    """Open the data for a study in `folder`; writes nothing.

    Args:
        scale: smoke, laptop, gpu or paper.
        data: what `vitreous train` accepts; at laptop scale at most 20,000 + 4,000 of its images are used, chosen by
            hashes of their names, class by class; `run_study` lists them in FOLDER/data.csv.
        folder: the study's folder.
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
    facts, listed = dataset.facts, None
    if len(facts.classes) < 2:
        raise ConfigError(f"{data} has one class; a study needs two or more")
    if scale in PART and isinstance(dataset.train, FileSource):
        chosen = choose_subset(dataset, PART[scale])
        facts, listed = count_subset(facts, chosen), list_subset(chosen)
        config = replace(DataConfig(), path=str(folder / CHOSEN))
    return Setting(scale, config, facts, folder, Images(data, hash_dataset(dataset), listed))


def choose_subset(dataset: Dataset, most: tuple[int, int]) -> Subsets:
    """Choose at most about `most` training and validation images."""
    chosen = {}
    for source, count, split in zip((dataset.train, dataset.validation), most, SPLITS, strict=True):
        assert isinstance(source, FileSource)
        chosen[split] = source, stratify(source.names, source.labels.tolist(), count)
    return chosen


def count_subset(facts: Facts, chosen: Subsets) -> Facts:
    """Return the facts of the chosen images, from those of all."""
    train, validation = (source.labels[indices] for source, indices in chosen.values())
    sizes = [source.sizes[indices] for source, indices in chosen.values() if source.sizes is not None]
    size = find_median(np.concatenate(sizes)) if len(sizes) == len(chosen) else facts.size
    counts = tuple(np.bincount(train, minlength=len(facts.classes)).tolist())
    return replace(facts, train=len(train), validation=len(validation), counts=counts, size=size, held_out=False)


def list_subset(chosen: Subsets) -> bytes:
    """Return the chosen images as the text of a manifest."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("path", "label", "split"))
    for split, (source, indices) in chosen.items():
        for index in indices:
            place = (source.root / source.names[index]).resolve()
            table.writerow((place, source.classes[source.labels[index]], split))
    return text.getvalue().encode(errors="surrogateescape")


def find_other_images(stored: Any, now: Images) -> str:
    """Explain how the images that a study.json notes differ from today's; "" if they are the same, or none are noted."""
    if not isinstance(stored, dict) or stored.get("fingerprint") == now.fingerprint:
        return ""
    if stored.get("named") == now.named:
        return f"the images of {now.named} have changed since it began"
    return f"it began with the images of {stored.get('named')}, and those of {now.named} are others"


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
