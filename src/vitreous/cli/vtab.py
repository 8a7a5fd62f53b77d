"""VTAB-1k from the command line: probes on frozen features, and the paper's protocol, which trains the whole model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.cli.load_model import open_taken
from vitreous.cli.options.commands import Evaluate
from vitreous.cli.options.loading import Load
from vitreous.cli.probe import feature_options, grid, knn_options, linear_options
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from vitreous.cli.accuracy import Answers
    from vitreous.evaluation.benchmarks.vtab import Probe, TaskScore
    from vitreous.evaluation.benchmarks.vtab_files import Opened
    from vitreous.evaluation.probes.features import Features
    from vitreous.training.reporter import Reporter

RUNS = Path("runs")
BATCH, RATE, WARMUP = 512, 0.01, 500
"""Of the paper's fine-tuning on VTAB, the same for all tasks (2010.11929, appendix B.1.1)."""


def probed(options: Evaluate, display: "Reporter") -> "Answers":
    """Measure the model's features on the tasks of VTAB-1k."""
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluation.benchmarks.vtab import Reading, run_vtab
    from vitreous.evaluation.probes.features import check_batch
    from vitreous.evaluation.probes.layers import find_layer
    from vitreous.reports.evaluation.vtab import lines, parts

    def told(said: str, done: int, total: int) -> None:
        display.phase(said)
        display.progress(done, total, {})

    asked, folder = options.probe, open_taken(options.model, options.load)
    how = feature_options(options)
    find_layer(folder.model, asked.layer)
    check_batch(how)
    reading = Reading(options.tasks, options.broken)
    found = run_vtab(folder, Path(str(options.data)), vtab_probe(options), how, reading, told)
    return Answers(parts(found), found.to_dict(), lines(found))


def vtab_probe(options: Evaluate) -> "Probe":
    """Return what learns a task and is measured on it.

    l2 and rates are chosen on the benchmark's own 200 images; k on all 1,000, each left out in turn.

    Raises:
        ConfigError: settings that can't be met.
    """
    asked = options.probe
    from vitreous.evaluation.benchmarks.vtab_files import MORE
    from vitreous.evaluation.probes import few_shot as few
    from vitreous.evaluation.probes import knn as near
    from vitreous.evaluation.probes import linear as straight
    from vitreous.evaluation.probes.least_squares import check_l2

    strengths = sorted(grid(asked, few.L2_GRID) or (few.L2,))
    lines, nearest = linear_options(asked), knn_options(asked)
    check_l2(strengths)
    straight.check(lines)
    near.check(nearest, MORE)

    def least_squares(train: "Features", test: "Features", held: "np.ndarray") -> tuple[float, str]:
        strength = strengths[0] if len(strengths) == 1 else few.best_strength(train, strengths, held)
        found = few.few_shot(train, test, None, ("all",), strength, 1).at("all")
        return found.mean, f"l2 {strength:g}"

    def linear(train: "Features", test: "Features", held: "np.ndarray") -> tuple[float, str]:
        found = straight.linear_probe(train, test, lines, held)
        return found.accuracy, f"{'rate' if asked.solver == 'sgd' else 'l2'} {found.chosen:g}"

    def neighbours(train: "Features", test: "Features", held: "np.ndarray") -> tuple[float, str]:
        found = near.knn(train, test, nearest)
        return found.accuracy, f"k {found.chosen}"

    return {"few-shot": least_squares, "linear": linear, "knn": neighbours}[options.protocol]


def fine_tuned(options: Evaluate, display: "Reporter") -> "Answers":
    """Train the model on each task as the paper does, into runs/vtab-MODEL-STEPS/TASK; what is done is not done again.

    The 1,000 images are trained on, the test part is measured once, at the end: no setting is chosen by it.

    Raises:
        ConfigError: wishes for the model, which a run takes as it is. UserError, FailedError: as `vitreous train`.
    """
    from vitreous.api.names import model_name
    from vitreous.cli.accuracy import Answers
    from vitreous.evaluation.benchmarks.vtab import VTAB
    from vitreous.evaluation.benchmarks.vtab_files import open_task, tasks_in
    from vitreous.evaluation.benchmarks.vtab_tasks import TASKS, task_named
    from vitreous.reports.evaluation.vtab import FINE_TUNED, lines, parts

    if options.load != Load():
        raise ConfigError("fine-tuning takes the model as it is; `vitreous convert` it first")
    root = Path(str(options.data))
    asked = list(dict.fromkeys(map(task_named, options.tasks))) or tasks_in(root)
    place = RUNS / f"vtab-{model_name(options.model)}-{options.steps}"
    scores = []
    for number, name in enumerate(asked, start=1):
        display.message(f"{TASKS[name].title}, {number} of {len(asked)}: {place / name}")
        scores.append(train_task(options, open_task(root, name, broken=options.broken), place / name, display))
    found = VTAB(tuple(scores), tuple(name for name in TASKS if name not in asked))
    return Answers(parts(found, FINE_TUNED), {**found.to_dict(), "steps": options.steps}, lines(found))


def train_task(options: Evaluate, task: "Opened", place: Path, display: "Reporter") -> "TaskScore":
    """Train on one task, or go on with it; return what the model reaches on the test part."""
    from vitreous.api.training import resume, train
    from vitreous.evaluation.benchmarks.vtab import task_score
    from vitreous.evaluation.benchmarks.vtab_files import write_manifest
    from vitreous.run_folder import is_run, read_run

    run, manifest = place / "run", place / "images.csv"
    known = write_manifest(task, manifest)
    if is_run(run):
        weights = read_run(run).config["config"]["weights"]
        if weights != options.model:
            raise ConfigError(f"{run} began with {weights}, not with {options.model}; move {place.parent} away")
        result = resume(run, reporter=display)
    else:
        wishes = {"weights": options.model, "settings": run_settings(options, len(task.both))}
        result = train(manifest, recipe="finetune", out=run, reporter=display, **wishes)
    if result.outcome.stopped == "interrupted":
        display.close()
        print("interrupted; the same command goes on where it was")
        raise SystemExit(128 + (result.outcome.signal or 2))
    return task_score(task, result.metrics["top1"], known, f"{options.steps} steps")


def run_settings(options: Evaluate, images: int) -> dict[str, Any]:
    """Return what the paper sets for VTAB beside its recipe for fine-tuning.

    Images are squeezed to the model's size, and neither cropped nor mirrored: some tasks ask for places and angles.
    """
    return {
        "duration": f"{options.steps}st",
        "evaluate_every": f"{options.steps}st",
        "batch": min(BATCH, images),
        "micro_batch": "auto",
        "optimizer": {"lr": RATE},
        "schedule": {"warmup": f"{min(WARMUP, options.steps // 5)}st"},
        "preprocess": {"resize": "squash", "crop": 1.0},
        "augment": {"crop": "eval", "flip": False},
        "device": options.device,
    }
