"""The model's norms and activations, by name."""

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.model.config import ViTConfig
from vitreous.shapes import Float


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): the activation of OpenAI's CLIP."""

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Activate."""
        return values * torch.sigmoid(1.702 * values)


def check_channels(images: Float[Tensor, "batch channel row col"], channels: int) -> None:
    """Refuse images of another number of channels than a model's; raises ConfigError."""
    if images.shape[1] != channels:
        raise ConfigError(
            f"the model expects images of {channels} channels (batch, channel, row, col), not {tuple(images.shape)}"
        )


def build_norm(config: ViTConfig, width: int | None = None) -> nn.Module:
    """Return the configured norm over vectors of `width`, by default the residual stream's."""
    kind = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[config.block.norm]
    return kind(config.width if width is None else width, eps=config.norm_eps)


def build_activation(name: str) -> nn.Module:
    """Return the activation of that name (see BlockConfig.activation)."""
    kinds = {"gelu": nn.GELU, "gelu-tanh": lambda: nn.GELU("tanh"), "quick-gelu": QuickGELU, "silu": nn.SiLU}
    return kinds[name]()
