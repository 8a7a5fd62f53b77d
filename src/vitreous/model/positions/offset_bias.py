"""Biases of the attention's logits, computed from how far apart two patches lie (Swin v2, 2111.09883; timm's `relpos`)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.config import ViTConfig
from vitreous.model.parameters import Role, XavierUniform, declare
from vitreous.model.positions.relative import Relative, index_offsets
from vitreous.shapes import Float, Size

GAIN, REACH = 16.0, 8.0
"""Swin v2: the largest bias, and the range to which offsets are scaled before their logarithm."""
WEIGHTS = Role(decays=False, start=XavierUniform())
"""Of the MLP: like every position they don't decay, as in the authors' code."""


class OffsetBias(nn.Module):
    """A bias for each head and 2-D offset, by an MLP of the offset's logarithm. Prefix tokens have none.

    bias-log (timm's "cr"): sign x log(1 + |offset|). bias-log-swin (Swin v2): offsets are scaled to -8 to 8 first, logarithms
    divided by log 8, and the MLP's outputs pass through 16 x sigmoid.
    """

    places: Tensor
    coordinates: Tensor

    def __init__(self, config: ViTConfig, trained: Size | None = None) -> None:
        """`trained`: the window that offsets are scaled by, where the grid is another window over patches of the same
        size; None: the grid."""
        super().__init__()
        self.swin, self.prefix, self.grid = config.positions == "bias-log-swin", config.prefix, config.grid
        self.reach = trained or self.grid
        self.expand = declare(nn.Linear(2, config.position_mlp_width), weight=WEIGHTS)
        self.contract = declare(nn.Linear(config.position_mlp_width, config.heads, bias=not self.swin), weight=WEIGHTS)
        self.register_buffer("places", None, persistent=False)
        self.register_buffer("coordinates", None, persistent=False)
        self.place(config.grid)

    def forward(self, q: Float[Tensor, "batch head query head_dim"]) -> Float[Tensor, "1 head query key"]:
        """Return the biases to add to the logits of any queries."""
        return self.biases()

    def biases(self) -> Float[Tensor, "1 head query key"]:
        """Return the bias of each pair of tokens."""
        bias = self.contract(F.relu(self.expand(self.coordinates.to(self.expand.weight.dtype))))
        bias = bias[self.places].permute(2, 0, 1)
        if self.swin:
            bias = GAIN * torch.sigmoid(bias)
        return F.pad(bias, (self.prefix, 0, self.prefix, 0))[None]

    def place(self, grid: Size) -> None:
        """Serve another grid over the same picture: its cells are as many old cells apart as they cover."""
        weight = self.expand.weight
        device = weight.device if weight.device.type != "meta" else torch.device("cpu")
        axes = []
        for count, full, reach in zip(grid, self.grid, self.reach, strict=True):
            apart = torch.arange(1 - count, count, dtype=torch.float64, device="cpu") * (full / count)
            axes.append(apart * REACH / max(1, reach - 1) if self.swin else apart)
        offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=2).flatten(0, 1)
        logarithm = offset.sign() * offset.abs().log1p() / (math.log(REACH) if self.swin else 1)
        self.places = index_offsets("bias", grid, 0).to(device)
        self.coordinates = logarithm.float().to(device)


def build_relative(config: ViTConfig) -> Relative | OffsetBias | None:
    """Build the positions that act on the attention's logits, if the configuration names any."""
    if not config.in_attention:
        return None
    return Relative(config) if config.positions in ("relative", "bias") else OffsetBias(config)
