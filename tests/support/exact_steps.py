"""Some exact steps of one run in one process or several, in float64 where a test asks for that, and what a checkpoint holds."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.ranks import run_ranks
from tests.support.training import TINY

from vitreous.data.dataset import open_dataset
from vitreous.model.config import RegularisationConfig
from vitreous.run_folder import list_checkpoint_steps
from vitreous.storage.shards import Pieces
from vitreous.storage.snapshot import read_snapshot
from vitreous.training import assembly, loop
from vitreous.training import validate as validating
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig, RunConfig
from vitreous.training.distributed import World, join
from vitreous.training.interrupt import Interrupt
from vitreous.training.loop import load_batches, train_step
from vitreous.training.reporter import Silent
from vitreous.training.sharding import gather_on_cpu, gather_whole
from vitreous.training.validate import validate

STEPS = 12
"""Of a run of as many: warm-up, both resolutions, and the schedule to its end."""
EXACT = replace(
    TINY,
    regularisation=RegularisationConfig(dropout=0.1, drop_path=0.2, patch_dropout=0.25),
    optimizer=OptimizerConfig(name="muon", lr=3e-3, clip=0.5),
    ema=0.9,
    low_resolution=0.5,
    low_resolution_duration="30%",
)


def compute_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float64, here and in the processes that are started from here."""
    create, normalize = assembly.create_initial_model, loop.normalize
    build = assembly.build_objective
    monkeypatch.setattr(assembly, "create_initial_model", lambda *given: create(*given).double())
    monkeypatch.setattr(assembly, "build_objective", lambda *given: build(*given).double())
    for module in (loop, validating):
        monkeypatch.setattr(module, "normalize", lambda *given: normalize(*given).double())


def take_steps(config: RunConfig, world: World) -> dict[str, Any]:
    """Return weights and averages after some steps, the first step's gradients, the losses, and a hash of each step's examples
    and validation figures."""
    config = replace(config, duration=f"{STEPS}st")
    job = build_job(config, open_dataset(config.data, config.decode), Silent(), world)
    batches, streams, losses = load_batches(job, STEPS), [], []
    gradients: dict[str, torch.Tensor] = {}
    step = job.optimizer.step

    def look(share: float) -> None:
        for name, parameter in job.objective.named_parameters():
            if parameter.grad is not None:
                gradients.setdefault(name, gather_whole(parameter.grad).clone())
        step(share)

    job.optimizer.step = look
    for number in range(STEPS):
        batch = next(batches)
        parts = world.gather(
            [(bytes(one.numpy()), int(index)) for one, index in zip(batch.pixels, batch.indices, strict=True)]
        )
        whole = repr([example for part in parts for example in part]).encode()
        streams.append(hashlib.sha256(whole).hexdigest())
        losses.append(float(train_step(job, batch)[0]))
        job.progress.step = number + 1
    figures = validate(job, Silent(), Interrupt())
    assert figures is not None
    del figures["seconds"]
    average = {} if job.average is None else {f"average.{name}": one for name, one in job.average.state_dict().items()}
    weights = gather_on_cpu(job.objective.state_dict() | average, keep=True)
    return {"weights": weights, "gradients": gradients, "losses": losses} | {
        "streams": streams,
        "figures": figures,
    }


def in_processes(config: RunConfig, size: int, folder: Path) -> dict[str, Any]:
    """Return what `take_steps` finds in as many processes, in each of which the weights are the same bits."""

    def work(rank: int) -> int:
        with join(1) as world:
            found = take_steps(config, world)
            weights = hashlib.sha256(b"".join(bytes(one.numpy()) for one in found["weights"].values())).hexdigest()
            world.check_same({"the weights": weights, "the losses": repr(found["losses"])})
            if world.leads:
                torch.save(found, folder / f"{size}.pt")
        return 0

    for code, out, err in run_ranks(work, size):
        assert code == 0, (out, err)
    return torch.load(folder / f"{size}.pt")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, relative to the tensor's norm."""
    assert one.keys() == other.keys()
    pairs = [(one[name].double(), other[name].double()) for name in one]
    return max(float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in pairs)


def read_whole(checkpoint: Path) -> dict[str, torch.Tensor]:
    tensors = read_snapshot(checkpoint)[0]
    return {name: one.join() if isinstance(one, Pieces) else one for name, one in tensors.items()}


def lose_after(folder: Path, step: int) -> None:
    for later in list_checkpoint_steps(folder):
        if later > step:
            shutil.rmtree(folder / "checkpoints" / f"step-{later}")
