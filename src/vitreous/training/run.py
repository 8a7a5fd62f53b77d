"""Start or resume a run: the entry points of this storey."""

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, OpenedData
from vitreous.data.folds import is_learned
from vitreous.errors import ConfigError, RunError, VitreousError
from vitreous.evaluation.final_test import read_measurements
from vitreous.evaluation.handover import describe_handover, read_step
from vitreous.model import count
from vitreous.model.batch_norm import list_statistics
from vitreous.run_folder import Checkpoint, Run, RunRecord, read_run
from vitreous.runtime.determinism import prepare_determinism
from vitreous.runtime.device import choose_device, computes_bf16
from vitreous.settings import from_dict, hash_document, to_dict
from vitreous.storage.relocation import note_places
from vitreous.storage.run_config import CONFIG
from vitreous.storage.versions import read_versions
from vitreous.training.assembly import build_job, count_low_steps, open_data
from vitreous.training.baseline_records import note_baselines, read_baselines
from vitreous.training.callbacks import attend
from vitreous.training.changes import (
    AS_BEFORE,
    ROUNDING,
    Changes,
    apply_changes,
    find_differences,
    format_differences,
    format_options,
)
from vitreous.training.config import RunConfig
from vitreous.training.cost import check_memory
from vitreous.training.distributed import World, join
from vitreous.training.follower import create_run, open_checkpoint, open_run
from vitreous.training.loop import fit
from vitreous.training.model_export import catch_up_export, read_exported_step
from vitreous.training.optimizer_trial import try_optimizer
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.resolve import check_kind, check_settings, resolve
from vitreous.training.results import TrainResult
from vitreous.training.rules import RULES, check_rules
from vitreous.training.run_inputs import (
    check_same_data,
    hash_dataset,
    hash_samples,
    locate_paths,
    open_known_teacher,
    open_located,
)
from vitreous.training.settings_check import check_ranges, check_teacher, takes_no_steps
from vitreous.training.state import Job
from vitreous.training.teacher import open_teacher
from vitreous.training.test_measurement import measure_test
from vitreous.training.trackers import list_trackers


def train(
    config: RunConfig, out: Path, reporter: Reporter | None = None, opened: OpenedData | None = None
) -> TrainResult:
    """Train according to `config`, into the new run folder `out`. `opened`: its data, if it is open already.

    Raises:
        UserError: the settings, the data or the folder can't be used; nothing was written.
        FailedError: the run broke off; its folder keeps the last good checkpoint.
    """
    with join() as world:
        reporter = world.hush(reporter or Silent())
        check_ranges(config)
        if config.deterministic:
            prepare_determinism()
        try_optimizer(config.optimizer, config.shard != "none")
        check_teacher(config)
        check_divisible(config, world)
        with world.take_turns():
            dataset = open_data(config, reporter, opened)
        check_processes(config, dataset, world)
        teacher = open_teacher(config, dataset, reporter, world)
        config = resolve(config, dataset, reporter, world, teacher)
        if not takes_no_steps(config):
            check_memory(config, world)
        job = build_job(config, dataset, reporter, world, teacher)
        with create_run(out, describe_run(job, dataset, out), config.keep_checkpoints, world) as run:
            return carry_out_run(job, run, reporter)


