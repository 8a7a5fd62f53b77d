"""The last fit of a run: the exported model's head, once it is measured, to the images that measured it too.

    RUN/model/          with that head; its origin counts the images of this fit
    RUN/measured/       the model folder as it was measured

With few images, a head fitted to all of them is better than one fitted to the four fifths that were not held out. Its
l2 is the one that cross-validation chose on the training images, and its temperature that of their out-of-fold predictions.
"""

from copy import deepcopy
from dataclasses import replace

from vitreous.evaluation.probes.logistic import concatenate, fit_at
from vitreous.evaluation.refit import Refit, find_refit
from vitreous.run_folder import Run
from vitreous.storage.run_config import MEASURED
from vitreous.training.head_fit import Interrupted, put_head, read_views
from vitreous.training.interrupt import Interrupt
from vitreous.training.model_export import load_exported
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job
from vitreous.weights.model_folder import save_model


def refit_exported(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt) -> bool:
    """Fit the exported head to all images, unless that is done; return False if interrupted.

    A pure function of the exported model and the configuration, so that it can be repeated after the process dies.

    Raises:
        ImageError: a file that can't be read. StorageError: the disk is full or gone; the model folder stays whole.
    """
    folder, head = load_exported(run), job.progress.head
    if folder is None or head is None or find_refit(folder.origin) is not None:
        return True
    model = deepcopy(folder.model).to(job.device)
    try:
        kept = job.views if folder.origin.get("step") == 0 else None
        train = kept or read_views(job, model, job.stream.source, "training", reporter, interrupt)
        held_out = read_views(job, model, job.validation, "held-out", reporter, interrupt)
    except Interrupted:
        return False
    views = [concatenate(pair) for pair in zip(train, held_out, strict=True)]
    refit = Refit(len(views[0]), len(held_out[0]))
    reporter.phase(f"fitting the head to all {refit.images:,} images")
    put_head(model, *fit_at(views, head["l2"]))
    run.check_presence()
    save_model(run.path / MEASURED, folder)
    refitted = replace(
        folder,
        model=model.cpu(),
        temperature=head.get("temperature", 1.0),
        origin={**folder.origin, **refit.to_origin()},
    )
    save_model(run.model_path, refitted)
    return True
