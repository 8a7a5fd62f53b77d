"""VTAB-1k by the paper's own protocol: the whole model trained on each task (2010.11929, appendix B.1.1)."""

from pathlib import Path
from typing import Any

from vitreous.api.names import name_model
from vitreous.api.training import RUNS, resume, train
from vitreous.errors import ConfigError
from vitreous.evaluation.benchmarks.vtab import VTAB, TaskScore, task_score
from vitreous.evaluation.benchmarks.vtab_files import Opened, list_tasks, open_task, write_manifest
from vitreous.evaluation.benchmarks.vtab_tasks import TASKS, find_task
from vitreous.run_folder import is_run, read_run
from vitreous.training.reporter import Reporter
from vitreous.training.run import TrainResult
from vitreous.weights.auto_weights import resolve_weights

STEPS = 2500
BATCH, RATE, WARMUP = 512, 0.01, 500
"""The paper's settings for fine-tuning on VTAB, the same for all tasks."""


def fine_tune(
    model: str, root: Path, tasks: tuple[str, ...], settings: dict[str, Any], broken: str, display: Reporter
) -> tuple[VTAB, int | None]:
    """Train a model on each task, into runs/vtab-MODEL-STEPS/TASK; finished tasks are not repeated.

    The 1,000 images are trained on, and the test split is measured once, at the end: it chooses no setting.

    Args:
        model: weights, as a run accepts them.
        root: the copy of the benchmark.
        tasks: by name; empty: all in the copy.
        settings: steps, and the device.
        broken: raise, or skip.
        display: receives the progress.

    Returns:
        The scores of the finished tasks, and the signal that interrupted the work, if any.

    Raises:
        UserError, FailedError: as `vitreous.train`.
    """
    asked = list(dict.fromkeys(map(find_task, tasks))) or list_tasks(root)
    place = RUNS / f"vtab-{name_model(model)}-{settings['steps']}"
    weights = resolve_weights(model, display)
    scores: list[TaskScore] = []
    signal = None
    for number, name in enumerate(asked, start=1):
        display.message(f"{TASKS[name].title}, {number} of {len(asked)}: {place / name}")
        task = open_task(root, name, broken=broken)
        known = write_manifest(task, place / name / "images.csv")
        result = train_task(weights, task, place / name, settings, display)
        if result.stopped == "interrupted":
            signal = result.signal or 2
            break
        scores.append(task_score(task, result.metrics["top1"], known, f"{settings['steps']} steps"))
    return VTAB(tuple(scores), tuple(name for name in TASKS if name not in asked)), signal


def train_task(weights: str, task: Opened, place: Path, settings: dict[str, Any], display: Reporter) -> TrainResult:
    """Begin or continue the training on one task; `weights`: pinned, as a run notes them."""
    run = place / "run"
    if not is_run(run):
        chosen = build_settings(settings, len(task.both))
        return train(
            place / "images.csv", recipe="finetune", out=run, weights=weights, settings=chosen, reporter=display
        )
    before = read_run(run).config["config"]["weights"]
    if before != weights:
        raise ConfigError(f"{run} began with {before}, not with {weights}; move {place.parent} away")
    return resume(run, reporter=display)


def build_settings(settings: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the paper's settings for VTAB besides its recipe for fine-tuning.

    Images are squeezed to the model's size, and neither cropped nor mirrored: some tasks ask for positions and angles.
    """
    steps = settings["steps"]
    return {
        "duration": f"{steps}st",
        "evaluate_every": f"{steps}st",
        "batch": min(BATCH, images),
        "micro_batch": "auto",
        "optimizer": {"lr": RATE},
        "schedule": {"warmup": f"{min(WARMUP, steps // 5)}st"},
        "preprocess": {"resize": "squash", "crop": 1.0},
        "augment": {"crop": "eval", "flip": False},
        "device": settings["device"],
    }
