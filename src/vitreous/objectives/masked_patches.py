"""Masked patch prediction, the paper's self-supervision (2010.11929, section 4.6 and appendix B.1.2)."""

from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.init import initialise
from vitreous.model.parameters import HEAD, TABLE, declare
from vitreous.model.patches import cut_patches
from vitreous.model.vit import ViT
from vitreous.objectives.base import Objective, count_share, require_trunk
from vitreous.objectives.config import MaskedPatchesConfig
from vitreous.shapes import Float, Int64, Pixels, Size

LEVELS = 8
"""Shades of each channel: 3 bits."""
CELLS = 4
"""Rows and columns of the small version of a patch."""


class MaskedPatches(Objective):
    """Corrupts patch embeddings, and predicts the corrupted patches from their tokens after the last block.

    Each image has its own draws: `noise[:, 0]` ranks the patches, of which the lowest are corrupted; `noise[:, 1]`
    chooses how; `noise[:, 2]` chooses the other patch of the image that replaces a swapped one.

    Args:
        model: a ViT without a head.
        config: what is predicted, and how much is corrupted.
        seed: for the [mask] embedding; the head starts at zero.

    Raises:
        ConfigError: a model that has no patches to hide, or probabilities that add up to more than 1.
    """

    roles: ClassVar = {"mask_token": TABLE}
    labelled = False
    draws = 3
    model: ViT

    def __init__(self, model: Model, config: MaskedPatchesConfig, seed: int = 0) -> None:
        super().__init__(require_trunk(model, "masked patch prediction"))
        if (
            config.mask_probability < 0
            or config.swap_probability < 0
            or config.mask_probability + config.swap_probability > 1
        ):
            raise ConfigError(
                f"objective.mask_probability is {config.mask_probability} and objective.swap_probability {config.swap_probability}; both are shares, and "
                "together at most 1"
            )
        self.config = config
        made = self.model.config
        self.corrupted = count_share(config.corrupted_share, "corrupted_share", made.tokens - made.prefix)
        self.mask_token = nn.Parameter(torch.empty(made.width))
        self.head = declare(nn.Linear(made.width, count_outputs(config, self.model)), weight=HEAD)
        extras = nn.ModuleDict({"head": self.head})
        extras.register_parameter("mask_token", self.mask_token)
        extras.roles = self.roles
        initialise(extras, seed)

    def inputs(self, part: Batch, noise: Float[Tensor, "batch draw token"]) -> tuple[Tensor, ...]:
        """Return the pixels, from which the target colours are computed, and the draws."""
        return part.pixels, noise

    def forward(
        self,
        images: Float[Tensor, "batch channel row col"],
        pixels: Pixels[Tensor, "batch channel row col"],
        noise: Float[Tensor, "batch draw token"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean loss over the corrupted patches, and no other numbers."""
        places = noise[:, 0].argsort(dim=1, stable=True)[:, : self.corrupted]
        z = self.corrupt(self.model.patches(images), places, noise)
        z = self.model.encode(self.model.assemble(z))[:, self.model.config.prefix :]
        predicted = self.head(gather_tokens(z, places)).float()
        patch = Size(*self.model.config.patch)
        if self.config.target == "full":
            return F.mse_loss(predicted, gather_tokens(cut_patches(images.float(), patch), places)), {}
        targets = gather_tokens(quantise_colours(pixels, patch, get_cells(self.config, self.model)), places)
        scores = predicted.unflatten(2, (targets.shape[2], -1))
        return F.cross_entropy(scores.flatten(0, 2), targets.flatten()), {}

    def corrupt(
        self,
        z: Float[Tensor, "batch token dim"],
        places: Int64[Tensor, "batch corrupted"],
        noise: Float[Tensor, "batch draw token"],
    ) -> Float[Tensor, "batch token dim"]:
        """Return patch embeddings, with those at `places` replaced by [mask], by another patch's, or left as they
        are."""
        chance = noise[:, 1].gather(1, places).unsqueeze(2)
        others = gather_tokens(z, draw_other(places, noise[:, 2].gather(1, places), z.shape[1]))
        kept = torch.where(
            chance < self.config.mask_probability + self.config.swap_probability, others, gather_tokens(z, places)
        )
        new = torch.where(chance < self.config.mask_probability, self.mask_token.to(z.dtype), kept)
        return z.scatter(1, places.unsqueeze(2).expand_as(new), new)


def draw_other(
    places: Int64[Tensor, "batch corrupted"], chance: Float[Tensor, "batch corrupted"], patches: int
) -> Int64[Tensor, "batch corrupted"]:
    """Return, for each given patch, another patch, all others being equally likely."""
    other = (chance * (patches - 1)).long()
    return other + (other >= places)


def gather_tokens(values: Tensor, places: Int64[Tensor, "batch chosen"]) -> Tensor:
    """Return values (batch, token, ...) of the chosen tokens."""
    return values.gather(1, places.unsqueeze(2).expand(-1, -1, values.shape[2]))


def get_cells(config: MaskedPatchesConfig, model: ViT) -> Size:
    """Return the rows and columns of the colours that represent a patch."""
    if config.target == "mean":
        return Size(1, 1)
    rows, cols = model.config.patch
    return Size(min(CELLS, rows), min(CELLS, cols))


def count_outputs(config: MaskedPatchesConfig, model: ViT) -> int:
    """Return the number of values predicted for a patch."""
    rows, cols = model.config.patch
    if config.target != "full" and model.config.channels > 3:
        raise ConfigError(
            f"patch colours cover at most 3 channels, but the model sees {model.config.channels}; set "
            "--objective.target full"
        )
    if config.target == "full":
        return model.config.channels * rows * cols
    size = get_cells(config, model)
    return size.rows * size.cols * LEVELS**model.config.channels


def quantise_colours(
    pixels: Pixels[Tensor, "batch channel row col"], patch: Size, size: Size
) -> Int64[Tensor, "batch token cell"]:
    """Return the colours of each patch, reduced to `size` by area averaging, as classes.

    A channel's mean of 0 to 255 becomes one of 8 shades of 32 levels each; red counts most: 64 red + 8 green + blue.
    """
    axes = "batch channel (grid_row row) (grid_col col)"
    patches = rearrange(
        pixels.float(), f"{axes} -> (batch grid_row grid_col) channel row col", row=patch.rows, col=patch.cols
    )
    shades = (F.adaptive_avg_pool2d(patches, tuple(size)) * (LEVELS / 256)).floor()
    shades = shades.clamp_(0, LEVELS - 1).long()  # channels that are kept reach beyond black and white
    number = torch.zeros_like(shades[:, 0])
    for shade in shades.unbind(1):
        number = number * LEVELS + shade
    return number.flatten(1).unflatten(0, (len(pixels), -1))
