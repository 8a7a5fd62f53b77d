"""Optimizers over parameter groups, and their state as flat tensors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vitreous.errors import ConfigError
from vitreous.model.batch_norm import list_statistics
from vitreous.model.parameters import Role, roles
from vitreous.storage.shards import Pieces
from vitreous.training.config import OptimizerConfig
from vitreous.training.muon import Muon
from vitreous.training.optimizer_class import build_named, is_class
from vitreous.training.optimizer_state import read_state, write_state
from vitreous.training.sharding import gather_whole, take_local


@dataclass(frozen=True)
class Trained:
    """A parameter that is trained."""

    name: str
    parameter: Tensor
    role: Role
    rate: float = 1.0
    """Factor on the learning rate."""


class Optimizer:
    """One or two torch optimizers that share a schedule, with their state addressed by parameter name."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        precision: torch.dtype | None = None,
        rates: Mapping[Tensor, float] = MappingProxyType({}),
    ) -> None:
        """`rates`: factors on the learning rate of some parameters."""
        known = roles(model)
        trained = [
            Trained(name, p, known[name], rates.get(p, 1.0)) for name, p in model.named_parameters() if p.requires_grad
        ]
        if not trained:
            raise ConfigError("every parameter is frozen, so there is nothing to train; choose another --freeze")
        self.config = config
        self.names = {one.parameter: one.name for one in trained}
        self.parts = list(build_optimizers(trained, config, precision))
        self.peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, share: float) -> None:
        """Take one step at this share of the peak learning rate, and clear the gradients."""
        for part, peaks in zip(self.parts, self.peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * share
                apply_decay(group, share)
            part.step()
            part.zero_grad(set_to_none=True)

    def clip(self) -> Tensor:
        """Scale gradients down to the configured global norm; return the norm before, a scalar tensor."""
        limit = self.config.clip or float("inf")
        return gather_whole(nn.utils.clip_grad_norm_(list(self.names), limit))

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as {"<kind>.<parameter name>": tensor}."""
        named = is_class(self.config.name)
        found: dict[str, Tensor] = {}
        for part in self.parts:
            found |= read_state(part, self.names, groups=named)
        return found

    def load_state_tensors(self, tensors: Mapping[str, Tensor | Pieces]) -> None:
        """Restore what state_tensors returned, whole or in pieces, on each parameter's device and divided as it is."""
        write_state(self.parts, self.names, tensors)


def build_optimizers(
    trained: list[Trained], config: OptimizerConfig, precision: torch.dtype | None = None
) -> Iterable[torch.optim.Optimizer]:
    """Yield the torch optimizers that `config` describes; `precision` is that of Muon's products."""
    muon = [one for one in trained if config.name == "muon" and one.role.matrices]
    rest = [one for one in trained if config.name != "muon" or not one.role.matrices]
    if muon:
        groups = group_by_rate(muon, config.muon_lr, lambda some: build_muon_groups(some, config))
        yield Muon(groups, lr=config.muon_lr, momentum=config.muon_momentum, precision=precision)
    groups = group_by_rate(rest, config.lr, lambda some: build_groups(some, config))
    if is_class(config.name):
        yield build_named(groups, config)
    elif rest and config.name == "sgd":
        yield torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    elif rest:
        yield torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def group_by_rate(trained: list[Trained], lr: float, build: Callable[[list[Trained]], list[dict]]) -> list[dict]:
    """Return the groups of parameters, one for each rate; a factor of 1 leaves the optimizer's own."""
    groups = []
    for rate in sorted({one.rate for one in trained}, reverse=True):
        for group in build([one for one in trained if one.rate == rate]):
            if rate != 1:  # decay uses each parameter's own rate
                group |= {"lr": lr * rate, "decoupled": group.get("decoupled", 0.0) * rate}
            groups.append(group)
    return groups


def build_groups(trained: list[Trained], config: OptimizerConfig) -> list[dict]:
    """Split parameters into those with weight decay and those without.

    Decoupled decay uses torch's own where the learning rate can be divided out of it: AdamW, at a rate above 0.
    Otherwise a group's "decoupled" says what `apply_decay` does; torch's SGD would pass it through the momentum, and what other
    classes do with a decay isn't known.
    """
    split = [[one.parameter for one in trained if one.role.decays == decays] for decays in (True, False)]
    decayed: dict[str, Any] = {"params": split[0], "weight_decay": config.weight_decay}
    if config.decoupled and config.name in ("adamw", "muon") and config.lr:
        decayed["weight_decay"] = config.weight_decay / config.lr
    elif config.decoupled:
        decayed |= {"weight_decay": 0.0, "decoupled": config.weight_decay}
    return [group for group in (decayed, {"params": split[1], "weight_decay": 0.0}) if group["params"]]


@torch.no_grad()
def apply_decay(group: dict[str, Any], share: float) -> None:
    """Shrink a group's weights by its decoupled decay, at this share of the peak learning rate."""
    weights = [parameter for parameter in group["params"] if parameter.grad is not None]
    if group.get("decoupled") and weights:
        torch._foreach_mul_(take_local(weights), 1 - share * group["decoupled"])


def build_muon_groups(trained: list[Trained], config: OptimizerConfig) -> list[dict]:
    """Group matrices by how many of them are stacked in one parameter."""
    counts = sorted({one.role.matrices for one in trained}, reverse=True)
    return [
        {
            "params": [one.parameter for one in trained if one.role.matrices == count],
            "weight_decay": config.muon_decay,
            "parts": count,
        }
        for count in counts
    ]


class Average(AveragedModel):
    """A moving average of the parameters, and of batch norm's running statistics. Other buffers are constants, and the average
    has its own: those of a model that trains at a low resolution differ temporarily.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the model: all the way at first, then by 1 - decay, or by more while there are few updates."""
        count = int(self.n_averaged)
        rate = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(take_local(self.module.parameters()), take_local(model.parameters()), 1 - rate)
        if statistics := list_statistics(model):
            torch._foreach_lerp_(list_statistics(self.module), statistics, 1 - rate)
        self.n_averaged += 1


def build_average(model: nn.Module, decay: float) -> Average:
    """Return a moving average of the weights (Polyak averaging).

    The decay ramps up as (1 + n) / (10 + n) after n updates, so that short runs aren't averages of the initial weights.
    """
    return Average(model, decay)
