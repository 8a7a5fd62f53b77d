"""How several processes train one model: each has all of it, and their gradients are averaged (DistributedDataParallel); or
it is divided among them (`sharding.py`)."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from vitreous.model.batch_norm import synchronise_norms
from vitreous.objectives.base import Objective
from vitreous.training.config import RunConfig
from vitreous.training.distributed import World
from vitreous.training.sharding import lay_out_mesh, set_last_part, shard_average, shard_objective


class Spared(nn.Module):
    """An objective with an unused parameter: torch, told to look for unused ones, warns if it finds none."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.spare = nn.Parameter(torch.zeros(1, device=next(objective.parameters()).device))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective's result."""
        return self.objective(*inputs)


def parallelise(
    objective: Objective, average: AveragedModel | None, config: RunConfig, device: torch.device, world: World
) -> nn.Module | None:
    """Return the module to call in place of the objective, so that gradients are means over all processes; None for a
    single process.

    Raises:
        ConfigError: the model should be divided, but there is one process, or a number of them that doesn't allow it.

    The places of parameters in the buckets of gradients are fixed before the first step, not by the order in which its
    gradients arrive: the order of sums, and so the bits, are the same whether a run was interrupted or not.
    """
    if world.together:
        synchronise_norms(objective, add_over_processes)
    if config.shard != "none":
        mesh = lay_out_mesh(config.shard, device, world)
        shard_objective(objective, mesh, config.precision == "bf16")
        if average is not None:
            shard_average(average.module, mesh)
        return objective
    if not world.together:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # broadcast_buffers has another name since torch 2.13
        return DistributedDataParallel(
            Spared(objective),
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,  # which also keeps torch from laying out buckets anew after the first step
            gradient_as_bucket_view=True,
        )


@torch.compiler.disable
def add_over_processes(values: Tensor) -> Tensor:
    """Return the sum of numbers over the processes; its gradient is the sum of theirs."""
    return all_reduce(values)


def accumulate(runner: nn.Module | None, last: bool) -> AbstractContextManager[None]:
    """Return the context of a part of a step's examples: gradients are averaged over the processes after the last
    part."""
    if isinstance(runner, FSDPModule):
        set_last_part(runner, last)
    if isinstance(runner, DistributedDataParallel) and not last:
        return runner.no_sync()
    return nullcontext()


def compile_blocks(objective: Objective) -> None:
    """Compile each block of the objective's modules by itself, in place."""
    for module in objective.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                block.compile()
