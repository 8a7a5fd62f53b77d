"""What each parameter is, as the module that makes it declares: how it starts, and how an optimizer treats it.

A module names its own parameters in `roles`; torch's layers are known by their class. The declaration lies with the
module, not with the tensor: copies, loading, another device and resizing replace tensors, and modules stay. A parameter
that nobody declared is an error, so that a new kind of module can't be trained by a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Role:
    """How an optimizer treats a parameter, and what it starts from where no layer's rule says."""

    decays: bool
    """Whether weight decay applies."""
    matrices: int = 0
    """Matrices of a Transformer block, one below the other in its rows, or the kernel of a ResNet's unit: what Muon takes; 0: it is
    neither."""
    deviation: float | None = None
    """Standard deviation of the normal draws that it starts from, 0: zeros; None: the rule of its layer."""


KERNEL = Role(decays=True)
"""Weights of a dense layer or a convolution."""
VECTOR = Role(decays=False)
"""Biases, and the scales of norms and branches."""
ZEROS = Role(decays=False, deviation=0.0)
"""Tokens and free biases that start at zero."""
TABLE = Role(decays=False, deviation=0.02)
"""Positions of every kind, registers, queries, [mask]: learned vectors that no input multiplies."""

LAYERS: tuple[tuple[type[nn.Module], Role], ...] = (
    (nn.Linear, KERNEL),
    (_ConvNd, KERNEL),
    (nn.LayerNorm, VECTOR),
    (nn.RMSNorm, VECTOR),
    (nn.GroupNorm, VECTOR),
)
"""The role of `weight` in torch's layers; their `bias` is a vector."""


class Dense(nn.Linear):
    """A dense layer whose rows hold several matrices, one below the other: q, k and v, or gate and value.

    Args:
        inputs: width of what it reads.
        outputs: width of what it gives, of all matrices together.
        bias: whether it has one.
        stacked: matrices in its rows, each of which starts, and is orthogonalised by Muon, by itself.
        in_block: whether it belongs to a Transformer block.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, stacked: int = 1, in_block: bool = True
    ) -> None:
        super().__init__(inputs, outputs, bias)
        self.stacked = stacked
        self.roles = {"weight": Role(decays=True, matrices=stacked if in_block else 0), "bias": VECTOR}


def roles(model: nn.Module) -> dict[str, Role]:
    """Return the role of every parameter, under the names and in the order of `named_parameters`."""
    owners = dict(model.named_modules())
    return {
        name: role(owners[name.rpartition(".")[0]], name.rpartition(".")[2]) for name, _ in model.named_parameters()
    }


def role(owner: nn.Module, name: str) -> Role:
    """Return the role of one of a module's own parameters."""
    declared: Mapping[str, Role] = getattr(owner, "roles", {})
    if name in declared:
        return declared[name]
    weight = next((found for kind, found in LAYERS if isinstance(owner, kind)), None)
    found = {"weight": weight, "bias": weight and VECTOR}.get(name)
    assert found is not None, f"{type(owner).__name__}.{name} has no role; name it in the module's `roles`"
    return found
