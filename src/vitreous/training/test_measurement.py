"""The last step of a run: measure its exported model once on the test split."""

from vitreous.errors import VitreousError
from vitreous.evaluation.final_test import measure_once
from vitreous.run_folder import Run
from vitreous.storage.presence import path_exists
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job


def measure_test(job: Job, run: Run, reporter: Reporter) -> None:
    """Measure the exported model on the test split, if there is one; a failure is reported and loses nothing."""
    if job.test is None or not path_exists(run.model_path):
        return
    reporter.phase(f"measuring once on {len(job.test):,} test images")
    try:
        measure_once(run.path, job.test, str(job.device), job.config.workers)
    except VitreousError as error:
        reporter.message(f"the test split could not be measured: {error}")
