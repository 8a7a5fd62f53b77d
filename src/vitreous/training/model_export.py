"""Write the model folder of a run: the weights that were evaluated, with all that they need to be used."""

from typing import cast

from vitreous.model.factory import Model
from vitreous.model.lora import merge_state
from vitreous.model.vit import ViT
from vitreous.run_folder import Run
from vitreous.training.state import Job
from vitreous.weights.model_folder import ModelFolder, save_model


def export_model(job: Job, run: Run) -> None:
    """Write `model/` of the run, atomically, from the model as it stands; raises StorageError."""
    run.still_there()
    config, progress = job.config, job.progress
    origin = {
        "recipe": config.recipe,
        "data": config.data.path,
        "weights": config.weights,
        "step": progress.step,
        "epochs": progress.step * config.batch / len(job.stream),
        "averaged": job.average is not None,
        "metrics": progress.best if progress.best and progress.best["step"] == progress.step else None,
    }
    model = cast("Model", job.evaluated_model)
    if config.lora and isinstance(model, ViT):
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


def merge_model(model: ViT) -> ViT:
    """Return the plain model that one with LoRA is, its updates folded in."""
    plain = ViT(model.config)
    plain.load_state_dict(merge_state(model))
    return plain
