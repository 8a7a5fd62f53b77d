"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al., 2024, kellerjordan.github.io/posts/muon).

torch.optim.Muon does the same but always orthogonalises in bfloat16, which a CPU without bfloat16 units emulates, and
one matrix at a time. This one works in a given precision, on all matrices of one shape at once, and treats q, k and v
separately. Of several processes, each orthogonalises its share of the matrices, whole ones, also where these are divided.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from vitreous.shapes import Float
from vitreous.training.sharding import Owners, share_out, take_local

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration that drives singular values towards 1 (Jordan et al.)."""
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    The update of a (rows, cols) matrix is scaled by sqrt(max(1, rows / cols)), as in Jordan et al. A convolution's
    kernel is flattened to a matrix with a row for each output.

    Args:
        params: groups of matrices, or of kernels. A group's `parts` (default 1) says how many matrices are stacked
            along the rows of each parameter: 3 for a fused qkv.
        lr: learning rate.
        weight_decay: decay, times the learning rate.
        momentum: decay rate of the momentum, 0 to below 1.
        precision: of the products in the orthogonalisation; None: the parameters' own. bfloat16 is enough (Jordan et
            al.), and pays where the hardware multiplies it faster.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "parts": 1})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Take one step from the parameters' gradients."""
        assert closure is None, "Muon doesn't support a closure; call step() without one"
        for group in self.param_groups:
            parts = group["parts"]
            updates: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                own, momentum, gradient = take_local((parameter, buffer, parameter.grad))
                momentum.lerp_(gradient, 1 - group["momentum"])
                shape = (parameter.shape[0] // parts, math.prod(parameter.shape[1:]))
                key = tuple(parameter.shape) if isinstance(parameter, DTensor) else shape
                updates[key].append((parameter, gradient.lerp(momentum, group["momentum"])))
                own.mul_(1 - group["lr"] * group["weight_decay"])
            for same in updates.values():
                parameters = [parameter for parameter, _ in same]
                rows, *rest = parameters[0].shape
                scale = max(1.0, rows // parts / math.prod(rest)) ** 0.5
                for own, direction in zip(take_local(parameters), self._direct(same, parts), strict=True):
                    own.add_(direction, alpha=-group["lr"] * scale)

    def _direct(self, same: list[tuple[Tensor, Tensor]], parts: int) -> list[Tensor]:
        """Return the direction of each update of parameters of one shape: of this process's part, where they are divided."""
        if not isinstance(same[0][0], DTensor):
            return share_out([update for _, update in same], lambda some: self._orthogonalize(some, parts))
        owners, found = Owners(same[0][0]), []
        for first in range(0, len(same), owners.size):
            updates = [update for _, update in same[first : first + owners.size]]
            whole = owners.gather(updates)
            found += owners.scatter(None if whole is None else self._orthogonalize([whole], parts)[0], updates)
        return found

    def _orthogonalize(self, updates: list[Tensor], parts: int) -> list[Tensor]:
        """Orthogonalise whole matrices of one shape together; `parts` of them are stacked in each update."""
        stacked = torch.cat([update.flatten(1).unflatten(0, (parts, -1)) for update in updates])
        directions = orthogonalize(stacked.to(self.precision)).to(stacked.dtype).split(parts)
        return [direction.reshape(update.shape) for direction, update in zip(directions, updates, strict=True)]


def orthogonalize(matrices: Float[Tensor, "stack row col"]) -> Float[Tensor, "stack row col"]:
    """Replace every singular value by one near 1 (between about 0.7 and 1.2), keeping the singular vectors."""
    a, b, c = COEFFICIENTS
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ wide
    return wide.mT if matrices.shape[1] > matrices.shape[2] else wide