def resume(path: Path, reporter: Reporter | None = None, changes: Changes = AS_BEFORE) -> TrainResult:
    """Resume the run in the folder `path` from its newest good checkpoint, to the same bits.

    Changes are recorded in config.json, with the step from which they hold, before the first step is taken.

    Raises:
        RunError: no run there, of another version, begun under rules that have changed, its data has changed since, or
            its config.json was edited and that isn't accepted.
        RunLocked: another process is writing to it.
        CheckpointError: no checkpoint can be read.
        ConfigError: an impossible change.
    """
    with join() as world, open_run(path, world) as run:
        reporter = world.hush(reporter or Silent())
        before = from_dict(RunConfig, run.config["config"])
        checkpoint = open_checkpoint(run, world)
        state = checkpoint.state if checkpoint else {}
        step = checkpoint.step if checkpoint else 0
        edits = find_edits(run, checkpoint, changes)
        config = apply_changes(before, changes, step, state.get("seconds", 0.0))
        found = edits | find_differences(before, config)
        relaid = is_relaid(run, checkpoint, config) or "duration" in found
        if changes:
            check_changed(config, found, run.path)
        if config.deterministic:
            prepare_determinism()
        try_optimizer(config.optimizer, config.shard != "none")
        run.keep = config.keep_checkpoints
        check_divisible(config, world)
        set_threads(run.config["environment"], changes, world)
        here = locate_paths(config, run, changes)
        with world.take_turns():
            dataset = open_located(here, run.path, reporter)
        check_same_data(run, dataset)
        if edits:
            check_settings(config, dataset)
        check_processes(config, dataset, world)
        if not state.get("finished") or relaid:
            check_rules(run.config, str(path))
        # A checkpoint holds all weights, so those that the run began with may be gone.
        if state.get("finished") and not relaid:
            here = replace(here, teacher=None)  # nothing is learned any more
        teacher = open_known_teacher(here, run, dataset, reporter, world)
        begun = here if checkpoint is None else replace(here, weights=None)
        job = build_job(begun, dataset, reporter, world, teacher)
        job.config = config
        if checkpoint is not None:
            job.restore(checkpoint.tensors, checkpoint.state)
        if relaid:
            run.notices.append(extend_run(job, run.config["steps"]))
        run.cut_metrics(step)
        note_changes(run, job, dataset, changes, found)
        note_missing(run, step)
        for notice in run.notices:
            reporter.message(notice)
        if checkpoint is None:
            reporter.message("no checkpoint yet: starting from the beginning")
        else:
            reporter.message(f"resuming at step {step:,} of {job.schedule.total:,}")
            catch_up_export(job, run)
        return carry_out_run(job, run, reporter)


def set_threads(environment: dict[str, Any], changes: Changes, world: World) -> None:
    """Compute with the run's number of threads so far, unless it, or the number of processes, changes."""
    if changes.threads or environment.get("processes", 1) == world.size:
        torch.set_num_threads(changes.threads or environment["threads"])


def check_divisible(config: RunConfig, world: World) -> None:
    """Refuse settings that several processes can't share; raises ConfigError."""
    world.divide(config.batch)
    if world.together and config.head == "logistic":
        raise ConfigError(
            "a head by logistic regression is fitted in one process; leave out the others, or use --head new (recipe finetune)"
        )


def check_processes(config: RunConfig, dataset: Dataset, world: World) -> None:
    """Refuse processes with other versions, data or settings than the first; raises RunError."""
    versions = read_versions()
    facts = {f"the version of {name}": versions[name] for name in ("vitreous", "torch")}
    settings = hash_document(to_dict(replace(config, data=DataConfig())))
    world.check_same({**facts, "the data": hash_dataset(dataset), "the configuration": settings})


def find_edits(run: Run, checkpoint: Checkpoint | None, changes: Changes) -> dict[str, list[Any]]:
    """Return the settings of config.json that were changed by hand, by name; raises RunError unless that is
    accepted."""
    if run.sealed is None:
        run.notices.append("config.json is of a version that recorded no hash of it: earlier edits can't be detected")
    if run.sealed is not False:
        return {}
    told = checkpoint.config if checkpoint else None
    found = find_differences(told, run.config["config"]) if told is not None else {}
    if not changes.accept_changes:
        raise RunError(
            f"{run.path / CONFIG} was changed by hand since the run wrote "
            f"it{f': {format_differences(found)}' if found else ''}. Put it back as it was; or, to resume with "
            "the changes from here, add --accept-changes, which is recorded in it. Without editing, "
            f"{format_options()} may change"
        )
    return found or {CONFIG: [None, "edited"]}


def check_changed(config: RunConfig, found: Mapping[str, Any], run: Path) -> None:
    """Refuse changes that a new run couldn't begin with; raises ConfigError. `found`: the settings that differ."""
    check_ranges(config)
    if {"micro_batch", "shard"} & found.keys():
        check_kind(config)
    if config.precision == "bf16" and not computes_bf16(choose_device(config.device)):
        raise ConfigError(
            f"{run} computes in bf16, for which this processor has no instructions; resume it where it ran before, or begin a "
            f"new run from its weights with --weights {run} --precision fp32"
        )


