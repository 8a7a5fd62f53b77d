import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig
from vitreous.model.factory import create
from vitreous.model.lora import add_lora
from vitreous.model.names import build_vit_config
from vitreous.model.vit import ViT
from vitreous.training.config import OptimizerConfig
from vitreous.training.muon import Muon, orthogonalize
from vitreous.training.optimizer import Optimizer, build_average


def tiny(**settings: object) -> ViT:
    return create(build_vit_config("mu/4", **({"image": (8, 8), "classes": 5, "depth": 2} | settings)), seed=0)


def one_step(model: nn.Module, optimizer: Optimizer, seed: int = 0) -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.clip()
    optimizer.step(0.5)


UNUSUAL = {
    "relative, registers": {"positions": "relative", "registers": 2},
    "bias, shared": {"positions": "bias", "position_placement": "shared"},
    "positions in every layer": {"position_placement": "layers"},
    "two-dimensional in every layer": {"positions": "learned2d", "position_placement": "layers"},
    "distilled": {"distillation_token": True, "block": BlockConfig(layer_scale=0.1, qkv_bias="no-key")},
    "positions by an MLP": {"positions": "bias-log-swin"},
    "attention pooling": {"pool": "map", "block": BlockConfig(mlp="swiglu")},
}
STILL = re.compile(r"bias$|norm|scale$|token$|registers|positions|table|relative|probe")
"""What never decays."""


@pytest.mark.parametrize("settings", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_decay_shrinks_kernels_and_nothing_else(name: str, settings: dict[str, object]) -> None:
    model = tiny(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, OptimizerConfig(name=name, lr=0.1, muon_lr=0.1, weight_decay=0.2, muon_decay=2.0))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    for place, parameter in model.named_parameters():
        kept = 1.0 if STILL.search(place) else 0.8
        torch.testing.assert_close(parameter.detach(), before[place] * kept, msg=place)


@pytest.mark.parametrize("settings", UNUSUAL.values(), ids=UNUSUAL)
def test_muon_takes_the_matrices_of_blocks_alone(settings: dict[str, object]) -> None:
    model = tiny(**settings)
    optimizer = Optimizer(model, OptimizerConfig(name="muon"))
    chosen = {
        optimizer.names[parameter]: group["parts"]
        for part in optimizer.parts
        if isinstance(part, Muon)
        for group in part.param_groups
        for parameter in group["params"]
    }
    gated = model.config.block.mlp == "swiglu"
    layers = {"attention.qkv": 3, "attention.out": 1, "mlp.expand": 2 if gated else 1, "mlp.contract": 1}
    assert chosen == {f"blocks.{block}.{layer}.weight": n for block in (0, 1) for layer, n in layers.items()}


def test_muon_orthogonalises_gate_and_value_each_for_itself() -> None:
    stepped = {}
    for block in (BlockConfig(mlp="swiglu"), BlockConfig()):
        model = tiny(block=block, mlp_width=24)
        weight = model.blocks[0].mlp.expand.weight
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = torch.randn(weight.shape, generator=generator)
        before = weight.detach().clone()
        Optimizer(model, OptimizerConfig(name="muon", muon_lr=1.0)).step(1.0)
        stepped[block.mlp] = before - weight.detach()
    gate, value = stepped["swiglu"].chunk(2)
    torch.testing.assert_close(gate, stepped["plain"])  # of the same first draws
    assert 0.3 < torch.linalg.svdvals(value).min() < torch.linalg.svdvals(value).max() < 1.3


def test_lora_trains_beside_muon_by_adamw() -> None:
    model = tiny()
    add_lora(model, rank=4)
    optimizer = Optimizer(model, OptimizerConfig(name="muon", clip=1.0))
    one_step(model, optimizer)
    assert [type(part) for part in optimizer.parts] == [torch.optim.AdamW]


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
    assert again.state_tensors()
    again.load_state_tensors({})
    assert not again.state_tensors()
    for (key, left), (_, right) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(left, right), key


PEAK, DECAY, MOMENTUM, STEPS = 0.05, 0.004, 0.9, 200
SHARES = {
    "constant": [1.0] * STEPS,
    "warm-up": [min(1.0, (step + 1) / 50) for step in range(STEPS)],
    "cosine": [0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)],
    "to zero": [0.0 if step > 100 else 1.0 for step in range(STEPS)],
}


