"""Resolve the settings that a configuration leaves open, and refuse those that can't work."""

import math
import statistics
import sys
import time
from bisect import bisect_right
from dataclasses import replace
from typing import NamedTuple

import torch

from vitreous.data.channels import check_same
from vitreous.data.dataset import Dataset
from vitreous.data.sources.pseudo_labels import check_proportion
from vitreous.data.stream.interleaving import count_epoch
from vitreous.data.unlabelled import refuse_held_out
from vitreous.errors import ConfigError, OutOfMemory
from vitreous.images.rendering import check_rendering
from vitreous.model import count
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.kinds import get_kind, name_kind
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin_config import SwinConfig, check_swin_training
from vitreous.objectives.config import ClassifyConfig
from vitreous.runtime.device import choose_device, has_fast_bf16, takes_bf16
from vitreous.runtime.memory import read_free_memory, read_memory
from vitreous.shapes import Size
from vitreous.storage.limits import format_bytes
from vitreous.training.assembly import build_job, count_low_steps, plan_schedule
from vitreous.training.config import RunConfig
from vitreous.training.cost import check_memory, count_state_bytes
from vitreous.training.distributed import ALONE, World
from vitreous.training.duration import Duration
from vitreous.training.head_check import check_head
from vitreous.training.loop import load_batches, train_step
from vitreous.training.packing_check import check_packed
from vitreous.training.reporter import Reporter
from vitreous.training.state import Job
from vitreous.training.teacher import Teacher

MEMORY_SHARE = 0.6
"""Share of the free memory that --batch auto plans to use."""
MEASURE_SECONDS = 4.0


def resolve(
    config: RunConfig,
    dataset: Dataset,
    reporter: Reporter,
    world: World = ALONE,
    teacher: Teacher | None = None,
) -> RunConfig:
    """Resolve every `auto` that could change a number, and convert minutes to steps, alike in all processes."""
    check_settings(config, dataset)
    if dataset.facts.multilabel and isinstance(config.objective, ClassifyConfig):
        reporter.message(
            f"several labels an image: a sigmoid for each of the {len(dataset.facts.classes):,} labels (objective.loss "
            "sigmoid), judged by mean average precision (mAP)"
        )
    device = choose_device(config.device)
    if config.precision == "auto":
        config = replace(config, precision="bf16" if has_fast_bf16(device) else "fp32")
    elif takes_bf16(config.precision, device) and not has_fast_bf16(device):
        reporter.message(
            "bf16 is slower than fp32 on this device, or no faster, and less precise; --precision auto avoids it"
        )
    if config.micro_batch == "auto":
        config = replace(config, micro_batch=find_micro_batch(config, dataset, reporter, world, teacher))
    if Duration.parse(config.duration).unit == "min":
        config = replace(config, duration=measure_duration(config, dataset, reporter, world, teacher))
    examples = count_epoch(dataset.learned)
    schedule = plan_schedule(config, examples)
    passes = config.batch / examples
    if passes > 1:
        reporter.message(
            f"the batch of {config.batch:,} is larger than the {examples:,} training images: each step is "
            f"{passes:.3g} epochs, the run {schedule.total * passes:,.4g}; give --batch {examples} for one"
        )
    return world.share(config)


