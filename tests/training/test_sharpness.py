"""Sharpness-aware minimisation, against its formula in float64."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.training import TINY
from torch.nn import functional as F

from vitreous.data.dataset import open_dataset
from vitreous.images.tensors import normalize
from vitreous.model.batch_norm import list_statistics
from vitreous.model.config import RegularisationConfig
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.training import assembly, loop
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig, RunConfig
from vitreous.training.divergence import NonFiniteStep
from vitreous.training.loop import load_batches, train_step
from vitreous.training.reporter import Silent
from vitreous.training.state import Job

RHO, RATE = 0.7, 0.2
SAM = replace(
    TINY,
    augment=replace(TINY.augment, mixup=0.0),
    optimizer=OptimizerConfig(name="sgd", lr=RATE, weight_decay=0.0, momentum=0.0, clip=0.0, sam=RHO),
)


@pytest.fixture(autouse=True)
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    create, plain, build = assembly.create_initial_model, loop.normalize, assembly.build_objective
    monkeypatch.setattr(assembly, "create_initial_model", lambda *given: create(*given).double())
    monkeypatch.setattr(assembly, "build_objective", lambda *given: build(*given).double())
    monkeypatch.setattr(loop, "normalize", lambda *given: plain(*given).double())


def build(config: RunConfig) -> Job:
    return build_job(config, open_dataset(config.data, config.decode), Silent())


def test_a_step_goes_down_along_the_gradient_found_uphill() -> None:
    job, reference = build(SAM), build(SAM)
    batch = next(load_batches(job, 1))
    with torch.no_grad():
        for one, other in zip(job.model.parameters(), reference.model.parameters(), strict=True):
            one.add_(torch.sin(torch.arange(one.numel(), dtype=torch.float64)).view_as(one) * 0.1)
            other.copy_(one)

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        images = normalize(batch.pixels, SAM.preprocess).double()
        logits = torch.func.functional_call(reference.model, weights, (images,))
        return F.cross_entropy(logits.float(), batch.labels)

    weights = {name: one.detach() for name, one in reference.model.named_parameters()}
    first = torch.func.grad(loss)(weights)
    norm = sum(one.square().sum() for one in first.values()).sqrt()
    above = {name: one + RHO * first[name] / norm for name, one in weights.items()}
    second = torch.func.grad(loss)(above)
    found, numbers = train_step(job, batch)
    assert float(found) == pytest.approx(float(loss(weights)), rel=1e-6)
    slope = sum(one.square().sum() for one in second.values()).sqrt()
    assert float(numbers["gradient_norm"]) == pytest.approx(float(slope), rel=1e-9)
    assert abs(float(slope / norm) - 1) > 0.05  # it is another gradient
    share = job.schedule.share(0)
    for name, one in job.model.named_parameters():
        torch.testing.assert_close(one.detach(), weights[name] - RATE * share * second[name], rtol=1e-9, atol=1e-12)


def test_weights_come_back_to_their_bits_and_statistics_move_once() -> None:
    model = EfficientNetConfig(
        image=(8, 8), channels=1, root_channels=8, units=(1,), widths=(8,), kernels=(3,), strides=(1,), expansions=(2,),
        last_channels=16, classes=10, norm_momentum=0.1,
    )  # fmt: skip
    still = replace(SAM, model=model, optimizer=replace(SAM.optimizer, lr=0.0))
    found = []
    for config in (still, replace(still, optimizer=replace(still.optimizer, sam=0.0))):
        job = build(config)
        before = [one.detach().clone() for one in job.model.parameters()]
        train_step(job, next(load_batches(job, 1)))
        assert all(torch.equal(one, other) for one, other in zip(before, job.model.parameters(), strict=True))
        found.append(list_statistics(job.model))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_both_passes_leave_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    job = build(replace(SAM, regularisation=RegularisationConfig(dropout=0.3, drop_path=0.3), micro_batch=7))
    seen: list[list[int]] = []
    give = job.model.set_examples
    monkeypatch.setattr(job.model, "set_examples", lambda keys: (seen.append(keys.tolist()), give(keys)))
    train_step(job, next(load_batches(job, 1)))
    assert len(seen) == 10 and seen[:5] == seen[5:]


def test_a_loss_that_is_not_finite_leaves_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = build(SAM)
    before: list[Any] = [one.detach().clone() for one in job.model.parameters()]
    inputs = job.objective.inputs
    monkeypatch.setattr(
        job.objective,
        "forward",
        lambda *given: (inputs and torch.tensor(float("nan")) * next(job.model.parameters()).sum(), {}),
    )
    with pytest.raises(NonFiniteStep):
        train_step(job, next(load_batches(job, 1)))
    assert job.whole and all(torch.equal(one, other) for one, other in zip(before, job.model.parameters(), strict=True))
