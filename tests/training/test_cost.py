"""The operations of a training step, against those that torch counts."""

from dataclasses import replace

import pytest
from tests.support.training import TINY
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.data.dataset import open_dataset
from vitreous.errors import OutOfMemory
from vitreous.model.count import count_flops
from vitreous.training import cost
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig
from vitreous.training.cost import check_memory, count_passes, estimate_memory
from vitreous.training.loop import load_batches, train_step
from vitreous.training.reporter import Silent
from vitreous.training.run import train
from vitreous.training.trial_run import dry_run

WIDE = replace(TINY, model=replace(TINY.model, width=64, mlp_width=256, depth=3, heads=2), batch=8)
SAM = OptimizerConfig(name="sgd", sam=0.1)


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, 3),
        ({"optimizer": SAM}, 6),
        ({"freeze": "trunk"}, 1),
        ({"lora": 2}, 2),
        ({"lora": 2, "optimizer": SAM}, 4),
    ],
    ids=["all", "SAM", "frozen trunk", "LoRA", "LoRA and SAM"],
)
def test_a_steps_operations_are_what_torch_counts(changes, passes):
    config = replace(WIDE, **changes)
    assert count_passes(config) == passes
    job = build_job(config, open_dataset(config.data, config.decode), Silent())
    batch = next(load_batches(job, 1))
    # Fused attention isn't counted on a CPU; the plain products are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        train_step(job, batch)
    counted = counter.get_total_flops() / (config.batch * count_flops(config.model))
    assert counted == pytest.approx(passes, rel=0.12)


def test_steps_that_would_fill_the_memory_are_refused_before_one_is_tried(monkeypatch, tmp_path):
    large = replace(WIDE, batch=512)
    one, whole = (estimate_memory(replace(large, batch=batch)) for batch in (1, 512))
    for free, said in (
        (one - 1, "for one image"),
        (whole // 2 - 1, "these parts of the batch.*or --micro-batch auto"),
        (whole // 2 + 1, ""),
    ):
        monkeypatch.setattr(cost, "read_free_memory", lambda free=free: free)
        if not said:
            check_memory(large)
            continue
        for run in (check_memory, lambda config: train(config, tmp_path / "run")):
            with pytest.raises(OutOfMemory, match=said):
                run(large)
        with pytest.raises(OutOfMemory, match=said):
            dry_run(replace(large, duration="1min"))
    assert not (tmp_path / "run").exists()