def check_settings(config: RunConfig, dataset: Dataset) -> None:
    """Refuse settings that conflict with each other or with the data; raises ConfigError."""
    model, preprocess, found = config.model, config.preprocess, len(dataset.facts.classes)
    if not isinstance(config.objective, ClassifyConfig):
        check_unlabelled(config)
    elif model.classes != found:
        raise ConfigError(f"the model has {model.classes} classes, but the data {found}; set --model.classes {found}")
    elif dataset.facts.multilabel:
        check_multilabel(config.objective)
    check_head(config, dataset)
    check_pseudo_labels(config, dataset)
    if tuple(model.image) != tuple(preprocess.size):
        raise ConfigError(
            f"the model sees {model.image[0]}x{model.image[1]} images, but preprocessing makes "
            f"{preprocess.size[0]}x{preprocess.size[1]}; give both the same with --image"
        )
    check_batch(config)
    if config.augment.on == "device":
        check_rendering(config.augment, preprocess)
    if model.channels != preprocess.channels:
        raise ConfigError(
            f"the model has {model.channels} channels, but mode {preprocess.mode} gives {preprocess.channels}; "
            "give both the same with --channels"
        )
    check_channels(config, dataset)
    check_kind(config)
    pad, side = config.augment.crop_pad, min(preprocess.size)
    if config.augment.crop == "pad" and pad >= side:
        raise ConfigError(f"augment.crop_pad is {pad}; it must be below the image's shorter side, {side}")
    for name in ("mean", "std"):
        given = len(getattr(preprocess, name))
        if given == 0 or (model.channels != 1 and given not in (1, model.channels)):
            raise ConfigError(f"preprocess.{name} has {given} values; it must have one, or one per channel")


def check_kind(config: RunConfig) -> None:
    """Refuse settings of training that a kind of model can't have; raises ConfigError."""
    model = config.model
    if config.packed:
        check_packed(config)
    if isinstance(model, (ResNetConfig, EfficientNetConfig)):
        check_convolutional(config)
        if isinstance(model, EfficientNetConfig) or model.norm == "batch":
            check_batch_norm(config, model.grid)
    elif isinstance(model, SwinConfig):
        check_swin_training(config.regularisation)
    else:
        config.regularisation.check_model(model)
        learned = model.in_attention or model.positions.startswith("learned") or model.rotary.kind == "mixed"
        if config.freeze == "positions" and not learned:
            raise ConfigError(
                f"freeze is positions, but those of this model, {model.positions}, are not learned; leave out --freeze"
            )


def check_pseudo_labels(config: RunConfig, dataset: Dataset) -> None:
    """Refuse pseudo labels for an objective or a head that can't learn from them, of images that are measured, and a batch
    without their exact proportion; raises ConfigError, DataError."""
    if dataset.pseudo is None:
        return
    if not isinstance(config.objective, ClassifyConfig):
        raise ConfigError(f"objective {config.objective.KIND} learns without labels; leave out data.pseudo_labels")
    if config.head == "logistic":
        raise ConfigError(
            "a head by logistic regression learns from labelled images alone; leave out data.pseudo_labels"
        )
    check_proportion(config.batch, config.data.pseudo_ratio)
    refuse_held_out(dataset.pseudo, dataset.validation, config.data, config.decode)


def check_channels(config: RunConfig, dataset: Dataset) -> None:
    """Refuse settings for colours where channels are kept as they are, and images with other channels.

    Raises:
        ConfigError: such a setting. DataError: such images.
    """
    mode = config.preprocess.mode
    if not isinstance(mode, int):
        return
    if config.augment.randaugment[0]:
        raise ConfigError(
            f"RandAugment changes colours of 8 bits, but here {mode} channels are kept as they are; set "
            "--augment.randaugment 0 0"
        )
    if config.augment.three_augment or config.augment.colour_jitter:
        raise ConfigError(
            f"3-Augment and colour jitter change colours of 8 bits, but here {mode} channels are kept as they are; set "
            "--augment.no-three-augment --augment.colour-jitter 0"
        )
    check_same(dataset.report.path, dataset.report.all_modes, mode)


def check_batch(config: RunConfig) -> None:
    """Refuse a batch whose pixels would fill the memory, as read and as one tensor; raises ConfigError."""
    shape = config.preprocess.size
    size = config.batch * math.prod(shape) * config.model.channels * config.preprocess.value_bytes
    if size > read_memory() // 4:
        raise ConfigError(
            f"batch is {config.batch:,}; that many images of {shape[0]}x{shape[1]} are {format_bytes(size)} of "
            f"pixels, more than a quarter of this machine's memory ({format_bytes(read_memory())}); give a "
            "smaller --batch"
        )


