"""Batch norm (1502.03167): the one layer here whose output for an image depends on the others of its batch in training."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.parameters import SCALE, ZEROS, Role
from vitreous.shapes import Float

Total = Callable[[Float[Tensor, " value"]], Float[Tensor, " value"]]
"""Returns the sum of numbers over the processes of a run, in all of them, and passes gradients on."""


class BatchNorm(nn.Module):
    """Normalise each channel over a batch and the whole map; in evaluation, and where it is frozen, by running statistics.

    A step in several parts (micro-batches) normalises each part by itself. Of several processes each one's part is
    normalised by the statistics of all, once `synchronise_norms` has given it their sum.
    """

    roles: ClassVar[dict[str, Role]] = {"weight": SCALE, "bias": ZEROS}

    def __init__(self, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.total: Total | None = None
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        """Normalise."""
        learns = self.training and self.weight.requires_grad
        if learns and self.total is not None:
            return self._normalise_together(maps, self.total)
        return F.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, learns, self.momentum, self.eps
        )

    def _normalise_together(
        self, maps: Float[Tensor, "batch channel row col"], total: Total
    ) -> Float[Tensor, "batch channel row col"]:
        """Normalise by mean and variance over all processes, first the one and then the other, in float32 or better."""
        channels = len(self.weight)
        values = maps.to(torch.promote_types(maps.dtype, torch.float32))
        count = values.new_full((1,), maps.numel() / channels)
        sums = total(torch.cat([values.sum((0, 2, 3)), count]))
        count = sums[channels].detach()
        mean = sums[:channels] / count
        centred = values - mean.view(1, -1, 1, 1)
        variance = total(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp_min(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return torch.addcmul(self.bias.view(1, -1, 1, 1), centred, scale.view(1, -1, 1, 1)).to(maps.dtype)


def list_statistics(module: nn.Module) -> list[Tensor]:
    """Return the running statistics of every batch norm: means and variances."""
    norms = (one for one in module.modules() if isinstance(one, BatchNorm))
    return [values for norm in norms for values in (norm.running_mean, norm.running_var)]


def synchronise_norms(module: nn.Module, total: Total) -> int:
    """Let every batch norm of a module use the statistics of all processes; return how many there are."""
    norms = [one for one in module.modules() if isinstance(one, BatchNorm)]
    for norm in norms:
        norm.total = total
    return len(norms)
