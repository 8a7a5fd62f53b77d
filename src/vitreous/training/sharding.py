"""A model divided among processes (FSDP2, `fully_shard`): each holds a part of every parameter, its gradient and its
optimizer state, and a whole block only while computing it."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from vitreous.errors import ConfigError
from vitreous.objectives.base import Objective
from vitreous.storage.shards import Pieces
from vitreous.training.distributed import World, get_world


def lay_out_mesh(shard: str | int, device: torch.device, world: World) -> DeviceMesh:
    """Return the processes as a mesh: one row that shares a copy of the model, or several rows, each with a copy
    (hybrid).

    Raises:
        ConfigError: the number of processes can't be divided into such rows.
    """
    size = world.size if shard == "all" else int(shard)
    if not world.together:
        raise ConfigError(
            f"shard is {shard}, but there is one process; start several (--processes), or set --shard none"
        )
    if size < 2 or world.size % size:
        raise ConfigError(
            f"shard is {shard}, but there are {world.size} processes; give a number from 2 on that divides that, all or none"
        )
    if size == world.size:
        return init_device_mesh(device.type, (size,), mesh_dim_names=("shards",))
    return init_device_mesh(device.type, (world.size // size, size), mesh_dim_names=("copies", "shards"))


def shard_objective(objective: Objective, mesh: DeviceMesh, bf16: bool) -> None:
    """Divide an objective and its model over a mesh, in place: block by block, and the rest together.

    `bf16`: parameters are gathered in bfloat16, and gradients summed in float32.
    """
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    shard_blocks(objective, mesh, policy)
    register_fsdp_forward_method(objective, "predict")


def shard_blocks(module: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Divide a module's blocks, each by itself, those inside others first, and then the rest of it."""
    for part in reversed(list(module.modules())):
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)


def shard_average(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide a moving average of a model over a mesh, as the model is, in place; it is never trained."""
    shard_blocks(model, mesh, MixedPrecisionPolicy())


def set_last_part(objective: nn.Module, last: bool) -> None:
    """Sum gradients over the processes after this part of a step's examples, if it is the last one."""
    cast("FSDPModule", objective).set_requires_gradient_sync(last)


def take_local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's part of each tensor: all of it where it isn't divided."""
    return [one.to_local() if isinstance(one, DTensor) else one for one in tensors]


def gather_whole(tensor: Tensor) -> Tensor:
    """Return a whole tensor in all processes; all of them must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_on_cpu(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Return whole tensors, one at a time, on the CPU of the processes that `keep` them; all of them must call this."""
    found = {}
    for name, tensor in tensors.items():
        whole = gather_whole(tensor.detach())
        if keep:
            found[name] = whole.cpu()
    return found


def divide_like(whole: Tensor | Pieces, like: Tensor) -> Tensor:
    """Return a tensor divided like another one of its shape, or whole if that one is. Processes don't communicate; each
    reads its own part of a tensor in pieces."""
    if not isinstance(like, DTensor) or tuple(whole.shape) != tuple(like.shape):
        return whole.join() if isinstance(whole, Pieces) else whole
    if isinstance(whole, Tensor):
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    sizes, offsets = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    part = whole.cut(offsets, sizes).to(like.device)
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def share_out(given: list[Tensor], work: Callable[[list[Tensor]], list[Tensor]]) -> list[Tensor]:
    """Return what `work` makes of tensors of one shape, which all processes hold: each does its share, and gets the others'.

    `work` returns a tensor of that shape for each.
    """
    world = get_world()
    if not world.together:
        return work(given)
    own = given[0].new_zeros(math.ceil(len(given) / world.size), *given[0].shape)
    for place, made in enumerate(work(given[world.rank :: world.size]) if world.rank < len(given) else ()):
        own[place] = made
    found = [torch.empty_like(own) for _ in range(world.size)]
    dist.all_gather(found, own)
    return [found[number % world.size][number // world.size] for number in range(len(given))]


class Owners:
    """Whole matrices of one shape from their parts: each process gets one of them, as many at a time as processes share
    a copy.

    Args:
        like: a matrix that is divided along its rows, as all of them are.
    """

    def __init__(self, like: DTensor) -> None:
        mesh = like.device_mesh
        self.group = mesh.get_group("shards")
        self.rank, self.size = mesh.get_local_rank("shards"), mesh.size(mesh.ndim - 1)
        self.shape = like.shape
        rows = [len(part) for part in torch.empty(like.shape[0], device="meta").chunk(self.size)]
        rows += [0] * (self.size - len(rows))
        self.counts = [count * math.prod(like.shape[1:]) for count in rows]

    def gather(self, parts: list[Tensor]) -> Tensor | None:
        """Return the matrix with this process's number out of at most `size`, contributing its part of each; None if
        there are fewer."""
        mine = self.rank < len(parts)
        whole = parts[0].new_empty(sum(self.counts) if mine else 0)
        given = torch.cat([part.reshape(-1) for part in parts])
        dist.all_to_all_single(
            whole,
            given,
            self.counts if mine else [0] * self.size,
            [self.counts[self.rank] if owner < len(parts) else 0 for owner in range(self.size)],
            group=self.group,
        )
        return whole.view(self.shape) if mine else None

    def scatter(self, whole: Tensor | None, parts: list[Tensor]) -> list[Tensor]:
        """Return this process's parts of the matrices, contributing the one that `gather` returned; shaped as
        `parts`."""
        own = self.counts[self.rank]
        given = parts[0].new_empty(0) if whole is None else whole.reshape(-1)
        found = parts[0].new_empty(own * len(parts))
        dist.all_to_all_single(
            found,
            given,
            [own if owner < len(parts) else 0 for owner in range(self.size)],
            self.counts if whole is not None else [0] * self.size,
            group=self.group,
        )
        return [
            piece.view(part.shape)
            for piece, part in zip(found.split(own) if own else [found] * len(parts), parts, strict=True)
        ]