def check_multilabel(objective: ClassifyConfig) -> None:
    """Refuse a loss under which the labels of an image exclude one another; raises ConfigError."""
    if objective.loss != "sigmoid":
        raise ConfigError(
            "the data has several labels an image, but under objective.loss softmax one excludes the others; set "
            "--objective.loss sigmoid, as recipes do by themselves"
        )


def check_unlabelled(config: RunConfig) -> None:
    """Refuse settings that don't apply to self-supervision; raises ConfigError."""
    if config.regularisation.patch_dropout:
        raise ConfigError(
            f"regularisation.patch_dropout is {config.regularisation.patch_dropout}, but objective "
            f"{config.objective.KIND} itself chooses which patches the model sees; set "
            "--regularisation.patch-dropout 0"
        )
    if config.model.classes:
        raise ConfigError(
            f"objective {config.objective.KIND} trains a model without a head, but this one has "
            f"{config.model.classes} classes; set --model.classes 0"
        )
    if config.ema:
        raise ConfigError(f"ema is {config.ema}, but objective {config.objective.KIND} has no average; leave it out")
    if config.low_resolution < 1:
        raise ConfigError(
            f"low_resolution is {config.low_resolution}, but objective {config.objective.KIND} uses the full "
            "resolution throughout; set --low-resolution 1"
        )


def check_batch_norm(config: RunConfig, grid: Size) -> None:
    """Refuse parts of a batch that can't be normalised where the last map has this grid; raises ConfigError."""
    part = config.batch if config.micro_batch == "auto" else int(config.micro_batch) or config.batch
    least = min(part, config.batch % part or part)
    if least < 2 and grid == (1, 1):
        raise ConfigError(
            "batch norm needs more than one value of each channel, but a part of a batch here is one image with a last map of a single "
            "place; give larger images, or a --batch that its --micro-batch divides into parts of two or more"
        )


def check_convolutional(config: RunConfig) -> None:
    """Refuse settings that are only for Transformers; raises ConfigError."""
    what, patches = name_kind(get_kind(config.model)), config.regularisation.patch_dropout
    if patches:
        raise ConfigError(f"regularisation.patch_dropout is {patches:g}, but {what} has no patches; leave it out")
    if config.recompute:
        raise ConfigError(f"recompute is for the blocks of a Vision Transformer; leave it out with {what}")
    if config.lora:
        raise ConfigError(
            f"lora is {config.lora}, but LoRA needs a ViT's dense layers, which {what} lacks; leave it out"
        )
    if config.freeze == "positions":
        raise ConfigError(
            f"{what} has no positions to freeze; choose freeze none, patches (its root), trunk or a number"
        )


def measure_duration(
    config: RunConfig,
    dataset: Dataset,
    reporter: Reporter,
    world: World = ALONE,
    teacher: Teacher | None = None,
) -> str:
    """Return the number of steps that fit into the configured minutes on this machine, as a duration such as "4321st".

    It runs a few seconds of real training on a job that is then discarded, so the run itself stays a pure function of
    its config. The same batches are used twice: the first epoch may read and decode files that stay in memory
    afterwards. If the first part of the run uses a low resolution, both kinds of step are measured.
    """
    reporter.phase("measuring the speed of a training step")
    minutes = Duration.parse(config.duration)
    check_memory(config, world)
    trial = build_trial(replace(config, weights=None), dataset, reporter, world, teacher)
    first, full = (time_step(trial, low=False) for _ in range(2))
    low = time_step(trial, low=True) if config.low_resolution < 1 else full
    speed, examples = Speed(full, low, max(0.0, first - full)), count_epoch(dataset.learned)
    steps = count_steps(60 * minutes.amount, config, examples, speed)
    images = steps * config.batch / predict_seconds(steps, config, examples, speed)
    reporter.message(
        f"{images:,.0f} images/s, so {minutes.amount:g} min are {steps:,} step{'s'[: steps > 1]} of {config.batch} images"
    )
    return f"{steps}st"


def build_trial(
    config: RunConfig, dataset: Dataset, reporter: Reporter, world: World = ALONE, teacher: Teacher | None = None
) -> Job:
    """Return a job of any length to take steps for measuring, which one process doesn't divide."""
    shard = config.shard if world.together else "none"
    return build_job(replace(config, duration="1000000st", shard=shard), dataset, reporter, world, teacher)


