"""From the encoder's outputs to the image's representation, and to logits (2010.11929, equation 4, section 3.2)."""

from jaxtyping import Float
from torch import Tensor, nn

from vitreous.model.config import ViTConfig


class Pool(nn.Module):
    """Represent the image by the [class] token's output, or by the mean over the patches' outputs."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind, self.first_patch = config.pool, int(config.class_token)

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch dim"]:
        """Pool a normalised sequence."""
        return tokens[:, 0] if self.kind == "class" else tokens[:, self.first_patch :].mean(dim=1)


class PreLogits(nn.Sequential):
    """The hidden tanh layer of the paper's pre-training head."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.Tanh())