def closed_form(config: OptimizerConfig, start: float, gradients: list[float], shares: list[float]) -> float:
    """Return where one weight ends, by the formulas of the documents, written out."""
    w, v, m, s = start, 0.0, 0.0, 0.0
    first, second = config.betas
    for count, (gradient, share) in enumerate(zip(gradients, shares, strict=True), 1):
        rate = config.lr * share
        if config.name == "sgd":
            if not config.decoupled:
                gradient += config.weight_decay * w
            v = config.momentum * v + gradient
            kept = 1 - share * config.weight_decay if config.decoupled else 1.0
            w = kept * w - rate * v
        else:
            m, s = first * m + (1 - first) * gradient, second * s + (1 - second) * gradient**2
            kept = 1 - (share if config.decoupled else rate) * config.weight_decay
            w = kept * w - rate * (m / (1 - first**count)) / (math.sqrt(s / (1 - second**count)) + config.eps)
    return w


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("size", [0.0, 0.3])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize(("name", "lr"), [("sgd", PEAK), ("adamw", PEAK), ("sgd", 0.0), ("adamw", 0.0)])
def test_decay_is_the_closed_form(name: str, lr: float, decoupled: bool, size: float, shares: list[float]) -> None:
    config = OptimizerConfig(name=name, lr=lr, weight_decay=DECAY, momentum=MOMENTUM, decoupled=decoupled)
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(0.7)
    optimizer = Optimizer(model, config)
    gradients = [size * math.sin(step) for step in range(STEPS)]
    for gradient, share in zip(gradients, shares, strict=True):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step(share)
    assert model.weight.item() == pytest.approx(closed_form(config, 0.7, gradients, shares), rel=1e-12)


def test_sgds_decoupled_decay_keeps_out_of_the_momentum() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    optimizer = Optimizer(model, OptimizerConfig(name="sgd", lr=0.01, weight_decay=1e-4, momentum=0.9))
    for _ in range(200):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step(1.0)
    assert model.weight.item() == pytest.approx((1 - 1e-4) ** 200, rel=1e-12)  # 0.980; through the momentum 0.825


@pytest.mark.parametrize("decoupled", [True, False])
def test_muons_decay_is_times_its_own_rate_whatever_decoupled_says(decoupled: bool) -> None:
    model = tiny().double()
    weight = model.blocks[0].attention.out.weight
    before, shares = weight.detach().clone(), SHARES["cosine"][:20]
    config = OptimizerConfig(name="muon", muon_lr=0.03, muon_decay=0.5, weight_decay=0.2, decoupled=decoupled)
    optimizer = Optimizer(model, config)
    for share in shares:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step(share)
    kept = math.prod(1 - 0.03 * share * 0.5 for share in shares)
    torch.testing.assert_close(weight.detach(), before * kept, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_what_has_no_gradient_does_not_decay(name: str) -> None:
    model = tiny()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, OptimizerConfig(name=name, lr=0.1, weight_decay=0.2, muon_decay=0.2))
    model.head.weight.grad = torch.zeros_like(model.head.weight)
    optimizer.step(1.0)
    for place, parameter in model.named_parameters():
        assert torch.equal(parameter, before[place]) or place == "head.weight", place


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
    average = build_average(model, 0.9)
    expected = None
    for count in range(6):
        with torch.no_grad():
            model.weight.fill_(float(count))
        average.update_parameters(model)
        rate = min(0.9, (1 + count) / (10 + count))
        expected = float(count) if expected is None else expected * rate + count * (1 - rate)
    assert float(average.module.weight.detach()) == pytest.approx(expected)
