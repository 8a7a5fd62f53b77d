"""What every objective is: the owner of the model, which maps a batch to its loss."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.vit import ViT

OWN = "model."
"""Beginning of the names of the model's tensors within an objective's."""


class Objective(nn.Module):
    """Owns the model and whatever else is trained with it.

    `forward(images, *inputs)` returns the mean loss of a batch, and numbers worth watching; images are normalised
    pixels (batch, channel, row, col), inputs what `inputs` returns.
    """

    labelled: ClassVar[bool] = True
    """Whether it needs labels; validation then measures what the head says, and else this loss."""
    multilabel: ClassVar[bool] = False
    """Whether an example may have several labels, each with a probability of its own (a sigmoid)."""
    draws: ClassVar[int] = 0
    """Uniform random numbers a patch, 0 to 1, that `inputs` is given."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def trained(self) -> nn.Module:
        """What an optimizer gets: all of it, or the model alone where there is nothing else."""
        return self

    def noise(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch draw token"]:
        """Return the random numbers of `count` examples, drawn on the CPU: the same for any device and micro-batch."""
        grid = self.model.config.grid
        return torch.rand((count, self.draws, grid.rows * grid.cols if self.draws else 0), generator=generator)

    def inputs(self, part: Batch, noise: Float[Tensor, "batch draw token"]) -> tuple[Tensor, ...]:
        """Return what `forward` takes beside the images."""
        raise NotImplementedError

    def shares(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return what a training record says beside the loss.

        Args:
            sums: of the numbers that `forward` returned, and how many "samples" they are of, at least one.
        """
        return {}

    def extras(self) -> dict[str, Tensor]:
        """Return what is trained beside the model, for a checkpoint."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(OWN)}

    def load_extras(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `extras` returned; raises RuntimeError for anything else."""
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(OWN)}
        self.load_state_dict(own | tensors)


def require_trunk(model: Model, what: str) -> ViT:
    """Return a model that can be trained without labels.

    Raises:
        ConfigError: it is no ViT, sees more than its patches through a stem, has a head, or a single patch.
    """
    if not isinstance(model, ViT):
        raise ConfigError(
            f"{what} hides patches, and a ResNet has none; choose a Vision Transformer such as --model S/16"
        )
    config = model.config
    if config.stem.kind != "none":
        raise ConfigError(f"{what} hides patches, and a stem looks across them; choose a model without one")
    if config.classes:
        raise ConfigError(f"{what} trains a model without head; set --model.classes 0")
    if config.tokens - config.prefix < 2:
        raise ConfigError(f"{what} needs at least two patches, and the grid is {config.grid}; choose smaller patches")
    return model


def count_share(share: float, setting: str, patches: int) -> int:
    """Return how many patches a share is, to the nearest: at least one, and not all. `setting` holds the share.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"objective.{setting} is {share}; it must be above 0 and below 1")
    return min(patches - 1, max(1, round(share * patches)))
