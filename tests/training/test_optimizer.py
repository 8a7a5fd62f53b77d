import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitreous.errors import ConfigError
from vitreous.model.config import named
from vitreous.model.vit import ViT, create
from vitreous.training.config import OptimizerConfig
from vitreous.training.muon import orthogonalize
from vitreous.training.optimizer import Optimizer, averaged, decays, is_encoder_matrix


def tiny() -> ViT:
    return create(named("mu/4", image=(8, 8), classes=5, depth=2), seed=0)


def one_step(model: nn.Module, optimizer: Optimizer, seed: int = 0) -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.clip()
    optimizer.step(0.5)


def test_no_decay_on_biases_norms_positions_and_class_token() -> None:
    decayed = {name for name, parameter in tiny().named_parameters() if decays(name, parameter)}
    assert all(name.endswith("weight") for name in decayed)
    assert not any("norm" in name or "position" in name or "class_token" in name for name in decayed)
    assert any(name.startswith("patches") for name in decayed)
    assert "head.weight" in decayed or any(name.startswith("head") for name in decayed)


def test_muon_takes_the_encoders_matrices_alone() -> None:
    chosen = {name for name, parameter in tiny().named_parameters() if is_encoder_matrix(name, parameter)}
    assert len(chosen) == 2 * 4
    assert all("blocks" in name for name in chosen)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_restored_state_goes_on_to_the_same_bits(name: str) -> None:
    config = OptimizerConfig(name=name, lr=1e-2, weight_decay=0.1)
    straight = tiny()
    optimizer = Optimizer(straight, config)
    for seed in range(2):
        one_step(straight, optimizer, seed)
    resumed = tiny()
    resumed.load_state_dict(straight.state_dict())
    again = Optimizer(resumed, config)
    again.load_state_tensors({key: value.clone() for key, value in optimizer.state_tensors().items()})
    one_step(straight, optimizer, 2)
    one_step(resumed, again, 2)
    for (key, left), (_, right) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(left, right), key


def test_decoupled_decay_is_weight_decay_times_the_schedule() -> None:
    model = tiny()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, OptimizerConfig(lr=1e-3, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5)
    for name, parameter in model.named_parameters():
        kept = 1 - 0.1 * 0.5 if decays(name, parameter) else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept, rtol=1e-6, atol=1e-8)


@given(st.integers(1, 3), st.integers(2, 24), st.integers(2, 24), st.integers(0, 99))
def test_orthogonalize_brings_singular_values_near_one(stack: int, rows: int, cols: int, seed: int) -> None:
    matrices = torch.randn(stack, rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    values = values.clamp(min=0.1 * values.max())
    after = torch.linalg.svdvals(orthogonalize(u @ torch.diag_embed(values) @ v))
    assert after.min() > 0.3
    assert after.max() < 1.3


def test_everything_frozen_is_refused() -> None:
    model = tiny()
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        Optimizer(model, OptimizerConfig())


def test_the_average_ramps_up_and_is_the_closed_form() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.9)
    expected = None
    for count in range(6):
        with torch.no_grad():
            model.weight.fill_(float(count))
        average.update_parameters(model)
        rate = min(0.9, (1 + count) / (10 + count))
        expected = float(count) if expected is None else expected * rate + count * (1 - rate)
    assert float(average.module.weight.detach()) == pytest.approx(expected)
