"""Several processes of one run: sharpness-aware steps, optimizers of other modules and averages are those of one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.exact_steps import EXACT, distance, in_processes, lose_after, read_whole, take_steps
from tests.support.ranks import run_ranks

from vitreous.training.callbacks import Callback, add_callbacks
from vitreous.training.config import OptimizerConfig
from vitreous.training.distributed import ALONE
from vitreous.training.run import resume, train


@pytest.mark.parametrize("shard", [pytest.param("none", marks=pytest.mark.slow), "all"])
@pytest.mark.slow
def test_sharpness_is_that_of_the_whole_batch(shard: str, tmp_path: Path, doubled: None) -> None:
    """Uphill along the gradient of all examples, whichever process and part of the step has them; by a class of torch's."""
    named = OptimizerConfig(name="torch.optim:NAdam", keywords={"betas": [0.8, 0.9]}, lr=1e-3, clip=0.5, sam=0.1)
    config = replace(EXACT, optimizer=named)
    alone, found = take_steps(config, ALONE), in_processes(replace(config, shard=shard, micro_batch=5), 2, tmp_path)
    assert distance(found["weights"], alone["weights"]) < 1e-9
    flat = replace(named, sam=0.0)
    assert distance(take_steps(replace(config, optimizer=flat), ALONE)["weights"], alone["weights"]) > 1e-3


class Keeper(Callback):
    """Writes down the weights after each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step(self, step: int, numbers: Any, model: torch.nn.Module) -> None:
        torch.save(dict(model.named_parameters()), self.folder / f"step-{step}.pt")


def test_the_average_is_its_formula_whatever_interrupts_and_however_many_processes(
    tmp_path: Path, doubled: None
) -> None:
    """Of two processes up to step 8, of one from there, which the checkpoint's floats alone connect."""
    folder, decay = tmp_path / "run", 0.6

    def work(rank: int) -> int:
        with add_callbacks([Keeper(tmp_path)]):
            train(replace(EXACT, ema=decay, checkpoint_every="4st", keep_checkpoints=9), folder)
        return 0

    assert [code for code, *_ in run_ranks(work, 2)] == [0, 0]
    lose_after(folder, 8)
    with add_callbacks([Keeper(tmp_path)]):
        resume(folder)
    expected: dict[str, torch.Tensor] = {}
    for count in range(12):
        kept = min(decay, (1 + count) / (10 + count)) if count else 0.0
        weights = torch.load(tmp_path / f"step-{count + 1}.pt")
        expected = {name: kept * expected.get(name, 0.0) + (1 - kept) * one for name, one in weights.items()}
    found = read_whole(folder / "checkpoints" / "step-12")
    assert found["average.n_averaged"] == 12
    for name, one in expected.items():
        torch.testing.assert_close(found[f"average.module.{name}"], one.detach(), rtol=1e-12, atol=1e-14)
