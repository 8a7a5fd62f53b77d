"""Carry out a sweep: the runs that aren't done, one after another or several at once. Killed at any instant, it goes on."""

import signal
import time
from pathlib import Path

from vitreous.errors import NonFiniteLoss, Signalled
from vitreous.evaluation.final_test import read_measurements
from vitreous.metrics.headline import format_reached
from vitreous.run_folder import read_run
from vitreous.storage.lock import LOCK, FolderLock, is_held, is_locked
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import is_run
from vitreous.sweeps.plan import LOGS, PLAN, Figures, SweepCell, SweepPlan
from vitreous.sweeps.processes import Job, Sharing, count_gpus, stop, wait_for_one
from vitreous.training.distributed import get_world
from vitreous.training.reporter import Reporter
from vitreous.training.run import read_final_metrics
from vitreous.training.run_group import begin_or_resume, claim_group

PATIENCE = 1.0
"""Seconds between two looks at a run that a process of a killed sweep still computes."""


def carry_out_sweep(plan: SweepPlan, sharing: Sharing, reporter: Reporter) -> int | None:
    """Carry out the runs that aren't done; return the number of the signal that interrupted them, if any.

    Raises:
        RunLocked: another process goes on with this sweep. UserError, FailedError: a run failed, other than by divergence,
            which is recorded.
    """
    world = get_world()
    if not world.leads:
        return run_here(plan, reporter)
    plan.write()
    if sharing.here:
        return run_here(plan, reporter)
    return run_jobs(plan, sharing, reporter)


def claim_sweep(folder: Path) -> FolderLock:
    """Make a sweep's folder, or take the one that is there; raises RunError for one with something else in it."""
    if not path_exists(folder / PLAN):
        claim_group(folder, "is not empty, and no sweep; choose another folder with --out")
    return FolderLock(folder)


def run_here(plan: SweepPlan, reporter: Reporter) -> int | None:
    """Compute one run after another in this process, or together with the others that torchrun has started."""
    world = get_world()
    for cell in world.share(plan.pending if world.leads else []):
        if world.leads:
            wait_until_free(plan, cell, reporter)
            reporter.message(announce(plan, cell))
        try:
            result = begin_or_resume(cell.config, plan.find_run(cell), reporter)
        except NonFiniteLoss as error:
            reporter.message(f"{cell.name} diverged: {error}")
            if world.leads:
                plan.record(cell, {})
            continue
        if result.stopped == "interrupted":
            return result.signal or signal.SIGINT
        if world.leads:
            plan.record(cell, read_figures(result.run))
    return None


STOPPED = {signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}
"""Signals by which somebody ends a run; others, such as the kernel's for want of memory, are failures."""


def run_jobs(plan: SweepPlan, sharing: Sharing, reporter: Reporter) -> int | None:
    """Compute several runs at once, each in processes of its own."""
    waiting, running, free, gpus = plan.pending, [], list(range(sharing.jobs)), count_gpus()
    try:
        while waiting or running:
            while waiting and free:
                cell = waiting.pop(0)
                wait_until_free(plan, cell, reporter)
                reporter.message(announce(plan, cell))
                running.append(Job.start(plan, cell, free.pop(0), sharing, gpus))
            reporter.phase(
                f"{len(running)} runs, {len(plan.results)} of {len(plan.cells)} done (logs in {plan.folder / LOGS})"
            )
            job = wait_for_one(running)
            running.remove(job)
            free.append(job.slot)
            code = job.process.returncode
            if job.ended_by in STOPPED:
                return job.ended_by
            if code and not has_diverged(plan.find_run(job.cell)):
                raise job.explain()
            figures = {} if code else read_figures(plan.find_run(job.cell))
            plan.record(job.cell, figures)
            said = format_reached(figures) if figures else "diverged"
            reporter.message(f"{job.cell.name}: {said}; {len(plan.results)} of {len(plan.cells)} done")
    except KeyboardInterrupt as error:
        return error.number if isinstance(error, Signalled) else signal.SIGINT
    finally:
        stop(running)
    return None


def announce(plan: SweepPlan, cell: SweepCell) -> str:
    """Return what is said when a run begins."""
    place = [one.name for one in plan.cells].index(cell.name) + 1
    return f"run {place} of {len(plan.cells)}: {cell.name}"


def wait_until_free(plan: SweepPlan, cell: SweepCell, reporter: Reporter) -> None:
    """Wait for a run that a process of a killed sweep still computes, or will once it has read the data: it may go on to its end."""
    run, told = plan.find_run(cell), False
    while is_locked(plan.find_log(cell)) or (path_exists(run / LOCK) and is_held((run / LOCK).read_bytes())):
        if not told:
            reporter.message(f"{run} is still computed by a process of before; waiting for it")
        told = True
        time.sleep(PATIENCE)


def read_figures(run: Path) -> Figures:
    """Return the figures of a run that is done: those of its exported weights, and of its test split."""
    tests, found = read_measurements(run), read_final_metrics(read_run(run))
    found.pop("seconds", None)
    return {**found, **({"test": tests[-1].figures.metrics} if tests else {})}


def has_diverged(run: Path) -> bool:
    """Return whether a run has ended by a loss that isn't finite."""
    if not is_run(run):
        return False
    ended = [one for one in read_run(run).metrics if one.get("kind") == "stopped"]
    return bool(ended) and ended[-1].get("why") == "diverged"
