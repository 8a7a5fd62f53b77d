"""Initial weights, as in the authors' code: each parameter by the role that its module declares."""

import math

import torch
from torch import nn

from vitreous.model.parameters import roles
from vitreous.model.positions.rotary import MixedRotary

ORDER = ((nn.Linear, MixedRotary), (nn.Conv2d,), (nn.Module,))
"""The order in which parameters are drawn: by the module that holds them, then by name. It is part of what a seed
means."""


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Initialise every parameter in place, on the CPU, from a generator of its own.

    Every parameter is first filled with NaN, so that a forgotten one is noticed at once.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    owners, left = dict(model.named_modules()), roles(model)
    for kinds in ORDER:
        for name in [name for name in left if isinstance(owners[name.rpartition(".")[0]], kinds)]:
            start = left.pop(name).start or owners[name.rpartition(".")[0]].start
            start(model.get_parameter(name), generator)
    forgotten = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    assert not forgotten, f"not initialised: {forgotten}"
