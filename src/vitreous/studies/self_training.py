"""Noisy Student: what images without labels bring, by rounds and by noise (1911.04252).

The paper trains EfficientNets on ImageNet, lets them label 81 to 300 million images of JFT, and trains equal or larger ones on both,
noised by RandAugment, dropout and stochastic depth: in its authors' repositories EfficientNet-B7 has 86.9%, and 84.7% by
RandAugment without these images; L2 has 88.4%. With less noise a student is less accurate.

Here 400 labelled images of each class (4,000 of CIFAR-10), half of a smaller one's, are for the teacher, and the other
training images lose their labels.
The student learns from both; so does one without noise, and one whose teacher is the first student. "Labelled alone" learns from
the labelled images with the same noise, for as many examples as teacher and first student together.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts, open_dataset
from vitreous.data.sources.pseudo_labels import read_pseudo_labels
from vitreous.drawing.charts import Row, draw_dots
from vitreous.metrics.seeds import find_interval, weigh_difference
from vitreous.model.config import RegularisationConfig
from vitreous.recipes.catalog import configure
from vitreous.reports.blocks import Table
from vitreous.self_training.labelling import write_pseudo_labels
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.storage.atomic import write_atomically
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.class_split import limit_examples, write_example
from vitreous.studies.engine.study import (
    Cell,
    CellResults,
    Conclusion,
    Figure,
    Setting,
    Study,
    Trained,
    measure_accuracy,
)
from vitreous.training.config import RunConfig

TEACHER, ALONE, STUDENT, PLAIN, SECOND = (
    "teacher",
    "labelled alone",
    "student",
    "student without noise",
    "second student",
)
SHOWN = (TEACHER, ALONE, PLAIN, STUDENT, SECOND)
LABELLED, UNLABELLED = "labelled.csv", "unlabelled.csv"
RIGHT = "right_labels"
CLAIMS = (
    ("a noised student is better than its teacher", STUDENT, TEACHER, "+2.2, EfficientNet-B7"),
    ("it is better than the same network without the unlabelled images, given the same time", STUDENT, ALONE, ""),
    ("noise makes a student better", STUDENT, PLAIN, ""),
    ("a second round is better than the first", SECOND, STUDENT, ""),
)
"""The claim, the condition that should be better than the other, and the paper's difference in points."""


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, the teacher, the network without unlabelled images, and the students."""
    base = configure_base(setting)
    teacher, student = choose_lengths(setting)
    found = []
    for seed in setting.seeds(laptop=3, gpu=4, paper=1):

        def name(group: str, seed: int = seed) -> str:
            return f"{base_runs.build_slug(group)}-{seed}"

        def add_student(group: str, config: RunConfig, label: str, seed: int = seed) -> None:
            file = setting.folder / "labels" / f"{name(label)}.csv"
            data = replace(config.data, unlabelled=str(setting.folder / UNLABELLED), pseudo_labels=str(file))
            own = replace(
                config, data=replace(data, pseudo_ratio=base.data.pseudo_ratio), duration=f"{student}ex", seed=seed
            )
            prepare = partial(write_labels, teacher=name(label), config=own)
            found.append(Cell(name(group), group, own, measure_student, needs=(name(label),), prepare=prepare))

        alone = replace(base, data=replace(base.data, pseudo_ratio=1.0), seed=seed)
        found.append(Cell(name(TEACHER), TEACHER, replace(alone, duration=f"{teacher}ex"), prepare=write_lists))
        longer = replace(alone, duration=f"{teacher + student}ex")
        found.append(Cell(name(ALONE), ALONE, longer, prepare=write_lists))
        add_student(STUDENT, base, TEACHER)
        add_student(PLAIN, silence(base), TEACHER)
        add_student(SECOND, base, STUDENT)
    return found


def choose_facts(setting: Setting) -> Facts:
    """Return the facts of the labelled images."""
    counts = tuple(min(count_labelled(setting), (count + 1) // 2) for count in setting.facts.counts)
    return replace(setting.facts, counts=counts, train=sum(counts))


def configure_base(setting: Setting) -> RunConfig:
    """Return recipe noisy-student on the labelled images: at laptop scale its narrower network, at paper scale EfficientNet-B0 and
    512 labelled images in a batch, which the paper found as good as 2,048."""
    few = replace(setting, data=DataConfig(str(setting.folder / LABELLED)), facts=choose_facts(setting))
    chosen = setting.choose(smoke={}, laptop={"minutes": 1.0}, gpu={}, paper={"model": "EfficientNet-B0"})
    base = configure("noisy-student", few.make_recipe_options(**chosen))
    if setting.scale == "paper":
        base = replace(base, batch=base.batch // 4)  # the rate follows
    return replace(base, evaluate_every="100%", checkpoint_every="1min", workers=base_runs.choose_workers(setting))


def count_labelled(setting: Setting) -> int:
    """Return the labelled images of each class that has twice as many."""
    return setting.choose(smoke=10, laptop=400, gpu=400, paper=256)


def choose_lengths(setting: Setting) -> tuple[int, int]:
    """Return the examples that a teacher and that a student sees."""
    return setting.choose(
        smoke=(96, 96), laptop=(100_000, 240_000), gpu=(400_000, 3_200_000), paper=(179_200_000, 2_688_000_000)
    )


def choose_options(setting: Setting) -> SelfTrainingOptions:
    """Return the defaults of recipe noisy-student: soft labels of confidence 0.3 and more, classes balanced. A smoke's teacher is
    never sure."""
    return SelfTrainingOptions(threshold=0.0) if setting.scale == "smoke" else SelfTrainingOptions()


def silence(config: RunConfig) -> RunConfig:
    """Return a configuration without RandAugment, dropout and stochastic depth; crops and mirror images stay."""
    plain = replace(config.augment, randaugment=(0, 10.0))
    return replace(config, augment=plain, regularisation=RegularisationConfig())


def write_lists(setting: Setting) -> None:
    """List the labelled and the unlabelled images, unless they are listed; the latter with their true classes, which only
    `measure_student` reads."""
    if all((setting.folder / name).exists() for name in (LABELLED, UNLABELLED)):
        return
    dataset = open_dataset(setting.data)
    labelled = limit_examples(dataset.train, np.arange(len(dataset.train)), choose_facts(setting).counts).tolist()
    rest = sorted(set(range(len(dataset.train))) - set(labelled))
    parts = {
        LABELLED: (("train", dataset.train, labelled), ("val", dataset.validation, range(len(dataset.validation)))),
        UNLABELLED: (("train", dataset.train, rest),),
    }
    for name, splits in parts.items():
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("path", "label", "split"))
        for split, source, chosen in splits:
            for index in chosen:
                path = write_example(source, index, setting.folder)
                table.writerow((path, source.classes[source.labels[index]], split))
        write_atomically(setting.folder / name, text.getvalue().encode(errors="surrogateescape"))


def write_labels(setting: Setting, teacher: str, config: RunConfig) -> None:
    """Let the model of a cell label the unlabelled images, unless it has."""
    write_lists(setting)
    assert config.data.pseudo_labels is not None
    file = Path(config.data.pseudo_labels)
    file.parent.mkdir(exist_ok=True)
    write_pseudo_labels(file, str(setting.run(teacher)), config, setting.facts.classes, choose_options(setting))


def measure_student(trained: Trained) -> dict[str, Any]:
    """Return accuracy, and of the pseudo labels that it learned from, the share that is right and the share of images kept."""
    classes, data = trained.setting.facts.classes, trained.config.data
    labels = read_pseudo_labels(Path(str(data.pseudo_labels)), classes)
    with (trained.setting.folder / UNLABELLED).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        true = {row["path"]: row["label"] for row in csv.DictReader(file)}
    kept = np.flatnonzero(labels.copies)
    right = [classes[labels.labels[index]] == true[labels.names[index]] for index in kept]
    return {**measure_accuracy(trained), RIGHT: float(np.mean(right)), "kept": len(kept) / len(true)}


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Hold the students against their teacher, against each other, and against the network without unlabelled images."""
    found = {group: results.by_seed(group, "top1") for group in SHOWN}
    verdicts = []
    for claim, one, other, paper in CLAIMS:
        words = f"{one} minus {other}".capitalize()
        verdicts += weigh_difference(claim, words, found[one], found[other], paper)
    rows = [
        Row(group, list(values.values()), find_interval(values.values()), 2 if group in (TEACHER, ALONE) else 1)
        for group, values in found.items()
    ]
    label = "Validation accuracy of teacher and students"
    drawn = draw_dots(rows, label, "validation accuracy; mean, 95% interval, each seed")
    return Conclusion(verdicts, [build_table(found, results)], [Figure("figure", f"{label}.", drawn)], NOTES)


