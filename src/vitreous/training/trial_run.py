"""A run before it begins: everything that `train` does up to the first step, with a batch or a part of one."""

import time
from dataclasses import replace

import torch

from vitreous.data.dataset import OpenedData
from vitreous.data.stream.interleaving import count_epoch
from vitreous.errors import ConfigError
from vitreous.model import count
from vitreous.runtime.device import choose_device
from vitreous.runtime.memory import read_free_memory
from vitreous.training.assembly import build_job, choose_low_size, count_low_steps, open_data, plan_schedule
from vitreous.training.config import RunConfig
from vitreous.training.cost import count_example, estimate_cost, estimate_memory
from vitreous.training.forecast import forecast_seconds
from vitreous.training.loop import load_batches, train_step
from vitreous.training.optimizer_trial import try_optimizer
from vitreous.training.reporter import Reporter, Silent
from vitreous.training.resolve import MEMORY_SHARE, resolve
from vitreous.training.results import DryRun
from vitreous.training.settings_check import check_ranges, check_teacher
from vitreous.training.teacher import open_teacher

MOST_OPERATIONS = 2e13
"""Operations of the step that is tried on a CPU: a minute or a few; fewer examples are tried if the batch needs more."""


def dry_run(
    config: RunConfig, reporter: Reporter | None = None, processes: int = 1, opened: OpenedData | None = None
) -> DryRun:
    """Do everything that `train` does up to the first step, with one batch, and write nothing.

    Of a batch that would take a CPU long, only the first examples are tried, and nothing if there is no memory for them; what the run
    costs is then known from formulas alone. `processes`: among which the run's batches, and perhaps its model, would be divided.
    `opened`: the run's data, if it is open already.
    """
    reporter = reporter or Silent()
    check_ranges(config)
    try_optimizer(config.optimizer, config.shard != "none")
    if processes < 1 or config.batch % processes:
        raise ConfigError(
            f"a batch of {config.batch:,} can't be divided among {processes:,} processes; give another number"
        )
    check_teacher(config)
    dataset = open_data(config, reporter, opened)
    teacher = open_teacher(config, dataset, reporter)
    config = resolve(config, dataset, reporter, teacher=teacher)
    epoch = count_epoch(dataset.learned)
    schedule = plan_schedule(config, epoch)
    low_steps = count_low_steps(config, epoch, schedule.total)
    plan = DryRun(
        config=config,
        parameters=count.count_parameters(config.model),
        flops=count.count_flops(config.model),
        memory=estimate_memory(config),
        steps=schedule.total,
        loss=None,
        seconds=None,
        facts=dataset.facts,
        epoch=epoch,
        test=len(dataset.test or ()),
        machine=describe_machine(config),
        cost=estimate_cost(config, schedule, low_steps, choose_low_size(config), processes),
    )
    examples = choose_examples(config)
    if not examples:
        return plan
    job = build_job(replace(config, shard="none"), dataset, reporter, teacher=teacher)
    reporter.phase("running one batch")
    job.config = replace(job.config, workers=0, batch=examples)
    began = time.perf_counter()
    batch = next(load_batches(job, 1))
    started = time.perf_counter()
    loss, _ = train_step(job, batch)
    found = float(loss)
    seconds = time.perf_counter() - started
    job.config = replace(job.config, workers=config.workers)
    forecast = forecast_seconds(job, batch, seconds, started - began)
    whole = config.batch / examples if schedule.total else 1.0
    return replace(
        plan,
        loss=found,
        seconds=seconds,
        examples=examples,
        forecast=forecast * whole,
        machine=describe_machine(config),
    )


def choose_examples(config: RunConfig) -> int:
    """Return how many of the first step's examples can be tried on this machine in a moment; 0: there is no memory for any."""
    if choose_device(config.device).type == "cuda":
        return config.batch
    examples = int(min(config.batch, max(1, MOST_OPERATIONS // count_example(config))))
    if examples == config.batch:
        return examples
    needed = estimate_memory(replace(config, batch=examples, shard="none"))
    return examples if needed <= MEMORY_SHARE * read_free_memory() else 0


def describe_machine(config: RunConfig) -> str:
    """Return the device and its threads, for people."""
    threads = torch.get_num_threads()
    return f"{choose_device(config.device)}, {threads} thread{'s'[: threads > 1]}"
