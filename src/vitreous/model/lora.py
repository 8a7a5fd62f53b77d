"""Low-rank adaptation of a model's dense layers (LoRA, 2106.09685)."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.model.parameters import KERNEL, ZERO, Dense, Role
from vitreous.shapes import Float

LAYERS = ("qkv", "out", "expand", "contract")
"""The encoder's dense layers: of attention and of the MLP."""


class LoRA(nn.Module):
    """A frozen dense layer plus a learned update of low rank: W x + (alpha / rank) B A x.

    B starts at zero, so the layer starts unchanged. `merge` folds the update into the weight; `unmerge` restores the
    weight to the bit, from a copy. Muon doesn't take the two factors, because it would give both of them singular
    values of 1.
    """

    roles: ClassVar = {"down": KERNEL, "up": Role(decays=True, start=ZERO)}

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        device = base.weight.device
        bound = math.sqrt(3 / base.in_features)  # Kaiming uniform with a = sqrt(5), as in the authors' code
        drawn = torch.rand(rank, base.in_features, generator=generator)
        self.down = nn.Parameter(((drawn * 2 - 1) * bound / math.sqrt(3)).to(device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self.unmerged_weight: Tensor | None = None

    @property
    def in_features(self) -> int:
        """Width of the inputs."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the outputs."""
        return self.base.out_features

    def forward(self, values: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """Apply the layer with its update."""
        plain = self.base(values)
        if self.unmerged_weight is not None:
            return plain
        return plain + self.scale * ((values @ self.down.to(values.dtype).T) @ self.up.to(values.dtype).T)

    def merge(self) -> None:
        """Fold the update into the weight."""
        if self.unmerged_weight is None:
            self.unmerged_weight = self.base.weight.detach().clone()
            with torch.no_grad():
                self.base.weight += (self.scale * self.up.double() @ self.down.double()).to(self.base.weight)

    def unmerge(self) -> None:
        """Restore the weight."""
        if self.unmerged_weight is not None:
            with torch.no_grad():
                self.base.weight.copy_(self.unmerged_weight)
            self.unmerged_weight = None


def add_lora(
    model: nn.Module, rank: int, alpha: float | None = None, layers: Sequence[str] = LAYERS, seed: int = 0
) -> None:
    """Wrap LoRA around the encoder's dense layers, and freeze everything else but the head.

    Args:
        model: a ViT or a Swin Transformer.
        rank: of the updates, 1 or more.
        alpha: scale of the updates, divided by the rank; None: as the rank, so the scale is 1.
        layers: the dense layers to wrap; see LAYERS.
        seed: of the initial A.

    Raises:
        ConfigError: an impossible rank, or unknown layers.
    """
    if rank < 1:
        raise ConfigError(f"the rank of LoRA is {rank}; it must be at least 1")
    unknown = sorted(set(layers) - set(LAYERS))
    if unknown:
        raise ConfigError(f"LoRA wraps {', '.join(LAYERS)}, not {', '.join(unknown)}")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for head in model.heads.values():
        head.requires_grad_(True)
    blocks = nn.ModuleList(model.blocks)
    for place, base in list(blocks.named_modules()):
        parent, _, own = place.rpartition(".")
        if own in layers and isinstance(base, Dense):  # those of positions' MLPs are plain
            updated = LoRA(base, rank, rank if alpha is None else alpha, generator)
            setattr(blocks.get_submodule(parent), own, updated)


def merge_lora(model: nn.Module) -> None:
    """Fold every update into its weight."""
    for layer in iterate_adapted(model):
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Restore every weight, to the bit."""
    for layer in iterate_adapted(model):
        layer.unmerge()


def merge_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of the equivalent plain model, with the updates folded in, under the plain names."""
    updates = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRA)}
    state = {}
    for name, tensor in model.state_dict().items():
        parent, _, own = name.rpartition(".")
        layer = updates.get(parent.removesuffix(".base"))
        if layer is None:
            state[name] = tensor
        elif own == "weight" and layer.unmerged_weight is None:
            state[name.replace(".base.", ".")] = tensor + (layer.scale * layer.up.double() @ layer.down.double()).to(
                tensor
            )
        elif own in ("weight", "bias"):
            state[name.replace(".base.", ".")] = tensor
    return {name: tensor.detach() for name, tensor in state.items()}


def iterate_adapted(model: nn.Module) -> Iterator[LoRA]:
    """Yield a model's LoRA layers."""
    yield from (module for module in model.modules() if isinstance(module, LoRA))