def is_relaid(run: Run, checkpoint: Checkpoint | None, config: RunConfig) -> bool:
    """Return whether a run was killed right after its length had changed, before a checkpoint recorded that."""
    if checkpoint is None:
        return False
    if checkpoint.config is not None:
        return "duration" in find_differences(checkpoint.config, config)
    noted = run.config.get("changes", [])
    return any(one["step"] == checkpoint.step and "duration" in one["settings"] for one in noted)


def extend_run(job: Job, before: int) -> str:
    """Extend or shorten a run, even a finished one, and say what that means; raises ConfigError."""
    progress, total = job.progress, job.schedule.total
    if total < progress.step:
        raise ConfigError(
            f"--duration {job.config.duration} is {total:,} steps, and {progress.step:,} are done; the length is that of the "
            "whole run"
        )
    if progress.finished and progress.step < total:
        progress.finished, progress.stale = False, 0
    if total == before:
        return f"the run is {total:,} steps long"
    rate = job.optimizer.config.lr * job.schedule.share(min(progress.step, total - 1))
    left = count_low_steps(job.config, len(job.stream), before) <= progress.step < job.low_steps
    again = f", and the resolution is low again until step {job.low_steps:,}" if left else ""
    return (
        f"the run is {total:,} steps long now, {before:,} before; the schedule is laid out over the new length from step "
        f"{progress.step:,} on, where the learning rate is {rate:.3g}{again}. These are not the bits of a run that began with it"
    )


def note_changes(run: Run, job: Job, dataset: Dataset, changes: Changes, found: dict[str, list[Any]]) -> None:
    """Write the settings from this step on into config.json, beside the previous ones; raises StorageError.

    `found`: settings by name, old and new. A config.json of an earlier version gains the hashes that it lacks.
    """
    by_hand, known = run.sealed is False, dict(run.config.get("places") or {})
    document = {**run.config, "config": to_dict(job.config), "steps": job.schedule.total}
    environment, size = run.config["environment"], job.world.size
    here = {} if job.progress.finished else describe_place(job)
    found = find_moves(environment, here) | found
    if changes.threads and changes.threads != environment["threads"]:
        found["threads"] = [environment["threads"], changes.threads]
    if size != environment.get("processes", 1):
        found["processes"] = [environment.get("processes", 1), size]
    former = {"data": job.config.data.path, "validation": job.config.data.validation, "teacher": job.config.teacher}
    for name, before in former.items():
        if (path := getattr(changes, name)) is not None:
            moved = note_places((path,), run.path).get(path)
            if before and moved and known.get(before) != moved:
                found[f"{name} is at"] = [known.get(before, {}).get("absolute"), moved["absolute"]]
                known[before] = moved
    if not found and run.sealed:
        return
    document |= {
        "places": known,
        "data": {"sample": hash_samples(dataset, job.config.seed), **run.config["data"]},
        "environment": {
            **environment,
            **here,
            "threads": torch.get_num_threads(),
            **({"processes": size} if size > 1 or "processes" in environment else {}),
        },
    }
    if found:
        one = {"step": job.progress.step, "by_hand": by_hand, "settings": found}
        document["changes"] = [*run.config.get("changes", []), one]
        if set(ROUNDING) & found.keys():
            run.notices.append(explain_rounding(job, environment.get("processes", 1), found))
    run.rewrite(document)


def note_missing(run: Run, step: int) -> None:
    """Note that a checkpoint is missing, if the exported model is of a later step than the newest one."""
    if (later := read_exported_step(run) or 0) > step:
        run.notices.append(
            f"the model folder is from step {later:,}, later than the newest whole checkpoint (step {step:,}): one is missing"
        )