class Speed(NamedTuple):
    """The duration of training steps, in seconds."""

    full: float
    """A step at the full resolution."""
    low: float
    """A step at the low resolution."""
    reading: float = 0.0
    """The additional time of a step in the first epoch."""


def count_steps(seconds: float, config: RunConfig, examples: int, speed: Speed) -> int:
    """Return how many steps of a run on this many examples are finished after these seconds, at least one."""
    most = range(1, 2 + math.floor(seconds / min(speed.full, speed.low)))
    return max(1, bisect_right(most, seconds, key=lambda steps: predict_seconds(steps, config, examples, speed)))


def predict_seconds(steps: int, config: RunConfig, examples: int, speed: Speed) -> float:
    """Return the duration of a run of this many steps."""
    low = count_low_steps(config, examples, steps)
    return low * speed.low + (steps - low) * speed.full + min(steps, examples / config.batch) * speed.reading


def time_step(trial: Job, *, low: bool) -> float:
    """Return the median time of the run's first training steps, batch loading included, after two to warm up."""
    trial.low_steps = sys.maxsize if low else 0
    trial.progress.step = 0
    times: list[float] = []
    started = time.perf_counter()
    batches = load_batches(trial, trial.schedule.total)
    while trial.world.share(len(times) < 6 or (len(times) < 100 and time.perf_counter() - started < MEASURE_SECONDS)):
        begun = time.perf_counter()
        loss, _ = train_step(trial, next(batches))
        float(loss)
        times.append(time.perf_counter() - begun)
        trial.progress.step += 1
    return statistics.median(times[2:])


def find_micro_batch(
    config: RunConfig,
    dataset: Dataset,
    reporter: Reporter,
    world: World = ALONE,
    teacher: Teacher | None = None,
) -> int:
    """Return the largest part of a process's batch that fits into its memory; accumulation gathers the rest.

    The optimizer's batch, and with it the learning rate and every figure of the recipe, is unchanged.
    """
    device = world.place(choose_device(config.device))
    config = replace(config, batch=world.divide(config.batch))
    reporter.phase("finding the largest micro-batch that fits")
    if device.type == "cuda":
        micro = find_cuda_micro_batch(config, dataset, reporter, teacher)
        torch.cuda.empty_cache()
    else:
        state = count_state_bytes(config, world.size)
        each = count.estimate_activation_bytes(config.model, 1, training=True, recompute=config.recompute)
        if teacher is not None:
            each += count.estimate_activation_bytes(teacher.model.config, 1, training=False)
        room = MEMORY_SHARE * read_free_memory() / world.local_size - state
        micro = min(config.batch, math.floor(room / each)) if room > each else 0
        if micro < 1:
            raise OutOfMemory(
                f"{count.count_parameters(config.model):,} parameters and one image need about "
                f"{(state + each) / 2**30:.1f} GiB of memory, but {read_free_memory() / 2**30:.1f} GiB are free; "
                "choose a smaller --model or image size"
            )
    parts = math.ceil(config.batch / min(world.gather(micro), default=micro))
    even = math.ceil(config.batch / parts)
    where = " in each process" if world.together else ""
    reporter.message(f"micro-batch {even}: {parts} part{'s'[: parts > 1]} a step of {config.batch} images{where}")
    return world.share(even)


def find_cuda_micro_batch(
    config: RunConfig, dataset: Dataset, reporter: Reporter, teacher: Teacher | None = None
) -> int:
    """Halve the micro-batch until a training step at the full resolution succeeds on this process's device."""
    micro = config.batch
    while micro >= 1:
        try:
            trial = build_trial(replace(config, micro_batch=micro, workers=0), dataset, reporter, teacher=teacher)
            trial.low_steps = 0
            train_step(trial, next(load_batches(trial, 1)))
            return micro
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            micro //= 2
    raise OutOfMemory("not even one image fits into the GPU's memory; choose a smaller --model or image size")
