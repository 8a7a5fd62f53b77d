"""Optimizers of other modules: the class's own steps, whole states, consent to import, and what is refused in one line."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.training import TINY, digest
from torch import nn

import vitreous
from vitreous.errors import ConfigError, RunError, UnknownName, UserError
from vitreous.run_folder import read_run
from vitreous.settings import to_dict
from vitreous.training.config import OptimizerConfig
from vitreous.training.optimizer import Optimizer
from vitreous.training.optimizer_class import find_class, trust_optimizers
from vitreous.training.optimizer_trial import try_optimizer
from vitreous.training.run import train

CLASSES: dict[str, dict[str, Any]] = {
    "ASGD": {"t0": 2}, "Adadelta": {"rho": 0.8}, "Adafactor": {}, "Adagrad": {"initial_accumulator_value": 0.1}, "Adam": {"amsgrad": True},
    "AdamW": {"betas": [0.8, 0.9]}, "Adamax": {}, "NAdam": {"momentum_decay": 0.01, "decoupled_weight_decay": True},
    "RAdam": {"betas": [0.7, 0.8]}, "RMSprop": {"momentum": 0.5, "centered": True}, "Rprop": {}, "SGD": {"momentum": 0.7, "nesterov": True},
}  # fmt: skip
"""torch's classes for dense gradients of any shape, with settings other than their defaults."""
MINE = '''
import torch

class Counting(torch.optim.Optimizer):
    """SGD whose rate depends on Python's numbers: of each parameter, and of the group."""
    def __init__(self, params, lr, bold=False):
        super().__init__(params, {"lr": lr, "seen": 0, "scale": 1.0, "weight_decay": 0.0})
        self.bold = bold
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["seen"] += 1
            group["scale"] *= 0.9
            for one in group["params"]:
                if one.grad is not None:
                    state = self.state[one]
                    state["sum"] = state.get("sum", 0.0) + float(one.grad.abs().mean())
                    state["steps"] = state.get("steps", 0) + 1
                    one.sub_(one.grad, alpha=group["lr"] * group["scale"] * state["steps"] / (group["seen"] + state["sum"]))

class Forgetful(Counting):
    """Keeps a number where no checkpoint finds it."""
    kept = 0
    def step(self, closure=None):
        self.kept += 1
        for group in self.param_groups:
            group["scale"] = float(self.kept)
        super().step()

class Random(Counting):
    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for one in group["params"]:
                one.add_(torch.randn_like(one))

class Rateless(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, whose import leaves a trace."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "my_optimizers.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write('x')\n{MINE}")
    (folder / "my_broken.py").write_text("raise OSError('no such\\ndevice')")
    monkeypatch.syspath_prepend(folder)
    yield "my_optimizers"
    sys.modules.pop("my_optimizers", None)


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def build_layers() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))


@pytest.mark.parametrize(
    ("name", "decoupled"), [(name, True) for name in CLASSES] + [(name, False) for name in CLASSES if name != "Rprop"]
)
def test_a_class_of_torch_takes_its_own_steps_and_goes_on_to_the_same_bits(name: str, decoupled: bool) -> None:
    config = OptimizerConfig(
        name=f"torch.optim:{name}", keywords=CLASSES[name], lr=0.03, weight_decay=0.2, decoupled=decoupled
    )
    shares, model = (1.0, 0.5, 0.25), build_layers()
    optimizer = Optimizer(model, config)
    plain = build_layers()
    kernels = [one for one in plain.parameters() if one.ndim > 1]
    biases = [one for one in plain.parameters() if one.ndim == 1]
    groups = [{"params": kernels, "weight_decay": 0.0 if decoupled else 0.2}, {"params": biases, "weight_decay": 0.0}]
    theirs = getattr(torch.optim, name)(groups, lr=0.03, **CLASSES[name])
    for step, share in enumerate(shares):
        if step == 2:
            resumed = build_layers()
            resumed.load_state_dict(model.state_dict())
            again = Optimizer(resumed, config)
            again.load_state_tensors({key: value.clone() for key, value in optimizer.state_tensors().items()})
            give_gradients(resumed, step)
            again.step(share)
        give_gradients(model, step)
        give_gradients(plain, step)
        optimizer.step(share)
        with torch.no_grad():
            for kernel in kernels if decoupled else ():
                kernel.mul_(1 - share * 0.2)
        for group in theirs.param_groups:
            group["lr"] = 0.03 * share
        theirs.step()
    for one, other, third in zip(model.parameters(), resumed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, third, rtol=1e-6, atol=1e-7)
    try_optimizer(config)


def test_a_user_s_class_keeps_its_numbers_and_groups(mine: str, tmp_path: Path) -> None:
    name = f"{mine}:Counting"
    config = replace(TINY, optimizer=OptimizerConfig(name=name, keywords={"bold": True}, lr=0.5, layer_decay=0.8))
    with trust_optimizers(name):
        straight = train(config, tmp_path / "straight")
    settings = to_dict(config)
    stopping = Stop(5)
    with pytest.raises(LookupError):
        vitreous.train(config=settings, out=tmp_path / "run", callbacks=[stopping])
    assert read_run(tmp_path / "run").checkpoints[-1] == 5
    before = (tmp_path / "modules" / "imported").read_text()
    sys.modules.pop(mine)
    with pytest.raises(ConfigError, match=rf"a file names the optimizer {name}.*give --optimizer {name}"):
        vitreous.resume(tmp_path / "run")
    with pytest.raises(ConfigError, match="a file names"):
        vitreous.train(config=tmp_path / "run", out=tmp_path / "other")
    with pytest.raises(RunError, match=f"trained by {name}, not by sgd"):
        vitreous.resume(tmp_path / "run", optimizer="sgd")
    assert (tmp_path / "modules" / "imported").read_text() == before
    result = vitreous.resume(tmp_path / "run", optimizer=name)
    assert digest(result.run) == digest(straight.run)
    vitreous.train(config=tmp_path / "run", out=tmp_path / "again", settings={"optimizer": {"name": name}})
    assert digest(tmp_path / "again") == digest(straight.run)


class Stop(vitreous.Callback):
    def __init__(self, step: int) -> None:
        self.last = step

    def on_step(self, step: int, numbers: Any, model: nn.Module) -> None:
        if step == self.last:
            raise LookupError


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("Forgetful", {}, "couldn't be resumed to the same bits"),
        ("Random", {}, "couldn't be resumed to the same bits"),
        ("Rateless", {}, "takes no lr"),
        ("Counting", {"bald": True}, "unknown keyword of .*'bald'; did you mean 'bold'"),
        ("Counting", {"lr": 1.0}, "give it by --optimizer.lr"),
        ("Countin", {}, "unknown class in my_optimizers 'Countin'; did you mean 'Counting'"),
        ("torch", {}, "is not a subclass"),
    ],
)
def test_what_is_no_use_is_refused_before_data(mine: str, name: str, keywords: dict[str, Any], message: str) -> None:
    settings = {"optimizer": {"name": f"{mine}:{name}", "keywords": keywords}}
    with pytest.raises(UserError, match=message) as caught:
        vitreous.train("/no/such/data", settings=settings)
    assert "\n" not in str(caught.value)


def test_modules_and_names_that_can_t_be_used(mine: str) -> None:
    for name, message in (
        ("my_absent:One", "No module named 'my_absent'; install it"),
        ("my_broken:One", "importing my_broken fails: OSError: no such device"),
        ("torch.optim:LBFGS", "can't be made"),
        ("torch.optim:SparseAdam", "a step fails"),
        ("torch.optim:Muon", "can't be made"),
    ):
        with trust_optimizers(name), pytest.raises(ConfigError, match=message):
            try_optimizer(OptimizerConfig(name=name))
    with pytest.raises(ConfigError, match="a file names"):
        find_class("json:JSONDecoder")
    with pytest.raises(ConfigError, match="can't be divided"):
        try_optimizer(OptimizerConfig(name="torch.optim:Adafactor"), divided=True)
    for name in ("adan", "torch.optim:", "a b:C", "a:b:c", ":C"):
        with pytest.raises(UnknownName, match="Known: adamw, sgd, muon, module:Class"):
            vitreous.train("/no/such/data", settings={"optimizer": {"name": name}})


def test_decay_that_a_class_hasn_t_is_refused_unless_it_is_decoupled(mine: str) -> None:
    name = f"{mine}:Plain"
    (Path(sys.path[0]) / f"{mine}.py").write_text(
        MINE.replace(', "weight_decay": 0.0', "").replace("Counting", "Plain")
    )
    with trust_optimizers(name):
        with pytest.raises(ConfigError, match="no weight decay of its own; set --optimizer"):
            try_optimizer(OptimizerConfig(name=name, decoupled=False))
        try_optimizer(OptimizerConfig(name=name, decoupled=False, weight_decay=0.0))
        layers = build_layers()
        before = layers[0].weight.detach().clone()
        optimizer = Optimizer(layers, OptimizerConfig(name=name, weight_decay=0.25))
    for parameter in layers.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5)
    torch.testing.assert_close(layers[0].weight.detach(), before * (1 - 0.5 * 0.25))


def test_rates_follow_the_batch_by_the_stated_rule() -> None:
    given = OptimizerConfig(name="muon", lr=3e-4, muon_lr=0.01, base_batch=128)
    for rule, factor in (("fixed", 1.0), ("linear", 4.0), ("sqrt", 2.0)):
        scaled = replace(given, batch_rule=rule).scale_to(512)
        assert (scaled.lr, scaled.muon_lr) == pytest.approx((3e-4 * factor, 0.01 * factor))


def test_a_run_trains_at_the_rate_of_its_batch_and_records_the_rule(tmp_path: Path, trained_once: Any) -> None:
    rule = replace(TINY.optimizer, lr=TINY.optimizer.lr * 2, batch_rule="linear", base_batch=64)
    result = train(replace(TINY, optimizer=rule), tmp_path / "run")
    plain = trained_once(TINY)
    assert digest(result.run) == digest(plain.run)
    record = read_run(result.run)
    assert record.config["config"]["optimizer"]["batch_rule"] == "linear"
    assert record.config["config"]["optimizer"]["lr"] == rule.lr
    rates = [
        [one["lr"] for one in read_run(path).metrics if one["kind"] == "train"] for path in (result.run, plain.run)
    ]
    assert rates[0] == rates[1]
