"""The role of each parameter, declared by the module that makes it: its initial value, and how an optimizer treats it.

A module names its own parameters in `roles`; torch's layers are recognised by their class. The declaration belongs to
the module, not to the tensor: copying, loading, moving and resizing replace tensors, but modules stay. A parameter
without a declaration is an error, so that a new kind of module is never trained by a guess.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Layer = TypeVar("Layer", bound=nn.Module)


Start = Callable[[Tensor, torch.Generator], None]
"""Fills a parameter with its initial value."""


@dataclass(frozen=True)
class Constant:
    """The same number everywhere."""

    value: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill a tensor."""
        tensor.fill_(self.value)


@dataclass(frozen=True)
class Normal:
    """Normal draws of mean 0."""

    deviation: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill a tensor."""
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * self.deviation)


@dataclass(frozen=True)
class LeCunNormal:
    """Normal draws of variance 1 / inputs, without flax's cut at two deviations."""

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill a tensor, whose first axis is the outputs'."""
        Normal(tensor[0].numel() ** -0.5)(tensor, generator)


@dataclass(frozen=True)
class FanOutNormal:
    """Normal draws of variance 2 / outputs (1502.01852): the values that one input is multiplied by."""

    groups: int = 1
    """Groups of channels that are convolved by themselves."""

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill a kernel, whose first axis is the outputs' and whose second is the inputs'."""
        outputs = tensor[:, 0].numel() / self.groups
        Normal(math.sqrt(2 / outputs))(tensor, generator)


@dataclass(frozen=True)
class XavierUniform:
    """Uniform draws of variance 2 / (rows + cols) (Glorot and Bengio, 2010), for each of the stacked matrices by itself."""

    stacked: int = 1

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill a tensor."""
        for matrix in tensor.chunk(self.stacked):
            bound = math.sqrt(6 / sum(matrix.shape))
            matrix.copy_((torch.rand(matrix.shape, generator=generator) * 2 - 1) * bound)


ZERO, ONE = Constant(0.0), Constant(1.0)


@dataclass(frozen=True)
class Role:
    """How an optimizer treats a parameter, and its initial value."""

    decays: bool
    """Whether weight decay applies."""
    start: Start | None
    """Its initial value; None: what the method `start` of its module returns."""
    matrices: int = 0
    """Number of matrices that Muon takes: those of a Transformer block stacked in the parameter's rows, or the
    kernel of a ResNet's unit; 0: none."""


KERNEL = Role(decays=True, start=XavierUniform())
"""Weights of a dense layer."""
FILTER = Role(decays=True, start=LeCunNormal())
"""Weights of a convolution, or of a dense layer that acts as one."""
HEAD = Role(decays=True, start=ZERO)
"""Weights of a layer that outputs logits."""
ZEROS = Role(decays=False, start=ZERO)
"""Biases, and tokens that start at zero."""
SCALE = Role(decays=False, start=ONE)
"""The scales of norms."""
TABLE = Role(decays=False, start=Normal(0.02))
"""Positions of every kind, registers, queries, [mask]: learned vectors that no input multiplies."""

LAYERS: tuple[tuple[type[nn.Module], Role], ...] = (
    (nn.Linear, KERNEL),
    (_ConvNd, FILTER),
    (nn.LayerNorm, SCALE),
    (nn.RMSNorm, SCALE),
    (nn.GroupNorm, SCALE),
)
"""The role of `weight` in torch's layers; their `bias` starts at zero."""


class Dense(nn.Linear):
    """A dense layer whose rows hold several stacked matrices: q, k and v, or gate and value.

    Args:
        inputs: width of its input.
        outputs: width of its output, of all matrices together.
        bias: whether it has one.
        stacked: matrices in its rows; each is initialised, and orthogonalised by Muon, on its own.
        in_block: whether it belongs to a Transformer block.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, stacked: int = 1, in_block: bool = True
    ) -> None:
        super().__init__(inputs, outputs, bias)
        self.stacked = stacked
        matrices = stacked if in_block else 0
        self.roles = {"weight": Role(decays=True, start=XavierUniform(stacked), matrices=matrices), "bias": ZEROS}


def declare(layer: Layer, **roles: Role) -> Layer:
    """Give parameters of a layer roles other than those of its class, and return the layer."""
    layer.roles = {**getattr(layer, "roles", {}), **roles}
    return layer


@dataclass(frozen=True)
class Trunk:
    """A model without its heads, as `--freeze` freezes it."""

    positions: Sequence[nn.Module]
    front: Sequence[nn.Module | nn.Parameter]
    """The layers before the blocks, and positions that are in none of them."""
    blocks: Sequence[nn.Module]
    norm: nn.Module


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
    found = {"weight": weight, "bias": weight and ZEROS}.get(name)
    assert found is not None, f"{type(owner).__name__}.{name} has no role; name it in the module's `roles`"
    return found
