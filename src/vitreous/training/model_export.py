"""Write the model folders of a run: the evaluated weights, with everything needed to use them."""

from vitreous.errors import VitreousError
from vitreous.evaluation.handover import read_step
from vitreous.evaluation.refit import read_refit
from vitreous.model.factory import Model, create_empty
from vitreous.model.lora import merge_state
from vitreous.run_folder import Run
from vitreous.storage.atomic import remove_folder
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import MEASURED
from vitreous.training.state import Job
from vitreous.weights.model_folder import ModelFolder, load_model, save_model


def export_evaluated(job: Job, run: Run) -> None:
    """Update a run's model folders to this step's evaluation: `model/`, as the setting `export` says; `best/`, if the
    best is another one.

    Repeating it changes nothing.

    Raises:
        StorageError: the disk is full or gone; the existing folders stay whole.
    """
    step, best = job.progress.step, job.progress.best
    is_best, last = best is not None and best["step"] == step, job.config.export == "last"
    model = job.gather_model() if last or is_best else None
    if not run.leads:
        return
    # The origin alone states the step: weights are read only if they are to be kept, not at every evaluation.
    if last and not is_best and best is not None and read_step(run.model_path) == best["step"]:
        folder = load_exported(run, measured=True)
        if folder is not None:
            save_model(run.best_path, folder)
    if model is not None:
        export_model(job, run, model)
        if path_exists(run.path / MEASURED):
            remove_folder(run.path / MEASURED)
    if is_best and path_exists(run.best_path):
        remove_folder(run.best_path)


def catch_up_export(job: Job, run: Run) -> None:
    """Write the model folders if the run died between the checkpoint of an evaluation and the export.

    A model from a later step than the checkpoint means that checkpoints are missing, which is reported.
    """
    if job.world.share(run.leads and lacks_export(job, run)):
        export_evaluated(job, run)


def lacks_export(job: Job, run: Run) -> bool:
    """Return whether the model folders are older than the evaluation of the job's step."""
    progress = job.progress
    if progress.best is None:
        return False
    best = int(progress.best["step"])
    wanted = best if job.config.export == "best" else progress.evaluated
    superseded = wanted == best and path_exists(run.best_path)
    return progress.step == wanted and (superseded or read_exported_step(run) != wanted)


def read_exported_step(run: Run) -> int | None:
    """Return the step of the weights in the run's model folder, if it can be opened."""
    folder = load_exported(run)
    return None if folder is None else folder.origin.get("step")


def load_exported(run: Run, *, measured: bool = False) -> ModelFolder | None:
    """Return the run's model folder, if it can be opened; optionally as it was measured, before its head was refitted."""
    refitted = measured and read_refit(run.model_path) is not None
    try:
        return load_model(run.path / MEASURED if refitted else run.model_path)
    except VitreousError:
        return None


def export_model(job: Job, run: Run, model: Model) -> None:
    """Write `model/` of the run, atomically, from the current model, whole; raises StorageError."""
    run.check_presence()
    config, progress = job.config, job.progress
    origin = {
        "recipe": config.recipe,
        "data": config.data.path,
        "weights": config.weights,
        **({"teacher": config.teacher} if config.teacher else {}),
        "step": progress.step,
        "epochs": progress.step * config.batch / len(job.stream),
        "averaged": job.average is not None,
        "metrics": progress.best if progress.best and progress.best["step"] == progress.step else None,
    }
    if config.lora:
        model = merge_model(model)
    folder = ModelFolder(
        model,
        config.preprocess,
        config.decode,
        job.classes,
        origin,
        multilabel=job.objective.multilabel,
        temperature=job.temperature,
    )
    save_model(run.model_path, folder)


def merge_model(model: Model) -> Model:
    """Return the plain model equivalent to one with LoRA, with its updates folded in."""
    plain = create_empty(model.config)
    plain.load_state_dict(merge_state(model), assign=True)
    return plain
