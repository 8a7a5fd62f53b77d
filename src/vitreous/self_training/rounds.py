"""Noisy Student (1911.04252): a teacher labels images, a student learns from all, and becomes the teacher of the next.

    SELF/self-training.json   the configuration, the options, and the result of each round
    SELF/teacher/             the run of the first teacher, on the labelled images, unless one was given
    SELF/labels-1.csv         its labels: path, label, confidence, copies and, where they are soft, each class's probability
    SELF/round-1/             the run of the first student, which learns from these too
    SELF/labels-2.csv         the first student's labels
    SELF/final/               the run of the last student
    SELF/model/               its model folder
    SELF/.lock                held while a process goes on with it

Every run is an ordinary one, of the same configuration but for the pseudo labels. Whenever the process dies, the work can be
resumed, to the same bits.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.data.dataset import Dataset, open_dataset
from vitreous.data.sources.base import refuse_multilabel
from vitreous.data.sources.pseudo_labels import ClassCount, check_proportion
from vitreous.data.unlabelled import open_unlabelled
from vitreous.errors import ConfigError, RunError
from vitreous.metrics.headline import format_reached, select_judged
from vitreous.model.count import count_parameters
from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import MODEL
from vitreous.runtime.display import Shown, strip_hidden
from vitreous.self_training.labelling import open_teacher, take_labelled, write_pseudo_labels
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.settings import from_dict, to_dict
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import FINAL
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter
from vitreous.training.run import TrainResult
from vitreous.training.run_group import Places, begin_group, begin_or_resume, continue_group, read_group, write_group
from vitreous.training.settings_check import check_ranges
from vitreous.weights.model_folder import ROUNDS as PLAN
from vitreous.weights.model_folder import load_model, save_model

LAYOUT = ("vitreous_self_training", 1)
"""The key that identifies self-training.json, and its version."""
TEACHER = "teacher"


@dataclass
class SelfTraining(Shown):
    """The settings of a self-training, and its results so far."""

    config: RunConfig
    """Configuration of every student, except for its pseudo labels; its teacher is the first one, if that is given."""
    options: SelfTrainingOptions
    classes: tuple[str, ...]
    images: str
    """Hash of the labelled and the unlabelled images."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """teacher, or a round from 1 as text -> top1 and loss on the validation images, and in a round the pseudo labels: for each
    class its name, and the numbers of images labelled, images kept, and examples."""
    places: Places = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self._describe(name, one) for name, one in self.results.items()]
        last = next((one["kept"] for one in reversed(self.results.values()) if "kept" in one), ())
        rows = [ClassCount(*row) for row in last]
        lines += [
            f"  {one.name}: {one.labelled:,} labelled, {one.kept:,} kept, {one.examples:,} with copies"
            for one in rows[:MOST]
        ]
        lines += [f"  ... and {len(rows) - MOST:,} more classes"] if len(rows) > MOST else []
        return "\n".join(map(strip_hidden, lines))

    def _describe(self, name: str, one: dict[str, Any]) -> str:
        if name == TEACHER:
            return f"teacher    {format_reached(one)}"
        counts = [ClassCount(*row) for row in one["kept"]]
        labelled, kept, examples = (
            sum(getattr(row, what) for row in counts) for what in ("labelled", "kept", "examples")
        )
        fewest, most = (choose(counts, key=lambda row: row.kept) for choose in (min, max))
        return (
            f"round {name:<5}{format_reached(one)}; kept {kept:,} of {labelled:,} images ({fewest.kept:,} of {fewest.name} to "
            f"{most.kept:,} of {most.name}), {examples:,} with copies"
        )


MOST = 20
"""Most classes that are listed."""


def is_self_training(path: Path) -> bool:
    """Return whether a folder holds a self-training."""
    return path_exists(path / PLAN)


def plan_rounds(config: RunConfig, options: SelfTrainingOptions) -> SelfTraining:
    """Return a self-training that can be carried out.

    Args:
        config: that of a student; `data.unlabelled` names the images, `data.pseudo_labels` nothing, `teacher` the first teacher.
        options: the rounds, and how labels are chosen.

    Raises:
        UserError: no unlabelled images, or some that can't be used, several labels an image, or a teacher of other classes.
    """
    if config.data.unlabelled is None:
        raise ConfigError(
            "recipe noisy-student learns from images without labels too; name them with --unlabelled FOLDER"
        )
    check_proportion(config.batch, config.data.pseudo_ratio)
    if config.data.folds or not isinstance(config.objective, ClassifyConfig) or config.head == "logistic":
        raise ConfigError(
            "self-training trains a classifier by gradient descent; leave out folds, other objectives and heads"
        )
    check_ranges(set_teacher(config))
    dataset = open_dataset(set_teacher(config).data, config.decode)
    refuse_multilabel(dataset.train, "self-training")
    images, classes = hash_images(config, dataset), dataset.train.classes
    if config.teacher is not None:
        open_teacher(config.teacher, classes, config.device)
    return SelfTraining(config, options, classes, images)


def set_teacher(config: RunConfig) -> RunConfig:
    """Return the configuration of a run on the labelled images alone."""
    return replace(config, teacher=None, data=take_labelled(config.data))


def hide_test(config: RunConfig) -> RunConfig:
    """Return the configuration of a run that isn't the last: the test split is measured once."""
    once = config.data.test_split == "once"
    return replace(config, data=replace(config.data, test_split="hidden")) if once else config


def set_labels(config: RunConfig, labels: Path) -> RunConfig:
    """Return the configuration of a student that learns from these pseudo labels too."""
    return replace(config, teacher=None, data=replace(config.data, pseudo_labels=str(labels)))


