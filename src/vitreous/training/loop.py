"""The training loop. Read `fit`: it is the whole life of a run."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.data.stream.canvases import CanvasStream, render_batches
from vitreous.data.stream.loader import Batch, Share, load_train_batches
from vitreous.data.stream.order import extend_hash, hash_integers
from vitreous.data.stream.packed_images import PackedStream, cut_images
from vitreous.errors import NonFiniteLoss, WorkerKilled
from vitreous.images.tensors import normalize
from vitreous.metrics.headline import find_headline, select_judged
from vitreous.model.batch_norm import list_statistics
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import get_patch
from vitreous.model.packing import Layout, PackedImages, count_length, count_packed
from vitreous.run_folder import Run
from vitreous.runtime.determinism import compute_deterministically
from vitreous.shapes import Size
from vitreous.training.checkpoint_writer import CheckpointWriter
from vitreous.training.distributed import World, explain_loss
from vitreous.training.divergence import NonFiniteStep, check_weights
from vitreous.training.duration import Duration, Scale
from vitreous.training.head_fit import fit_head
from vitreous.training.interrupt import SIGNALS, Interrupt
from vitreous.training.layer_statistics import observe_layers
from vitreous.training.model_export import export_evaluated
from vitreous.training.non_finite import pass_over, recover
from vitreous.training.parallel import accumulate
from vitreous.training.refit import refit_exported
from vitreous.training.reporter import Reporter
from vitreous.training.rescue import rescue_run
from vitreous.training.sharpness import step_uphill
from vitreous.training.state import Job, autocast_context
from vitreous.training.step_records import StepTime, advance, read_shares
from vitreous.training.validate import validate
from vitreous.training.watch import Watch

DROPOUT, MASKS = 0xD0, 0x3A
"""Purposes of the random draws of a step."""
GROUP = 2.0
"""Seconds that a signal to a whole process group may take to arrive at this process after it has ended a worker."""
PRESENCE = 1.0
"""Seconds between checks that the run folder still exists."""

Stopped = Literal["finished", "early", "interrupted"]
"""finished: all steps were taken. early: evaluations no longer improved."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    stopped: Stopped
    signal: int | None = None
    """Number of the signal that interrupted it."""


def fit(job: Job, run: Run, reporter: Reporter) -> FitResult:
    """Train to the end, or until interrupted; every exit leaves a checkpoint from which a resumed run reaches the same
    bits.

    Raises:
        NonFiniteLoss: the loss or the gradient became NaN or infinite; the checkpoint before it is kept.
        StorageError: a checkpoint or a record could not be written; everything saved before is kept.
        Any other error, such as a killed worker or lack of memory, after saving the last finished step.
    """
    total, scale = job.schedule.total, plan_scale(job)
    checkpoints = Cadence(job.config.checkpoint_every, scale, CheckpointWriter(job.world))
    devices = [job.device] if job.device.type == "cuda" else []
    with Interrupt(alone=not job.world.together) as interrupt, torch.random.fork_rng(devices):
        try:
            with compute_deterministically(job.device, on=job.config.deterministic):
                refitted = train_to_end(job, run, reporter, interrupt, checkpoints)
        except Exception as raised:
            error = explain_loss(raised)
            whole_group = isinstance(error, WorkerKilled) and error.signal in SIGNALS and interrupt.wait(GROUP)
            if not whole_group or job.world.together:
                raise rescue_run(error, job, run)  # noqa: B904 (it knows its cause)
        if interrupt.requested and not job.progress.finished:
            checkpoints.save(job, run)
            checkpoints.writer.settle()
            return FitResult("interrupted", interrupt.requested)
        if not refitted:
            return FitResult("interrupted", interrupt.requested)
    return FitResult("finished" if job.progress.step == total else "early")