def build_table(found: Mapping[str, Mapping[int, float]], results: CellResults) -> Table:
    """Return accuracy, and what the pseudo labels were, by condition."""
    rows = []
    for group, values in found.items():
        shares = (results.by_seed(group, number).values() for number in (RIGHT, "kept"))
        rows.append(
            [
                group,
                find_interval(values.values()).percent(),
                *(find_interval(one).percent() if one else "–" for one in shares),
            ]
        )
    heads = ["network", "accuracy", "labels that are right", "images kept"]
    return Table(
        "In percent, mean ± 95% interval over seeds and images (of labels and images: over seeds)", heads, rows
    )


NOTES = (
    "The unlabelled images are of the same classes and the same source as the labelled ones; the paper's are of 300 million of "
    "the web, most of them of none of the classes.",
    "Teacher and students have the same size here; the paper's students are equal or larger.",
)

STUDY = Study(
    name="self-training",
    title="Noisy Student: images without labels, rounds and noise (1911.04252)",
    question="Does a student that learns from its teacher's labels of other images become better than the teacher, and does that need noise?",
    paper=(
        "ImageNet, and 300 million images without labels: in its authors' repositories EfficientNet-B7 has 86.9%, against 84.7% without "
        "them; EfficientNet-L2 has 88.4%. With less noise a student is less accurate."
    ),
    here=(
        "400 images of each class, half of a smaller one's, keep their labels; a teacher of the same size labels the others, and a student learns from all, with "
        "RandAugment, dropout and stochastic depth, and without; a second student learns from the first one's labels. Labelled alone sees "
        "as many examples as teacher and first student together, with the same noise."
    ),
    cells=cells,
    conclude=conclude,
    words={RIGHT: "share of the pseudo labels in use that are right", "kept": "share of the unlabelled images in use"},
)