def explain_rounding(job: Job, processes: int, found: dict[str, list[Any]]) -> str:
    """Say which changes affect the bits from here on, and whether by more than rounding. `processes`: those before."""
    config, rounding = job.config, {name: found[name] for name in ROUNDING if name in found}
    before = count_normalised(config.batch, found.get("micro_batch", [config.micro_batch])[0], processes)
    now = count_normalised(config.batch, config.micro_batch, job.world.size)
    more = f"; batch norm normalises {now:,} examples at a time, {before:,} before, which changes more than rounding"
    return (
        f"from step {job.progress.step:,} on sums may round differently: {format_differences(rounding, len(rounding))}"
        f"{more if now != before and list_statistics(job.model) else ''}"
    )


def count_normalised(batch: int, micro: int | str, processes: int) -> int:
    """Return how many examples batch norm normalises together: a part of the batch in each of some processes."""
    own = batch // processes
    return processes * min(own, int(micro) or own)


def carry_out_run(job: Job, run: Run, reporter: Reporter) -> TrainResult:
    """Fit, then write the report."""
    if job.world.together:
        reporter.message(
            f"{job.world.size} processes, each with {job.world.divide(job.config.batch):,} examples of every batch"
        )
    with attend(run, job.config, job.progress.step, list_trackers(job.config, reporter)) as audience:
        job.callbacks = audience.members
        fitted = fit(job, run, reporter)
        audience.stopped = fitted.stopped
    if not run.leads:
        return TrainResult(run.path, None, None, {}, fitted.stopped, fitted.signal)
    run.check_presence()
    report = None
    if fitted.stopped != "interrupted":
        note_baselines(job, run, reporter)
        measure_test(job, run, reporter)
        reporter.phase("writing the report")
        report = write_report(run, reporter)
    reporter.close()
    model = run.model_path if run.model_path.exists() else None
    record, baselines = read_run(run.path), read_baselines(run.path)
    metrics, handover = read_final_metrics(record), describe_handover(record)
    test = next(iter(read_measurements(run.path)[-1:]), None)
    return TrainResult(run.path, model, report, metrics, fitted.stopped, fitted.signal, baselines, handover, test)


def write_report(run: Run, reporter: Reporter) -> Path | None:
    """Write report.html; the run's results don't depend on it, so a failure is reported and loses nothing."""
    from vitreous.reports.run.page import write_report as write

    try:
        return write(run.path)
    except VitreousError as error:
        reporter.message(f"the report could not be written: {error}")
        return None


def describe_run(job: Job, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Return the contents of config.json of the run folder `out`, except for that folder's own version."""
    config = job.config
    return {
        "config": to_dict(config),
        "rules": RULES,
        "places": note_places((*config.data.paths, config.weights, config.teacher), out),
        **({"teacher": {"sha256": job.teacher.sha256}} if job.teacher is not None else {}),
        "data": {
            "classes": list(dataset.facts.classes),
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            **({"validation_learned": True} if is_learned(config.data, dataset.train, dataset.validation) else {}),
            "fingerprint": hash_dataset(dataset),
            **({"test": len(dataset.test)} if dataset.test else {}),
            **({"pseudo_labelled": len(dataset.pseudo.others)} if dataset.pseudo else {}),
            "sample": hash_samples(dataset, config.seed),
        },
        "steps": job.schedule.total,
        "parameters": count.count_parameters(job.config.model),
        "environment": {
            **describe_place(job),
            "threads": torch.get_num_threads(),
            **({"processes": job.world.size} if job.world.together else {}),
            **read_versions(),
        },
    }


def find_moves(environment: Mapping[str, Any], here: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return what computes now and what did before, where they differ; a number of a device is no difference."""
    before = {name: environment[name] for name in here if name in environment}
    return {name: [one, here[name]] for name, one in before.items() if one.split(":")[0] != here[name].split(":")[0]}


def describe_place(job: Job) -> dict[str, str]:
    """Return what computes: machine, device and the version of torch."""
    machine = f"{platform.machine()} {platform.system()}"
    return {"machine": machine, "device": str(job.device), "torch": read_versions()["torch"]}


def read_final_metrics(record: RunRecord) -> dict[str, float]:
    """Return the newest evaluation of the exported weights."""
    found = record.evaluation_at(read_step(record.model)) or {}
    return {name: value for name, value in found.items() if name not in ("kind", "best")}