def train_to_end(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt, checkpoints: "Cadence") -> bool:
    """Fit the head, take all steps, and fit the exported head again, as far as the run's settings say so; return False
    if the last of these was interrupted."""
    if job.config.head == "logistic" and job.progress.best is None:
        begin_with_head(job, run, reporter, interrupt, checkpoints)
    while not (job.progress.finished or interrupt.requested):
        try:
            with Watch(job.world):
                take_steps(job, run, reporter, interrupt, checkpoints)
        except NonFiniteLoss as failure:
            checkpoints.writer.settle()
            if not recover(job, run, failure, reporter):
                raise
            checkpoints.save(job, run)
    checkpoints.writer.settle()
    return not (job.config.refit and job.progress.finished) or refit_exported(job, run, reporter, interrupt)


def take_steps(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt, checkpoints: "Cadence") -> None:
    """Train, evaluate and save until the run is finished or interrupted; raises NonFiniteLoss, and any other error that
    ends it."""
    progress, total = job.progress, job.schedule.total
    evaluations = max(1, Duration.parse(job.config.evaluate_every).steps(plan_scale(job)))
    batches = load_batches(job, total)
    while not (progress.finished or interrupt.requested):
        if progress.evaluated < progress.step and is_evaluation_due(progress.step, evaluations, total):
            evaluate_and_keep(job, run, reporter, interrupt, checkpoints)
            continue
        if progress.step == total:  # evaluated before the run was shortened to here
            progress.finished = True
            checkpoints.save(job, run)
            break
        run.check_presence(PRESENCE)
        if checkpoints.is_due(progress.step):
            checkpoints.save(job, run)
        job.world.pulse.beat()
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - started
        if pass_over(job):
            continue
        job.world.pulse.beat()
        loss, numbers = train_step(job, batch, Votes(interrupt, checkpoints))
        advance(job, run, loss, numbers, StepTime(time.perf_counter() - started, waited))
        show_progress(job, reporter, float(loss))


def plan_scale(job: Job) -> Scale:
    """Return the facts with which durations are converted."""
    return Scale(len(job.stream), job.config.batch, job.schedule.total)


def begin_with_head(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt, checkpoints: "Cadence") -> None:
    """Fit the head to the frozen features, evaluate, and keep the result, which later steps must exceed to be exported
    as the best."""
    if job.progress.head is None and not fit_head(job, reporter, interrupt):
        return
    if not interrupt.requested:
        evaluate_and_keep(job, run, reporter, interrupt, checkpoints)


def evaluate_and_keep(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt, checkpoints: "Cadence") -> None:
    """Evaluate, then write a checkpoint and the model folders of these weights, unless interrupted."""
    if evaluate(job, run, reporter, interrupt) is not None:
        checkpoints.save(job, run)
        checkpoints.writer.settle()
        export_evaluated(job, run)


def is_evaluation_due(step: int, every: int, total: int) -> bool:
    """Return whether to evaluate after this step: at each interval, except less than half an interval before the end,
    and at the end."""
    return step == total or (step % every == 0 and 2 * (total - step) >= every)


def load_batches(job: Job, total: int) -> Iterator[Batch]:
    """Yield the batches from the job's step to the end of the run."""
    world, batch, workers = job.world, job.config.batch, job.config.workers
    augment, preprocess = job.config.augment, job.config.preprocess
    stream = CanvasStream(**vars(job.stream)) if augment.on == "device" else job.stream
    if job.config.packed:
        patch = Size(*get_patch(job.config.model))
        stream = PackedStream(**vars(job.stream), patch=patch, smallest=job.config.packed)
    stream = Share(stream, batch, world.rank, world.size, world.local_size) if world.together else stream
    own = world.divide(batch)
    batches = load_train_batches(stream, job.progress.step * own, own, total * own, workers, job.device)
    return iter(batches if augment.on == "cpu" else render_batches(batches, augment, preprocess, job.device))


