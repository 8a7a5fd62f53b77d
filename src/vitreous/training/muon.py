"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al., 2024, kellerjordan.github.io/posts/muon).

torch.optim.Muon does the same but always orthogonalises in bfloat16, which a CPU without bfloat16 units emulates, and
one matrix at a time. This one works in a given precision, on all matrices of one shape at once, and treats q, k and v
separately.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration that drives singular values towards 1 (Jordan et al.)."""
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    The update of a (rows, cols) matrix is scaled by sqrt(max(1, rows / cols)), as in Jordan et al. A convolution's
    kernel is flattened to a matrix with a row for each output.

    Args:
        params: groups of matrices, or of kernels. A group's `parts` (default 1) says how many matrices are stacked
            along the rows of
            each parameter: 3 for a fused qkv.
        lr: learning rate.
        weight_decay: decay, times the learning rate.
        momentum: decay rate of the momentum, 0 to below 1.
        precision: of the products in the orthogonalisation; None: the parameters' own. bfloat16 is enough (Jordan et
            al.), and
            pays where the hardware multiplies it.
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
            updates: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])
                matrices = update.flatten(1).unflatten(0, (group["parts"], -1))
                updates[matrices.shape].append((parameter, matrices))
            for same in updates.values():
                self._apply(same, group)

    def _apply(self, same: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Orthogonalise matrices of one shape together, and step."""
        stacked = torch.cat([matrices for _, matrices in same])
        scale = max(1.0, stacked.shape[1] / stacked.shape[2]) ** 0.5
        directions = orthogonalize(stacked.to(self.precision)).to(stacked.dtype).split(group["parts"])
        for (parameter, _), direction in zip(same, directions, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(direction.reshape(parameter.shape), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Float[Tensor, "stack row col"]) -> Float[Tensor, "stack row col"]:
    """Replace every singular value by one near 1 (between about 0.7 and 1.2), keeping the singular vectors."""
    a, b, c = COEFFICIENTS
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ wide
    return wide.mT if matrices.shape[1] > matrices.shape[2] else wide
