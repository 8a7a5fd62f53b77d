"""VTAB-1k by the paper's own protocol, which trains the whole model on each task (2010.11929, appendix B.1.1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.api.names import name_model
from vitreous.api.training import RUNS, resume, train
from vitreous.errors import ConfigError
from vitreous.evaluation.benchmarks.vtab import VTAB, TaskScore, task_score
from vitreous.evaluation.benchmarks.vtab_files import format_manifest, list_tasks, open_task
from vitreous.evaluation.benchmarks.vtab_tasks import TASKS, find_task
from vitreous.evaluation.probes.feature_cache import model_hash
from vitreous.run_folder import is_run, read_run
from vitreous.storage.atomic import write_atomically
from vitreous.training.reporter import Reporter
from vitreous.training.run import TrainResult
from vitreous.weights.auto_weights import resolve_weights
from vitreous.weights.loading import open_model

STEPS = 2500
BATCH, RATE, WARMUP = 512, 0.01, 500
"""The paper's settings for fine-tuning on VTAB, the same for all tasks."""


def fine_tune(
    model: str, root: Path, tasks: tuple[str, ...], settings: dict[str, Any], broken: str, display: Reporter
) -> tuple[VTAB, int | None]:
    """Train a model on each task, into runs/vtab-MODEL-STEPS/TASK; finished tasks are not repeated.

    Training uses the 1,000 images; the test split is measured once, at the end, and chooses no setting.

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
    digest = hash_weights(weights)
    opened = [open_task(root, name, broken=broken) for name in asked]
    manifests = [format_manifest(task, place / task.task) for task in opened]
    scores: list[TaskScore] = []
    signal = None
    for task, (manifest, known) in zip(opened, manifests, strict=True):
        folder = place / task.task
        display.message(f"{TASKS[task.task].title}, {len(scores) + 1} of {len(asked)}: {folder}")
        start = Start(weights, digest, manifest.encode("utf-8", "surrogateescape"))
        result = train_task(start, build_settings(settings, len(task.both)), folder, display)
        if result.stopped == "interrupted":
            signal = result.signal or 2
            break
        scores.append(task_score(task, result.metrics["top1"], known, f"{settings['steps']} steps"))
    return VTAB(tuple(scores), tuple(name for name in TASKS if name not in asked)), signal


@dataclass(frozen=True)
class Start:
    """What training on one task starts from."""

    weights: str
    """Pinned, as a run records them."""
    digest: str
    """Hash of the weights, which reveals other weights under the same path."""
    manifest: bytes
    """The images."""


def hash_weights(weights: str) -> str:
    """Hash the model that training begins with."""
    return model_hash(open_model(weights)[0])


def train_task(start: Start, settings: dict[str, Any], place: Path, display: Reporter) -> TrainResult:
    """Begin or continue the training on one task; raises ConfigError for a run that began with other weights or images."""
    run, manifest, digest = place / "run", place / "images.csv", place / "weights.sha256"
    if not is_run(run):
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(manifest, start.manifest)
        write_atomically(digest, start.digest.encode())
        return train(manifest, recipe="finetune", out=run, weights=start.weights, settings=settings, reporter=display)
    before = read_run(run).config["config"]["weights"]
    if before != start.weights:
        raise ConfigError(f"{run} began with {before}, not with {start.weights}; move {place.parent} away")
    if not digest.is_file():
        display.message(f"note: {run} comes from an earlier version, which didn't record what {before} held")
    elif digest.read_text() != start.digest:
        raise ConfigError(f"{run} began with other weights than {before} holds now; move {place.parent} away")
    if not manifest.is_file() or manifest.read_bytes() != start.manifest:
        raise ConfigError(
            f"{run} began with other images than those of the copy ({manifest}); move {place.parent} away"
        )
    return resume(run, reporter=display)


def build_settings(settings: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the paper's settings for VTAB that differ from its recipe for fine-tuning.

    Images are squeezed to the model's size, and neither cropped nor mirrored: some tasks are about positions and angles.
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
