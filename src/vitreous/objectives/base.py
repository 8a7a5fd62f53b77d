"""The interface of every objective: it owns the model and maps a batch to its loss."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.kinds import name_kind
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Float

OWN = "model."
"""Prefix of the model's tensors within an objective."""


class Objective(nn.Module):
    """Owns the model and everything that is trained with it.

    `forward(images, *inputs)` returns the mean loss of a batch, and numbers worth watching. Images are normalised
    pixels (batch, channel, row, col); `inputs` are what the method of that name returns.
    """

    labelled: ClassVar[bool] = True
    """Whether it needs labels; if so, validation measures the head's answers, and otherwise this loss."""
    multilabel: ClassVar[bool] = False
    """Whether an example may have several labels, each with its own probability (a sigmoid)."""
    draws: ClassVar[int] = 0
    """Uniform random numbers per patch, 0 to 1, that `inputs` receives."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def trainable(self) -> nn.Module:
        """The module given to the optimizer: all of it, or only the model if there is nothing else."""
        return self

    def predict(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return the model's output for normalised images."""
        return self.model(images)

    def noise(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch draw token"]:
        """Return the random numbers of `count` examples, drawn on the CPU: the same for any device and micro-batch."""
        grid = self.model.config.grid
        return torch.rand((count, self.draws, grid.rows * grid.cols if self.draws else 0), generator=generator)

    def inputs(self, part: Batch, noise: Float[Tensor, "batch draw token"]) -> tuple[Tensor, ...]:
        """Return the arguments of `forward` after the images."""
        raise NotImplementedError

    def shares(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of a training record other than the loss.

        Args:
            sums: totals of the numbers that `forward` returned, and the number of "samples" in them, at least one.
        """
        return {}

    def extras(self) -> dict[str, Tensor]:
        """Return what is trained besides the model, for a checkpoint."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(OWN)}

    def load_extras(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `extras` returned; raises RuntimeError for anything else."""
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(OWN)}
        self.load_state_dict(own | tensors)


def require_trunk(model: Model, what: str) -> ViT:
    """Return a model that can be trained without labels.

    Raises:
        ConfigError: it is not a ViT, has a stem that looks across patches, has a head, or has a single patch.
    """
    if isinstance(model, Swin):
        raise ConfigError(
            f"{what} predicts or leaves out single patches, but a Swin Transformer merges them between stages and needs whole "
            "grids; choose a Vision Transformer such as --model S/16"
        )
    if not isinstance(model, ViT):
        raise ConfigError(
            f"{what} hides patches, which {name_kind(model.config.KIND)} doesn't have; choose a Vision Transformer such as --model S/16"
        )
    config = model.config
    if config.stem.kind != "none":
        raise ConfigError(f"{what} hides patches, but a stem looks across them; choose a model without one")
    if config.classes:
        raise ConfigError(f"{what} trains a model without a head; set --model.classes 0")
    if config.tokens - config.prefix < 2:
        raise ConfigError(f"{what} needs at least two patches, but the grid is {config.grid}; choose smaller patches")
    return model


def count_share(share: float, setting: str, patches: int) -> int:
    """Return the number of patches nearest to a share: at least one, and not all. `setting` names the share in errors.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"objective.{setting} is {share}; it must be above 0 and below 1")
    return min(patches - 1, max(1, round(share * patches)))
