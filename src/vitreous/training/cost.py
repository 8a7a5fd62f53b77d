"""What a run costs, in closed form: operations, hours of a stated GPU at a stated utilisation, and memory in each process."""

import math
from dataclasses import dataclass, replace

from vitreous.errors import OutOfMemory
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.count_vit import count_vit_flops
from vitreous.objectives.base import count_share
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.objectives.masked_autoencoder import build_decoder_config
from vitreous.runtime.device import choose_device
from vitreous.runtime.memory import read_free_memory
from vitreous.runtime.peak_rate import BF16
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE, World
from vitreous.training.schedule import Schedule

GPU = "H100"
"""The GPU whose hours are counted; its peak rate is that of `runtime/peak_rate.py`."""
UTILISATION = 0.4
"""Share of that rate which training reaches, as well-tuned code does with models of this size; measured ones are `mfu` in a run's
records."""
STATE_BYTES = 16
"""Bytes of a parameter in training: itself, its gradient and two moments, in float32."""


@dataclass(frozen=True)
class Cost:
    """The cost of a run."""

    operations: float
    """Of the whole run, two for each multiply-add: forward and backward passes, without what is computed again or evaluated."""
    gpu_hours: float
    """Hours of one GPU for these operations."""
    processes: int
    memory: int
    """Bytes in each process: parameters, gradients, optimizer and activations of a part of the batch."""

    def __str__(self) -> str:
        each = f" in each of {self.processes:,} processes" if self.processes > 1 else ""
        rate = dict(BF16)[GPU] / 1e12
        return (
            f"{self.operations:.3g} operations: {self.gpu_hours:,.3g} hours of an {GPU} at {UTILISATION:.0%} of {rate:,.0f} TFLOP/s in bf16; at most "
            f"{self.memory / 2**30:,.1f} GiB{each}"
        )


def estimate_cost(
    config: RunConfig, schedule: Schedule, low_steps: int, low_size: tuple[int, int] | None, processes: int = 1
) -> Cost:
    """Return the cost of a resolved run.

    Args:
        config: its settings.
        schedule: its length.
        low_steps: how many of its first steps use the size `low_size`, in pixels.
        processes: among which its batches are divided, and by `shard` perhaps the model.
    """
    low = count_example(config, low_size) if low_steps and low_size is not None else 0
    operations = float(config.batch) * (low_steps * low + (schedule.total - low_steps) * count_example(config))
    hours = operations / (dict(BF16)[GPU] * UTILISATION) / 3600
    return Cost(operations, hours, processes, estimate_memory(config, processes))


def count_example(config: RunConfig, size: tuple[int, int] | None = None) -> int:
    """Return the operations that one example takes in training (see `count_passes`); a teacher's passes are not counted."""
    model = config.model if size is None else replace(config.model, image=tuple(size))
    passes = count_passes(config)
    if not isinstance(model, ViTConfig):
        return passes * count.count_flops(model)
    patches = math.prod(model.grid)
    if isinstance(config.objective, MaskedAutoencoderConfig):
        seen = patches - count_share(config.objective.mask_ratio, "mask_ratio", patches)
        return passes * (count_vit_flops(model, seen=seen) + count_decoder(model, config.objective, seen))
    seen = max(1, round(patches * (1 - config.regularisation.patch_dropout)))
    if config.packed:
        share = config.packed / math.sqrt(math.prod(model.image))  # the mean area for sides that are drawn uniformly
        seen = max(1, round(patches * (1 + share + share * share) / 3))
    return passes * count_vit_flops(model, seen=seen)


def count_passes(config: RunConfig) -> int:
    """Return the operations of an example's forward and backward passes, as a multiple of the forward pass.

    The gradients of activations and of weights take as much as the forward pass each. A frozen trunk needs neither, and frozen
    matrices with LoRA only the former. SAM does everything twice.
    """
    passes = 1 if config.freeze == "trunk" else 2 if config.lora else 3
    return 2 * passes if config.optimizer.sam else passes


def count_decoder(model: ViTConfig, objective: MaskedAutoencoderConfig, seen: int) -> int:
    """Return the operations of a masked autoencoder's decoder for one image, of which the encoder has seen so many patches."""
    decoder = build_decoder_config(model, objective)
    embedded = 2 * (seen + model.prefix) * model.width * decoder.width
    return embedded + count_vit_flops(decoder)  # which counts embedding patches: as much as predicting them


def estimate_memory(config: RunConfig, processes: int = 1) -> int:
    """Return the bytes that each of some processes holds at most, data aside."""
    own = math.ceil(config.batch / processes)
    part = min(own, config.micro_batch or own) if isinstance(config.micro_batch, int) else own
    activations = count.estimate_activation_bytes(config.model, part, training=True, recompute=config.recompute)
    return count_state_bytes(config, processes) + activations


def count_state_bytes(config: RunConfig, processes: int = 1) -> int:
    """Return the bytes that each of some processes holds of parameters, gradients, optimizer and averages."""
    shards = {"none": 1, "all": processes}.get(str(config.shard), config.shard)
    each = STATE_BYTES + 4 * bool(config.ema) + 4 * bool(config.optimizer.sam)
    return math.ceil(count.count_parameters(config.model) * each / int(shards))


def check_memory(config: RunConfig, world: World = ALONE) -> None:
    """Refuse training steps that would fill a CPU's memory, before one is tried: the system would end this process, or others.

    Raises:
        OutOfMemory: one image needs more than is free, or a part of the batch twice as much, of which the estimate may be.
    """
    if choose_device(config.device).type != "cpu":
        return
    free = read_free_memory() / world.local_size
    one, part = (estimate_memory(some, world.size) for some in (replace(config, batch=world.size), config))
    if one <= free and part <= 2 * free:
        return
    images, needed = ("one image", one) if one > free else ("these parts of the batch", part)
    smaller = "" if one > free else ", or --micro-batch auto"
    raise OutOfMemory(
        f"a training step needs about {needed / 2**30:.1f} GiB of memory for {images}, but {free / 2**30:.1f} GiB are free; choose a "
        f"smaller --model or --image{smaller}"
    )
