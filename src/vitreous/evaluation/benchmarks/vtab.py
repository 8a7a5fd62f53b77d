"""Frozen features on VTAB-1k, task by task, and the benchmark's averages."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataError
from vitreous.evaluation.benchmarks.vtab_files import Opened, list_tasks, open_task
from vitreous.evaluation.benchmarks.vtab_tasks import GROUPS, TASKS, find_task
from vitreous.evaluation.probes.features import FeatureOptions, Features, features
from vitreous.metrics.classification import wilson_interval
from vitreous.shapes import Bool
from vitreous.weights.model_folder import ModelFolder

Probe = Callable[[Features, Features, Bool[np.ndarray, " example"]], tuple[float, str]]
"""Learns from the first and is measured on the second; the mask marks the images of the first for choosing settings.
Returns top-1 accuracy, 0 to 1, and a description of the settings chosen."""
TaskProgress = Callable[[str, int, int], None]
"""Called with (the current work, how much is done, of how much)."""

STANDARD = FeatureOptions()


@dataclass(frozen=True)
class TaskScore:
    """A model's result on one task."""

    task: str
    group: str
    accuracy: float
    """Top-1 on the whole test split, 0 to 1."""
    interval: tuple[float, float]
    """Its 95% Wilson interval."""
    train: int
    test: int
    """Number of test images."""
    chosen: str
    """The settings chosen on the training images."""
    unseen: int
    """Test images of classes that the training images lack; they count as wrong."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VTAB:
    """A model's results on all tasks in the copy."""

    scores: tuple[TaskScore, ...]
    missing: tuple[str, ...]
    """Tasks that were requested or belong to the benchmark, but are missing."""

    def average_group(self, group: str) -> float | None:
        """Return the mean accuracy of a group; None unless all its tasks are present."""
        found = [score.accuracy for score in self.scores if score.group == group]
        return float(np.mean(found)) if len(found) == sum(task.group == group for task in TASKS.values()) else None

    @property
    def mean(self) -> float | None:
        """The benchmark's own number (1910.04867): the mean accuracy of the 19 tasks; None unless all are present."""
        return float(np.mean([score.accuracy for score in self.scores])) if len(self.scores) == len(TASKS) else None

    @property
    def mean_of_groups(self) -> float | None:
        """The mean of the three groups' means, which some papers report instead; None unless all tasks are present."""
        groups = [self.average_group(group) for group in GROUPS]
        return float(np.mean([one for one in groups if one is not None])) if None not in groups else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        groups = {group: self.average_group(group) for group in GROUPS}
        averages = {"mean": self.mean, "groups": groups, "mean_of_groups": self.mean_of_groups}
        return {**averages, "tasks": [asdict(score) for score in self.scores], "missing": list(self.missing)}


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks of a copy are measured, and how its images are read."""

    tasks: Sequence[str] = ()
    """Names of tasks; empty: all in the copy."""
    broken: str = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted)."""
    seed: int = 0
    """Seed for drawing 1,000 images, if the copy has no lists."""
    check: Callable[[int], object] | None = None
    """Called with each task's number of training images before any passes through the model; raises UserError if they are too few."""


def run_vtab(
    folder: ModelFolder,
    root: Path,
    probe: Probe,
    options: FeatureOptions = STANDARD,
    task_options: TaskOptions = TaskOptions(),
    progress: TaskProgress | None = None,
) -> VTAB:
    """Measure a model's frozen features on the tasks of the user's copy: trained on 1,000 images, tested on all.

    This is not the benchmark's protocol, which trains the whole model on each task (2010.11929, appendix B.1.1);
    numbers of the two are not comparable. As there, images are squeezed to the model's size and not cropped, since some tasks ask
    for positions and distances. All tasks are opened before any image passes through the model.

    Args:
        folder: the model; it needs no head.
        root: the copy, with one folder for each task.
        probe: what is trained and measured.
        options: how features are computed.
        task_options: which tasks, and how they are read.
        progress: called during the work.

    Raises:
        UnknownName: no such task. DataError: a copy that is missing or unusable. ImageError: a file that can't be
        read.
    """
    names = list(dict.fromkeys(map(find_task, task_options.tasks))) or list_tasks(root)
    folder = replace(folder, preprocess=replace(folder.preprocess, resize="squash", crop=1.0))
    opened = [open_task(root, name, folder.decode, task_options.broken, task_options.seed) for name in names]
    for task in opened:
        check_task(task, task_options.check)
    scores = []
    for number, task in enumerate(opened, start=1):
        lead = f"{TASKS[task.task].title} ({number} of {len(names)})"
        found = []
        for part, source in (("training", task.both), ("test", task.test)):
            said = f"{lead}: features of {len(source):,} {part} images"
            tell = None if progress is None else lambda done, total, said=said: progress(said, done, total)
            found.append(features(folder, source, options, tell))
        scores.append(score_task(task, found[0], found[1], probe))
    return VTAB(tuple(scores), tuple(name for name in TASKS if name not in names))


def check_task(task: Opened, check: Callable[[int], object] | None) -> None:
    """Raise UserError if a probe can't learn a task: its training images have a single class, or `check` says so."""
    if len(np.unique(task.both.labels)) < 2:
        raise DataError(
            f"the training images of {TASKS[task.task].title} have a single class; a probe needs at least two"
        )
    if check is not None:
        check(len(task.both))


def score_task(task: Opened, train: Features, test: Features, probe: Probe) -> TaskScore:
    """Measure one task."""
    learned = np.unique(train.labels)
    known = np.flatnonzero(np.isin(test.labels, learned))
    held = np.arange(len(train)) >= len(task.train)
    accuracy, chosen = probe(train, test.take(known), held) if len(known) else (0.0, "")
    return task_score(task, accuracy, len(known), chosen)


def task_score(task: Opened, accuracy: float, known: int, chosen: str) -> TaskScore:
    """Return a task's score from the accuracy on the `known` test images whose classes could be learned."""
    hits, images = round(accuracy * known), len(task.test)
    return TaskScore(
        task.task,
        TASKS[task.task].group,
        hits / images,
        wilson_interval(hits, images),
        len(task.both),
        images,
        chosen,
        images - known,
        task.notes,
    )
