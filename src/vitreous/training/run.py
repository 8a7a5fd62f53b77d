"""Start a run, or go on with one: the entry points of this storey."""

import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitreous.checkpoints.folder import load_model
from vitreous.checkpoints.origin import versions
from vitreous.data.places import located, places
from vitreous.data.sources import Dataset
from vitreous.errors import RunError, VitreousError
from vitreous.model import count
from vitreous.runs import Run, read_run
from vitreous.settings import from_dict, to_dict
from vitreous.training.config import RunConfig
from vitreous.training.export import export
from vitreous.training.job import Job
from vitreous.training.loop import Outcome, fit, load, train_step
from vitreous.training.prepare import build, open_data
from vitreous.training.ranges import check_ranges
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.resolve import resolve
from vitreous.training.rules import RULES, check_rules


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    run: Path
    """The run folder."""
    model: Path | None
    """The model folder inside it, if an evaluation was reached."""
    report: Path | None
    """The report inside it, if the run came to its end."""
    metrics: dict[str, float]
    """The validation numbers of the exported weights: step, loss, top1 (or map), ..."""
    outcome: Outcome
    """Finished, stopped early, or interrupted."""


@dataclass(frozen=True)
class DryRun:
    """What a run would be."""

    config: RunConfig
    parameters: int
    flops: int
    """Of one image's forward pass."""
    memory: int
    """Estimated peak of training, in bytes: weights, gradients, optimizer state and activations."""
    steps: int
    loss: float
    """Of one real batch."""
    seconds: float
    """That one step took."""


def train(config: RunConfig, out: Path, reporter: Reporter | None = None) -> Result:
    """Train as `config` says, into the new run folder `out`.

    Raises:
        UserError: the settings, the data or the folder can't be used; nothing was written.
        FailedError: the run broke off; its folder keeps the last good checkpoint.
    """
    reporter = reporter or Silent()
    check_ranges(config)
    dataset = open_data(config, reporter)
    config = resolve(config, dataset, reporter)
    job = build(config, dataset, reporter)
    with Run.create(out, describe(job, dataset, out), config.keep_checkpoints) as run:
        return carry_out(job, run, reporter)


def resume(path: Path, reporter: Reporter | None = None) -> Result:
    """Go on with the run in the folder `path` from its newest good checkpoint, to the same bits.

    Raises:
        RunError: no run there, of another version, begun under rules that have changed, or its data has changed since.
        RunLocked: another process is writing to it.
        CheckpointError: no checkpoint can be read.
    """
    reporter = reporter or Silent()
    with Run.open(path) as run:
        config = from_dict(RunConfig, run.config["config"])
        run.keep = config.keep_checkpoints
        torch.set_num_threads(run.config["environment"]["threads"])
        here = at_their_places(config, run)
        dataset = open_data(here, reporter)
        same_data(run, dataset)
        checkpoint = run.latest_checkpoint()
        if checkpoint is None or not checkpoint.state["finished"]:
            check_rules(run.config, str(path))
        # A checkpoint holds all weights, so those that the run began with may be gone.
        job = build(here if checkpoint is None else replace(here, weights=None), dataset, reporter)
        job.config = config
        for notice in run.notices:
            reporter.message(notice)
        if checkpoint is None:
            reporter.message("no checkpoint yet: starting from the beginning")
            run.cut_metrics(0)
        else:
            job.restore(checkpoint.tensors, checkpoint.state)
            run.cut_metrics(checkpoint.step)
            reporter.message(f"resuming at step {checkpoint.step:,} of {job.schedule.total:,}")
            catch_up_export(job, run)
        return carry_out(job, run, reporter)


def at_their_places(config: RunConfig, run: Run) -> RunConfig:
    """Return the configuration with the paths of data and weights as they are now, from whatever folder it is run."""
    known = run.config.get("places")
    data, weights = config.data, config.weights
    validation = data.validation and located(data.validation, known, run.path)
    return replace(
        config,
        data=replace(data, path=located(data.path, known, run.path), validation=validation),
        weights=weights and located(weights, known, run.path),
    )