def train_step(job: Job, batch: Batch, votes: "Votes | None" = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Take one optimizer step; return the mean loss and, as scalar tensors, the objective's totals and the gradient's
    norm before clipping.

    With several processes, each contributes its share of the batch, the results are those of the whole batch, and
    `votes` are counted.
    """
    config, step = job.config, job.progress.step
    job.objective.train()
    job.model.set_resolution(job.resolution(step))
    statistics = list_statistics(job.objective)
    before = [values.clone() for values in statistics]
    losses, counted = differentiate(job, batch)
    if config.optimizer.sam:
        with step_uphill(job):
            differentiate(job, batch)
    with observe_layers(job):
        loss, norm = torch.stack(losses).sum(), job.optimizer.clip()
        totals = {name: torch.stack([numbers[name] for numbers in counted]).sum() for name in counted[0]}
        if job.world.together:
            loss, totals = add_up(job.world, loss, totals, votes)
        if not torch.isfinite(loss + norm):
            for values, kept in zip(statistics, before, strict=True):
                values.copy_(kept)
            raise NonFiniteStep(float(loss), float(norm), step)
        job.whole = False
        job.optimizer.step(job.schedule.share(step))
    if job.average is not None:
        job.average.update_parameters(job.model)
    return loss, {**totals, "gradient_norm": norm}


def differentiate(job: Job, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Add up the gradients of a step's loss, part by part; return each part's share of the loss, and its totals."""
    config, resolution, size = job.config, job.resolution(job.progress.step), len(batch.labels)
    objective = next(one for one in (job.runner, job.compiled, job.objective) if one is not None)
    losses: list[Tensor] = []
    counted: list[dict[str, Tensor]] = []
    saved: dict[str, Tensor] = {}
    micro = int(config.micro_batch) or size
    draws = (split.split(micro) for split in draw_step(job, size))
    for last, part, noise, keys in mark_last(zip(batch.split(micro), *draws, strict=True)):
        part = part.to(job.device)
        job.model.set_examples(keys.to(job.device))
        with accumulate(job.runner, last):
            with autocast_context(job):
                images = normalize(part.pixels, config.preprocess)
                if resolution is not None:
                    images = F.interpolate(images, size=tuple(resolution), mode="area")
                if config.packed:
                    images, saved = pack_images(job, images, part)
                loss, numbers = objective(images, *job.objective.inputs(part, noise.to(job.device)))
            loss = loss * (len(part.labels) / size)
            job.world.pulse.beat()
            loss.backward()
        losses.append(loss.detach())
        counted.append(numbers | saved)
    return losses, counted


def pack_images(job: Job, pixels: Tensor, part: Batch) -> tuple[PackedImages, dict[str, Tensor]]:
    """Return a part's images to be packed, and counts of their tokens: in sequences, and if all were padded to the
    largest."""
    model = job.config.model
    assert part.draws is not None and isinstance(model, ViTConfig)
    images = cut_images(pixels, part.draws)
    sizes = [Size(*image.shape[1:]) for image in images]
    layout = Layout(tuple(count_length(model, size) for size in sizes), model.tokens)
    counts = count_packed(model, sizes, layout)
    numbers = {"packed": counts.packed, "padded": counts.padded}
    return PackedImages(images, model.tokens), {name: torch.tensor(float(one)) for name, one in numbers.items()}


def draw_step(job: Job, size: int) -> tuple[Tensor, Tensor]:
    """Return the objective's draws for this process's examples of the step, and the examples' keys for the model's
    draws.

    Both are functions of the seed, the step and each example's place in the whole batch.
    """
    config, step, first = job.config, job.progress.step, job.world.rank * size
    generator = torch.Generator().manual_seed(hash_integers(config.seed, step, MASKS))
    noise = job.objective.noise(first + size, generator)[first:]
    places = np.arange(first, first + size, dtype=np.uint64)
    keys = extend_hash(hash_integers(config.seed, step, DROPOUT), places)
    return noise, torch.from_numpy(keys.astype(np.uint32).view(np.int32))


def mark_last(parts: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield each tuple with a new first item: whether it is the last tuple."""
    *earlier, last = parts
    yield from ((False, *one) for one in earlier)
    yield (True, *last)


def add_up(
    world: World, loss: Tensor, totals: dict[str, Tensor], votes: "Votes | None"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean of the processes' losses and the sums of their totals; also count the votes."""
    ballot = votes.ballot() if votes is not None else []
    values = [loss / world.size, *totals.values(), *torch.tensor(ballot).to(loss.device).unbind()]
    found = world.add_up(torch.stack([value.double() for value in values]))
    if votes is not None:
        votes.adopt(found[-len(ballot) :].tolist())
    return found[0], dict(zip(totals, found[1:], strict=False))


def show_progress(job: Job, reporter: Reporter, loss: float) -> None:
    """Report the run's progress."""
    progress, total = job.progress, job.schedule.total
    rate = progress.step / max(progress.seconds, 1e-9)
    numbers = {
        "loss": loss,
        **read_shares(job),
        **({"processes": job.world.size} if job.world.together else {}),
        "lr": job.optimizer.config.lr * job.schedule.share(max(0, progress.step - 1)),
        "images_per_second": rate * job.config.batch,
        "eta_seconds": (total - progress.step) / rate,
    }
    reporter.progress(progress.step, total, numbers)


def evaluate(job: Job, run: Run, reporter: Reporter, interrupt: Interrupt) -> bool | None:
    """Measure on the validation examples; return whether it is the best so far, or None if interrupted."""
    progress, stop = job.progress, job.config.early_stop
    check_weights(job)
    metrics = validate(job, reporter, interrupt)
    if metrics is None:
        return None
    reached = {"step": progress.step} | select_judged(metrics)
    progress.evaluated = progress.step
    if best := is_better(metrics, progress.best, 0.0):
        progress.best = reached
    progress.stale += 1
    if is_better(metrics, progress.reference, stop.min_delta):
        progress.reference, progress.stale = reached, 0
    out_of_patience = 0 < stop.patience <= progress.stale
    progress.finished = progress.step >= job.schedule.total or out_of_patience
    epoch = progress.step * job.config.batch / len(job.stream)
    run.log({"kind": "evaluation", "step": progress.step, "epoch": epoch, **metrics, "best": best})
    reporter.evaluation(progress.step, metrics, best)
    for one in job.callbacks:
        one.on_evaluation(progress.step, metrics, best)
    return best


def is_better(metrics: dict[str, float], before: dict[str, float] | None, least: float) -> bool:
    """Return whether the headline metric has increased by more than `least`; if `least` is 0, also whether the loss
    decreased at an equal headline. Without labels, whether the loss has decreased by more than `least`."""
    if before is None:
        return True
    name = find_headline(metrics)
    if name is None:
        return before["loss"] - metrics["loss"] > least
    gain = metrics[name] - before[name]
    return gain > least or (gain == least == 0 and metrics["loss"] < before["loss"])


class Cadence:
    """When to write a checkpoint: at an interval of steps, or of minutes by the clock."""

    def __init__(self, every: str, scale: Scale, writer: CheckpointWriter) -> None:
        self.writer = writer
        duration = Duration.parse(every)
        self.seconds = duration.amount * 60 if duration.unit == "min" else math.inf
        self.steps = 0 if duration.unit == "min" else max(1, duration.steps(scale))
        self.saved_at, self.saved_step = time.monotonic(), 0
        self.voted: bool | None = False if writer.world.together else None
        """With several processes: whether a checkpoint was due by the clock of any of them at the end of the last
        step."""

    @property
    def late(self) -> bool:
        """Whether a checkpoint is due by this process's clock."""
        return time.monotonic() - self.saved_at >= self.seconds

    def is_due(self, step: int) -> bool:
        """Return whether this step ends with a checkpoint."""
        by_steps = step > self.saved_step and self.steps > 0 and step % self.steps == 0
        return by_steps or (self.late if self.voted is None else self.voted)

    def save(self, job: Job, run: Run) -> None:
        """Write a checkpoint; raises NonFiniteLoss if weights are infinite or NaN."""
        check_weights(job)
        self.writer.save(job, run)
        self.saved_at, self.saved_step = time.monotonic(), job.progress.step
        self.voted = False if job.world.together else None


@dataclass(frozen=True)
class Votes:
    """The decisions that the processes of a run make together at the end of each step: a request to one process applies
    to all."""

    interrupt: Interrupt
    cadence: Cadence

    def ballot(self) -> list[float]:
        """Return this process's votes, 0 or 1 each."""
        return [*self.interrupt.ballot(), float(self.cadence.late)]

    def adopt(self, sums: list[float]) -> None:
        """Adopt the sums of all ballots."""
        *asked, late = sums
        self.interrupt.adopt(asked)
        self.cadence.voted = late > 0
