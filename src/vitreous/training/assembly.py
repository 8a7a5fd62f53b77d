"""From a RunConfig to a Job: data opened, durations converted, model, objective and optimizer built."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitreous.data.dataset import Dataset, OpenedData, open_dataset
from vitreous.data.sources.objects import hold, is_object
from vitreous.data.stream.loader import TrainStream
from vitreous.data.stream.order import hash_integers
from vitreous.model.kinds import get_patch
from vitreous.objectives.build import build_objective as build_objective
from vitreous.objectives.classification import choose_head_bias
from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import is_run, read_run
from vitreous.runtime.device import choose_device, tune_cpu
from vitreous.settings import from_dict
from vitreous.shapes import Size
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE, World
from vitreous.training.duration import Duration, Scale
from vitreous.training.initial_weights import create_initial_model, scale_rates
from vitreous.training.optimizer import Optimizer, build_average
from vitreous.training.parallel import compile_blocks, parallelise
from vitreous.training.reporter import Reporter
from vitreous.training.schedule import Schedule
from vitreous.training.state import Job
from vitreous.training.teacher import Teacher, open_teacher

EXTRAS = 0xE7
"""Purpose of the draws that initialise modules which are trained alongside the model."""


def open_data(config: RunConfig, reporter: Reporter, opened: OpenedData | None = None) -> Dataset:
    """Open and verify the data set, reporting the scan's progress and anything unusual about the data.

    `opened`: data that is already open, which is used if it is the same.
    """
    if opened is not None and opened.serves(config.data, config.decode):
        dataset = opened.dataset
    else:
        reporter.phase(f"scanning {config.data.path}")
        dataset = open_dataset(config.data, config.decode, lambda done, total: reporter.progress(done, total, {}))
    for remark in dataset.report.remarks():
        reporter.message(remark)
    return dataset


def build_job(
    config: RunConfig,
    dataset: Dataset,
    reporter: Reporter,
    world: World = ALONE,
    teacher: Teacher | None = None,
) -> Job:
    """Assemble a run. `config` must be resolved (see `resolve`), except for a job that only measures. `teacher`: the
    teacher that the configuration names, if it is open already."""
    if teacher is None:
        teacher = open_teacher(config, dataset, reporter, world)
    device = world.place(choose_device(config.device))
    if device.type == "cpu":
        tune_cpu()
    classes = dataset.facts.classes if isinstance(config.objective, ClassifyConfig) else ()
    facts = dataset.facts
    bias = 0.0
    if isinstance(config.objective, ClassifyConfig):
        bias = choose_head_bias(config.objective, facts.counts, facts.train, facts.multilabel)
    model = create_initial_model(config, classes, reporter, bias).to(device)
    multilabel = facts.train if facts.multilabel else 0
    objective = build_objective(
        config.objective, model, facts.counts, hash_integers(config.seed, EXTRAS), multilabel, teacher
    ).to(device)
    if config.compile and world.together:
        compile_blocks(objective)
    average = build_average(model, config.ema) if config.ema else None
    blueprint = deepcopy(model).cpu() if config.shard != "none" and world.leads else None
    runner = parallelise(objective, average, config, device, world)
    stream = TrainStream(dataset.learned, config.seed, config.augment, config.preprocess, config.decode)
    schedule = plan_schedule(config, len(stream))
    return Job(
        config=config,
        classes=classes,
        objective=objective,
        optimizer=Optimizer(
            objective.trainable,
            config.optimizer.scale_to(config.batch),
            torch.bfloat16 if config.precision == "bf16" else None,
            scale_rates(model, config.optimizer.layer_decay),
        ),
        average=average,
        schedule=schedule,
        stream=stream,
        validation=dataset.validation,
        test=dataset.test if classes else None,
        device=device,
        low_steps=count_low_steps(config, len(stream), schedule.total),
        low_size=choose_low_size(config),
        compiled=torch.compile(objective) if config.compile and not world.together else None,
        world=world,
        runner=runner,
        blueprint=blueprint,
        teacher=teacher,
    )


def plan_schedule(config: RunConfig, examples: int) -> Schedule:
    """Convert the configured durations to steps."""
    scale = Scale(examples, config.batch)
    least = 0 if config.head == "logistic" else 1
    total = max(least, Duration.parse(config.duration).steps(scale))
    return Schedule.plan(config.schedule, replace(scale, total=total))


def count_low_steps(config: RunConfig, examples: int, total: int) -> int:
    """Return how many of a run's first steps use the low resolution. The last step is never one of them, unless the
    settings say so."""
    if config.low_resolution == 1:
        return 0
    scale, until = Scale(examples, config.batch, total), Duration.parse(config.low_resolution_duration)
    return min(until.steps(scale), total if until.convert(scale) >= total else total - 1)


def choose_low_size(config: RunConfig) -> Size:
    """Return the low resolution in pixels: whole patches, if the model has any, at least one each way."""
    patches = get_patch(config.model)
    rows, cols = (
        max(patch, round(side * config.low_resolution / patch) * patch)
        for side, patch in zip(config.model.image, patches, strict=True)
    )
    return Size(rows, cols)


def find_held(run: Path, data: Any) -> dict[str, str]:
    """Let a data set have the name that it has in a run, or return a change of the data to it; raises RunError, DataError."""
    known = from_dict(RunConfig, read_run(run).config["config"]).data.path if is_run(run) else ""
    name = hold(data, known if is_object(known) else None)
    return {} if name == known else {"data": name}