def dry_run(config: RunConfig, reporter: Reporter | None = None) -> DryRun:
    """Do everything that `train` does up to the first step, on one batch, and write nothing."""
    reporter = reporter or Silent()
    check_ranges(config)
    dataset = open_data(config, reporter)
    config = resolve(config, dataset, reporter)
    job = build(config, dataset, reporter)
    reporter.phase("running one batch")
    job.config = replace(config, workers=0)
    batch = next(load(job, 1))
    started = time.perf_counter()
    loss, _ = train_step(job, batch)
    seconds = time.perf_counter() - started
    parameters = count.parameters(config.model)
    activations = count.activation_bytes(config.model, int(config.micro_batch) or config.batch, training=True)
    return DryRun(
        config=config,
        parameters=parameters,
        flops=count.flops(config.model),
        memory=parameters * (16 + 4 * bool(config.ema)) + activations,
        steps=job.schedule.total,
        loss=float(loss),
        seconds=seconds,
    )


def carry_out(job: Job, run: Run, reporter: Reporter) -> Result:
    """Fit, then write the report."""
    outcome = fit(job, run, reporter)
    report = None
    if outcome.stopped != "interrupted":
        reporter.phase("writing the report")
        report = write_report(run, reporter)
    reporter.close()
    return Result(run.path, run.model_path if run.model_path.exists() else None, report, final_metrics(run), outcome)


def write_report(run: Run, reporter: Reporter) -> Path | None:
    """Write report.html; the run's results don't depend on it, so a failure is told and nothing is lost."""
    from vitreous.evaluate.report import write_report as write

    try:
        return write(run.path)
    except VitreousError as error:
        reporter.message(f"the report could not be written: {error}")
        return None


def describe(job: Job, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Return what config.json of the run folder `out` holds beside that folder's own version."""
    config = job.config
    return {
        "config": to_dict(config),
        "rules": RULES,
        "places": places((config.data.path, config.data.validation, config.weights), out),
        "data": {
            "classes": list(dataset.facts.classes),
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "fingerprint": fingerprint(dataset),
        },
        "steps": job.schedule.total,
        "parameters": count.parameters(job.config.model),
        "environment": {
            "machine": f"{platform.machine()} {platform.system()}",
            "device": str(job.device),
            "threads": torch.get_num_threads(),
            **versions(),
        },
    }


def fingerprint(dataset: Dataset) -> str:
    """Identify the examples of both parts."""
    return f"{dataset.train.fingerprint}:{dataset.validation.fingerprint}"


def same_data(run: Run, dataset: Dataset) -> None:
    """Refuse to go on with other data than the run began with; raises RunError."""
    before = run.config["data"]
    if before["fingerprint"] != fingerprint(dataset):
        raise RunError(
            f"the data has changed since this run began: {before['train']:,} + {before['validation']:,} images then, "
            f"{len(dataset.train):,} + {len(dataset.validation):,} now (or others by name, label or content). "
            "Restore it, or start a new run with --weights"
        )


def catch_up_export(job: Job, run: Run) -> None:
    """Write the model folder if the run died between the checkpoint of an evaluation and the export."""
    progress = job.progress
    wanted = progress.evaluated
    if job.config.export == "best":
        wanted = int(progress.best["step"]) if progress.best else 0
    if progress.step == wanted > 0 and exported_step(run) != wanted:
        export(job, run)


def exported_step(run: Run) -> int | None:
    """Return the step of the weights in the run's model folder, if it opens."""
    try:
        return load_model(run.model_path).origin.get("step")
    except VitreousError:
        return None


def final_metrics(run: Run) -> dict[str, float]:
    """Return the newest evaluation of the weights that were exported."""
    step = exported_step(run)
    records = [record for record in read_run(run.path).metrics if record["kind"] == "evaluation"]
    found = next((record for record in reversed(records) if record["step"] == step), {})
    return {name: value for name, value in found.items() if name not in ("kind", "best")}