def describe_rounds(plan: SelfTraining) -> str:
    """Describe the runs of a self-training."""
    config, options = plan.config, plan.options
    images = len(open_unlabelled(config.data, config.decode))
    first = config.teacher or "is trained on the labelled images first"
    share = f"{config.data.pseudo_ratio:g} of them to each labelled one in a batch"
    return (
        f"teacher      {first}\n"
        f"rounds       {options.rounds}: each labels {images:,} images ({options.targets}, confidence at least {options.threshold:g}), "
        f"and a student learns from them too, {share}"
    )


def begin_rounds(plan: SelfTraining, out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Carry out a self-training in a new folder; return the last student's result, or that of an interrupted run.

    Raises:
        RunError: the folder is in use. Also raises everything that `training.run.train` raises.
    """
    return begin_group(out, plan, write_plan, run_rounds, reporter)


def continue_rounds(out: Path, reporter: Reporter | None = None) -> TrainResult:
    """Continue the self-training in a folder; raises RunError if it can't be read, RunLocked if another process runs
    it."""

    def check(plan: SelfTraining) -> None:
        if hash_images(plan.config, open_dataset(set_teacher(plan.config).data, plan.config.decode)) != plan.images:
            raise RunError(
                f"the images have changed since the self-training in {out} began; restore them, or begin anew in another folder"
            )

    return continue_group(out, "a self-training", read_plan, run_rounds, reporter, check)


def run_rounds(plan: SelfTraining, out: Path, reporter: Reporter) -> TrainResult:
    """Train the first teacher, unless it is given, and the students that are left."""
    teacher, rounds = plan.config.teacher or str(out / TEACHER), plan.options.rounds
    if plan.config.teacher is not None and not plan.results:
        note_size(plan, reporter)
    if plan.config.teacher is None and TEACHER not in plan.results:
        reporter.message("training the first teacher, on the labelled images")
        result = begin_or_resume(hide_test(set_teacher(plan.config)), out / TEACHER, reporter)
        if result.stopped == "interrupted":
            return replace(result, run=out)
        plan.results[TEACHER] = select_judged(result.metrics)
        write_plan(plan, out)
    for turn in range(1, rounds):
        if str(turn) not in plan.results:
            result = run_round(plan, turn, teacher, out / f"round-{turn}", reporter)
            if result.stopped == "interrupted":
                return replace(result, run=out)
        teacher = str(out / f"round-{turn}")
    result = run_round(plan, rounds, teacher, out / FINAL, reporter)
    if result.stopped == "interrupted" or result.model is None:
        return replace(result, run=out)
    last = load_model(result.model)
    save_model(out / MODEL, replace(last, origin={**last.origin, "self_training": describe_origin(plan)}))
    return replace(result, run=out, model=out / MODEL, rounds=str(plan))


def run_round(plan: SelfTraining, turn: int, teacher: str, folder: Path, reporter: Reporter) -> TrainResult:
    """Let a teacher label the images, train a student with them, and record what was kept and reached."""
    config, labels = plan.config, folder.parent / f"labels-{turn}.csv"
    reporter.message(f"round {turn} of {plan.options.rounds}: {teacher} labels the images in {config.data.unlabelled}")
    kept = write_pseudo_labels(labels, teacher, config, plan.classes, plan.options, reporter)
    reporter.message(f"training student {turn} of {plan.options.rounds}")
    student = set_labels(config, labels)
    result = begin_or_resume(student if turn == plan.options.rounds else hide_test(student), folder, reporter)
    if result.stopped != "interrupted":
        plan.results[str(turn)] = {
            **select_judged(result.metrics),
            "kept": [list(asdict(one).values()) for one in kept],
        }
        write_plan(plan, folder.parent)
    return result


def describe_origin(plan: SelfTraining) -> dict[str, Any]:
    """Return what a model says about the self-training that it comes from."""
    figures = {name: {key: value for key, value in one.items() if key != "kept"} for name, one in plan.results.items()}
    return {"teacher": plan.config.teacher, "reached": figures}


def note_size(plan: SelfTraining, reporter: Reporter) -> None:
    """Say so if a student is smaller than the teacher that was given; the paper's are equal or larger."""
    assert plan.config.teacher is not None
    own = count_parameters(plan.config.model)
    other = count_parameters(open_teacher(plan.config.teacher, plan.classes, plan.config.device).folder.model.config)
    if own < other:
        reporter.message(
            f"the student has {own:,} parameters, its teacher {other:,}; the paper's students are equal or larger"
        )


def hash_images(config: RunConfig, dataset: Dataset) -> str:
    """Identify the labelled images, those of a data set, and the unlabelled ones."""
    images = open_unlabelled(config.data, config.decode)
    return f"{dataset.train.fingerprint}:{dataset.validation.fingerprint}:{images.fingerprint}"


def write_plan(plan: SelfTraining, out: Path) -> None:
    """Write self-training.json, atomically; raises StorageError."""
    values = {
        "options": to_dict(plan.options),
        "classes": list(plan.classes),
        "images": plan.images,
        "reached": plan.results,
    }
    write_group(out / PLAN, LAYOUT, plan.config, plan.places, values)


def read_plan(out: Path) -> SelfTraining:
    """Read self-training.json; raises RunError."""

    def build(config: RunConfig, places: Places, document: dict[str, Any]) -> SelfTraining:
        options = from_dict(SelfTrainingOptions, document["options"], "options")
        classes, images = tuple(document["classes"]), str(document["images"])
        return SelfTraining(config, options, classes, images, dict(document["reached"]), places)

    return read_group(out / PLAN, LAYOUT, build)
