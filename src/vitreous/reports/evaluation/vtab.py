"""The results of a model's features on VTAB-1k, as sections of a report."""

from vitreous.data.listing.listing import format_names
from vitreous.evaluation.benchmarks.vtab import VTAB
from vitreous.evaluation.benchmarks.vtab_tasks import GROUPS, TASKS
from vitreous.reports.blocks import Block, Note, Numbers, Section, Table, Words

WORDS = (
    "VTAB-1k (arXiv 1910.04867): each task has 1,000 training images and its whole test split. The mean of the "
    "19 tasks is the benchmark's own number; the mean of the three groups' means, which gives more weight to the "
    "tasks of a small group, is given because some papers report it. "
)
PROBED = (
    "The benchmark trains the whole model on each task; here a probe learns on frozen features, so these numbers "
    "are comparable only with probes. Images are squeezed to the model's size and not cropped, whatever the model's own preprocessing."
)
FINE_TUNED = (
    "The whole model was trained on each task as in the Vision Transformer's paper (2010.11929, appendix B.1.1): SGD, rate "
    "0.01, batch 512, 12/7 of the resolution; images squeezed to it, neither cropped nor mirrored. The test split was measured "
    "once, at the end."
)


def build_sections(found: VTAB, how: str = PROBED) -> list[Section]:
    """Return the report's sections: the averages, every task, the protocol."""
    blocks: list[Block] = [Numbers(list_figures(found)), tabulate_tasks(found)]
    if found.missing:
        blocks.append(
            Note("Not all tasks:", f"without {format_names([TASKS[name].title for name in found.missing], 19)}.")
        )
    said = [
        Words(f"{TASKS[score.task].title}: {'; '.join(list_notes(score.unseen, score.notes))}.")
        for score in found.scores
        if score.notes or score.unseen
    ]
    copy = [Section("copy", "The copy", said)] if said else []
    return [Section("results", "Results", blocks), *copy, Section("method", "Method", [Words(WORDS + how)])]


def list_figures(found: VTAB) -> list[tuple[str, str, str]]:
    """Return the available averages; if tasks are missing, the number of tasks."""
    shown = []
    if found.mean is not None and found.mean_of_groups is not None:
        shown = [("Mean of 19", f"{found.mean:.1%}", "VTAB's own")]
    groups = [(group, found.average_group(group)) for group in GROUPS]
    shown += [(group, f"{mean:.1%}", f"{count_tasks(group)} tasks") for group, mean in groups if mean is not None]
    if found.mean_of_groups is not None:
        shown.append(("Mean of groups", f"{found.mean_of_groups:.1%}", "not VTAB's own"))
    return shown or [("Tasks", f"{len(found.scores)} of {len(TASKS)}", "too few for an average")]


def count_tasks(group: str) -> int:
    """Return the number of a group's tasks."""
    return sum(task.group == group for task in TASKS.values())


def tabulate_tasks(found: VTAB) -> Table:
    """Return a row for each task."""
    rows = [
        (
            score.group,
            TASKS[score.task].title,
            f"{score.accuracy:.2%}",
            f"{score.interval[0]:.1%} to {score.interval[1]:.1%}",
            f"{score.train:,}",
            f"{score.test:,}",
            score.chosen,
        )
        for score in found.scores
    ]
    return Table("Top-1 on each task", ("group", "task", "top-1", "95% interval", "train", "test", "chosen"), rows, 2)


def list_notes(unseen: int, notes: tuple[str, ...]) -> list[str]:
    """Return the notes on a task's images."""
    wrong = f"{unseen:,} test images of classes without training images count as wrong"
    return [*notes, *([wrong] if unseen else [])]


def format_lines(found: VTAB) -> list[str]:
    """Return what the terminal shows."""
    shown = [f"{name:15} {value}   ({small})" for name, value, small in list_figures(found)]
    said = [
        f"note: {TASKS[score.task].title}: {note}"
        for score in found.scores
        for note in list_notes(score.unseen, score.notes)
    ]
    missing = [f"without {format_names([TASKS[name].title for name in found.missing], 19)}"] if found.missing else []
    return [str(tabulate_tasks(found)), "", *shown, *missing, *said]
