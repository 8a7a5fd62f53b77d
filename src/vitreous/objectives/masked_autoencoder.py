"""Masked autoencoder (He et al., 2021, 2111.06377): see a quarter of the patches, predict the rest."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.encoder import build_blocks
from vitreous.model.factory import Model
from vitreous.model.init import initialise
from vitreous.model.parameters import TABLE
from vitreous.model.patches import cut_patches
from vitreous.model.positions.added import build_positions
from vitreous.model.vit import ViT
from vitreous.objectives.base import Objective, count_share, require_trunk
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.shapes import Float, Int64, Size

TARGET_EPS = 1e-6
"""Added to a patch's variance, as in the authors' code."""


class MaskedAutoencoder(Objective):
    """The encoder sees only the visible patches, with their positions; a decoder predicts the pixels of the hidden
    ones.

    `noise[:, 0]` ranks an image's patches; the lowest stay visible.

    Args:
        model: a ViT without a head, whose positions are added at the input.
        config: how much is hidden, and the decoder.
        seed: for the decoder's initial weights.

    Raises:
        ConfigError: a model that has no patches to hide, or whose blocks need to know where patches are; patches of one value,
            normalised.
    """

    labelled = False
    draws = 1
    model: ViT

    def __init__(self, model: Model, config: MaskedAutoencoderConfig, seed: int = 0) -> None:
        super().__init__(require_trunk(model, "a masked autoencoder"))
        made = self.model.config
        if made.rotary.kind != "none" or made.in_attention or made.position_placement != "input":
            raise ConfigError(
                "a masked autoencoder leaves patches out, so positions must be added at the input; "
                "choose --model.positions learned or sincos2d"
            )
        if made.block.attention == "axial":
            raise ConfigError(
                "a masked autoencoder leaves patches out, and axial attention needs whole rows and columns; "
                "choose --model.block.attention full, or --recipe masked-patches"
            )
        if config.normalise_targets and made.channels * made.patch[0] * made.patch[1] == 1:
            raise ConfigError(
                "patches of one grey pixel have no deviation from their own mean, which is what is predicted; choose larger "
                "patches, or give --objective.no-normalise-targets"
            )
        self.config = config
        patches = made.tokens - made.prefix
        self.visible = patches - count_share(config.mask_ratio, "mask_ratio", patches)
        self.decoder = Decoder(made, config)
        initialise(self.decoder, seed)

    def inputs(self, part: Batch, noise: Float[Tensor, "batch draw token"]) -> tuple[Tensor, ...]:
        """Return the draws."""
        return (noise,)

    def forward(
        self, images: Float[Tensor, "batch channel row col"], noise: Float[Tensor, "batch draw token"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean squared error over the hidden patches, and no other numbers."""
        order = noise[:, 0].argsort(dim=1, stable=True)
        model = self.model
        z = model.encode(model.assemble(model.patches(images), order[:, : self.visible]))
        predicted = self.decoder(z, order).float()
        errors = (predicted - self.targets(images)).square().mean(2)
        return errors.gather(1, order[:, self.visible :]).mean(), {}

    def targets(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token value"]:
        """Return the target for each patch: its values, or their deviation from their own mean."""
        patches = cut_patches(images.float(), Size(*self.model.config.patch))
        if not self.config.normalise_targets:
            return patches
        variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
        return (patches - mean) / (variance + TARGET_EPS).sqrt()


class Decoder(nn.Module):
    """A narrower Transformer over all positions: the encoder's output for visible patches, [mask] for the others."""

    roles: ClassVar = {"mask_token": TABLE}

    def __init__(self, model: ViTConfig, config: MaskedAutoencoderConfig) -> None:
        super().__init__()
        made = build_decoder_config(model, config)
        self.prefix = model.prefix
        self.embed = nn.Linear(model.width, made.width)
        self.mask_token = nn.Parameter(torch.empty(made.width))
        self.positions = build_positions(made)
        self.blocks = build_blocks(made)
        self.norm = nn.LayerNorm(made.width, eps=made.norm_eps)
        self.predict = nn.Linear(made.width, model.channels * model.patch[0] * model.patch[1])

    def forward(
        self, z: Float[Tensor, "batch visible dim"], order: Int64[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token value"]:
        """Return the values of every patch, from the visible ones, which `order` lists first."""
        z = self.embed(z)
        prefix, visible = z[:, : self.prefix], z[:, self.prefix :]
        hidden = self.mask_token.to(z.dtype).expand(len(z), order.shape[1] - visible.shape[1], -1)
        ranked = torch.cat([visible, hidden], dim=1)
        places = order.argsort(dim=1).unsqueeze(2).expand_as(ranked)
        z = torch.cat([prefix, ranked.gather(1, places)], dim=1)
        if self.positions is not None:
            z = self.positions(z)
        for block in self.blocks:
            z = block(z)
        return self.predict(self.norm(z))[:, self.prefix :]


def build_decoder_config(model: ViTConfig, config: MaskedAutoencoderConfig) -> ViTConfig:
    """Return the configuration of a decoder for a model: the same sequence, with fixed positions, in plain blocks.

    Raises:
        ConfigError: heads that don't divide the width, or a width that positions can't have.
    """
    try:
        return replace(
            model,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            attention_head_width=0,
            mlp_width=4 * config.decoder_width,
            pool="class" if model.class_token else "mean",
            pool_layers=1,
            pre_logits=False,
            positions="sincos2d-mae",
            positioned_tokens="all",
            position_init="normal",
            init="paper",
            rotary=RotaryConfig(),
            block=BlockConfig(),
        )
    except ConfigError as error:
        raise ConfigError(
            f"the decoder (objective.decoder_width, .decoder_depth, .decoder_heads) can't be built: {error}"
        ) from error
