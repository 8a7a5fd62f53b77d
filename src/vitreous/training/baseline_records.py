"""Results without a network, with which a run's results are compared: measured at its end, and kept in its records."""

from dataclasses import asdict
from pathlib import Path

from vitreous.data.sources.pseudo_labels import PseudoLabelled
from vitreous.errors import VitreousError
from vitreous.evaluation.baselines import Baselines, measure_baselines
from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import Run, read_run
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job

LEAST_SIDE = 16
"""Longest side, in pixels, of images for which the baseline from colours means nothing."""


def note_baselines(job: Job, run: Run, reporter: Reporter) -> None:
    """Measure the baselines, and record them with the run; a failure is reported and loses nothing.

    Only if images have one label each, have colours, and are larger than a few pixels.
    """
    config = job.config
    labelled = isinstance(config.objective, ClassifyConfig) and not job.objective.multilabel
    if not labelled or config.preprocess.mode != "RGB" or max(config.preprocess.size) <= LEAST_SIDE:
        return
    reporter.phase("fitting the baselines")
    try:
        source = job.stream.source
        labelled_images = source.labelled if isinstance(source, PseudoLabelled) else source
        found = measure_baselines(labelled_images, job.validation, config.decode)
    except VitreousError as error:
        reporter.message(f"the baselines could not be measured: {error}")
        return
    run.log({"kind": "baselines", **asdict(found)})


def read_baselines(run: Path) -> Baselines | None:
    """Return the recorded baselines, if they were measured."""
    found = [record for record in read_run(run).metrics if record["kind"] == "baselines"]
    return (
        Baselines(**{name: found[-1][name] for name in ("majority", "histogram", "train", "validation")})
        if found
        else None
    )
